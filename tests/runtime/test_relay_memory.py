"""An evaluator whose dealer runs ahead of a client that stalls: resident memory, and the ends of all that."""

from __future__ import annotations

import sys
import time
from hashlib import sha256
from threading import Event

import grpc
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tritonclient.grpc import service_pb2 as pb
from victims import OPTIONS, Victim, call, content_of, eventually

from ppidm.protocol import relay_messages as messages
from ppidm.protocol.messages import Tensor, masked_request
from ppidm.protocol.relay import sign_share

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
MIB = 1 << 20
MEMORY, SECONDS = 256 * MIB, 4
WINDOW = MEMORY // 32
SIZE = MIB  # of a share
SESSION, TOKEN, KEY = b"s" * 16, b"t" * 32, Ed25519PrivateKey.generate()
OPENED = messages.OpenRelay(SESSION, (sha256(TOKEN).digest(),), (KEY.public_key().public_bytes_raw(),))
METADATA = (("authorization", f"Bearer {TOKEN.hex()}"), (messages.SESSION_METADATA, SESSION.hex()))


@pytest.fixture
def server(start_server, package):
    with start_server(package.directory, level="info", memory=MEMORY, seconds=SECONDS) as server:
        yield server


def relay(server, method, tensors):
    content = content_of("", tensors)
    answer = call(server.address, f"/{messages.SERVICE}/{method}", content)
    return answer if isinstance(answer, str) else pb.ModelInferResponse.FromString(answer)


class Dealer:
    """Sends shares as fast as it can."""

    def __init__(self, server, shares=200):
        self.sent, self.stopped, self._shares = 0, Event(), shares
        self._channel = grpc.insecure_channel(server.address, OPTIONS)
        stream = self._channel.stream_unary(f"/{messages.SERVICE}/{messages.STREAM}")
        self.call = stream.future(self._messages(), metadata=METADATA)

    def _messages(self):
        content = bytes(SIZE)
        for ticket in range(1, self._shares + 1):
            tensors = (Tensor("relayed_0", "UINT8", (SIZE,), content),)
            share = sign_share(KEY, SESSION, "mid.to_out", ticket, tensors)
            yield content_of("mid.to_out", messages.share_tensors(share))
            self.sent += 1
        self.stopped.wait(30)

    def close(self):
        self.stopped.set()
        self._channel.close()


@pytest.fixture
def dealer(server):
    assert isinstance(relay(server, messages.OPEN, messages.open_request(OPENED)), pb.ModelInferResponse)
    dealer = Dealer(server)
    yield dealer
    dealer.close()


def settled(dealer):
    """How many shares were taken, once no more are."""
    before = -1
    while before != dealer.sent:
        before = dealer.sent
        time.sleep(0.7)
    return before


def test_a_dealer_that_runs_ahead_of_a_client_that_stalls(server, dealer):
    victim = Victim(server)
    taken = settled(dealer)
    assert 2 <= taken <= WINDOW // SIZE + 2  # two more are on their way
    assert victim.peak < 4 * WINDOW + 64 * MIB
    eventually(dealer.call.done, 3 * SECONDS)  # the client has not been heard of: the session is over
    assert dealer.call.code() is grpc.StatusCode.CANCELLED
    eventually(lambda: victim.growth < WINDOW + 32 * MIB)
    assert relay(server, messages.SHOW, messages.show_request(SESSION, 1, 0)) == "FAILED_PRECONDITION"


def test_a_client_that_dies_while_its_request_waits(server, dealer):
    """Its connection breaks and nothing more comes: the request is forgotten, and then all that the dealer sent."""
    victim = Victim(server)
    settled(dealer)
    request = [*masked_request(bytes_of_digits()), *messages.place_tensors(messages.Place(SESSION, 10_000))]
    with grpc.insecure_channel(server.address, OPTIONS) as channel:
        pending = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer").future(
            content_of("mid.to_out", request)
        )
        time.sleep(0.5)
        assert not pending.done()
    eventually(dealer.call.done, 3 * SECONDS)
    assert victim.peak < 4 * WINDOW + 64 * MIB
    eventually(lambda: victim.growth < WINDOW + 32 * MIB)
    assert isinstance(relay(server, messages.OPEN, messages.open_request(OPENED)), pb.ModelInferResponse)


def test_released_tickets_let_the_dealer_go_on(server, dealer):
    taken = settled(dealer)
    place = messages.Place(SESSION, 10_000, tuple(range(1, 4)))
    request = [*masked_request(bytes_of_digits()), *messages.place_tensors(place)]
    waiting = grpc.insecure_channel(server.address, OPTIONS)
    pending = waiting.unary_unary("/inference.GRPCInferenceService/ModelInfer").future(
        content_of("mid.to_out", request)
    )
    eventually(lambda: dealer.sent >= taken + 3, SECONDS)
    dealer.close()  # dies: what waits for its share is told
    assert pending.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "the dealer's stream has ended" in pending.details()
    waiting.close()


def bytes_of_digits():
    return np.full((4, 7, 16), 128, np.uint8)


def test_a_share_of_another_shape_is_told(server, dealer):
    settled(dealer)
    request = [*masked_request(bytes_of_digits()), *messages.place_tensors(messages.Place(SESSION, 1))]
    answer = call(server.address, "/inference.GRPCInferenceService/ModelInfer", content_of("mid.to_out", request))
    assert answer == "INVALID_ARGUMENT"
    shown = relay(server, messages.SHOW, messages.show_request(SESSION, 2, 0))
    assert [output.name for output in shown.outputs] == ["ticket", "signature", "relayed_0"]


def test_the_client_closes_and_everything_is_gone(server, dealer):
    victim = Victim(server)
    settled(dealer)
    assert isinstance(relay(server, messages.CLOSE, messages.close_request(SESSION)), pb.ModelInferResponse)
    eventually(dealer.call.done)
    eventually(lambda: victim.growth < 32 * MIB)
    assert isinstance(relay(server, messages.OPEN, messages.open_request(OPENED)), pb.ModelInferResponse)


def test_a_stream_needs_its_token(server):
    relay(server, messages.OPEN, messages.open_request(OPENED))
    for metadata in [(), METADATA[:1], METADATA[1:], (("authorization", f"Bearer {'00' * 32}"), METADATA[1])]:
        with grpc.insecure_channel(server.address, OPTIONS) as channel:
            stream = channel.stream_unary(f"/{messages.SERVICE}/{messages.STREAM}").future(
                iter([b"x"]), metadata=metadata
            )
            assert stream.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_a_stream_of_garbage_ends(server):
    relay(server, messages.OPEN, messages.open_request(OPENED))
    with grpc.insecure_channel(server.address, OPTIONS) as channel:
        stream = channel.stream_unary(f"/{messages.SERVICE}/{messages.STREAM}")
        assert stream.future(iter([b"\xff" * 100]), metadata=METADATA).code() is grpc.StatusCode.INVALID_ARGUMENT
        assert stream.future(iter([b""]), metadata=METADATA).code() is grpc.StatusCode.FAILED_PRECONDITION  # used


@pytest.mark.parametrize("peer", ["192.0.2.1:8001", "example.org:443"])
def test_a_dealer_connects_to_nobody_else(server, peer):
    for pin in (None, "ab" * 32):
        connect = messages.ConnectRelay(SESSION, peer, pin, TOKEN)
        assert relay(server, messages.CONNECT, messages.connect_request(connect)) == "INVALID_ARGUMENT"
