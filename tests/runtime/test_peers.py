"""Which servers a server relays with."""

from threading import Event
from types import SimpleNamespace

import grpc
import pytest

from ppidm.protocol.address import parse_address
from ppidm.protocol.errors import InputError
from ppidm.protocol.relay_messages import ConnectRelay
from ppidm.runtime.outbox import Outbox
from ppidm.runtime.peers import AllowedPeers, host_of

PIN, OTHER = "ab" * 32, "cd" * 32
ELSEWHERE = "192.0.2.7:8001"


@pytest.mark.parametrize("entry", ["", "192.0.2.7", "AB" * 32, "ab" * 31, "host:99999"])
def test_entries_are_addresses_or_fingerprints(entry):
    with pytest.raises(InputError):
        AllowedPeers((entry,))


@pytest.mark.parametrize("pin", [None, PIN])
@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:1", "localhost:1"])
def test_loopback_is_allowed(address, pin):
    AllowedPeers().require_outgoing(parse_address(address), pin)


@pytest.mark.parametrize(
    ("entries", "pin", "allowed"),
    [
        ((), PIN, False),
        ((PIN,), PIN, True),
        ((ELSEWHERE,), PIN, True),
        ((OTHER, "192.0.2.7:8002"), PIN, False),
        ((PIN, ELSEWHERE), None, False),  # without a pin there is no TLS
    ],
)
def test_elsewhere_needs_a_pin_and_the_operators_word(entries, pin, allowed):
    peers = AllowedPeers(entries)
    if allowed:
        peers.require_outgoing(parse_address(ELSEWHERE), pin)
    else:
        with pytest.raises(InputError, match="--allow-peer"):
            peers.require_outgoing(parse_address(ELSEWHERE), pin)


@pytest.mark.parametrize(
    ("entries", "host", "fingerprint", "allowed"),
    [
        ((), "127.0.0.1", None, True),
        ((), "::1", None, True),
        ((), "::", None, False),
        (("localhost.:8001",), "192.0.2.7", None, False),
        (("no-such-host.invalid:1",), "192.0.2.7", None, False),
        ((), "192.0.2.7", None, False),
        ((ELSEWHERE,), "192.0.2.7", None, True),
        ((ELSEWHERE,), "192.0.2.8", None, False),
        ((PIN,), "192.0.2.8", PIN, True),
        ((PIN,), "192.0.2.8", OTHER, False),
        ((PIN,), "192.0.2.8", None, False),
    ],
)
def test_streams_that_are_taken(entries, host, fingerprint, allowed):
    assert AllowedPeers(entries).allows_incoming(host, fingerprint) is allowed


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:127.0.0.1:5000", "127.0.0.1"),
        ("ipv6:%5B::1%5D:5000", "::1"),
        ("ipv6:[2001:db8::7]:5000", "2001:db8::7"),
        ("ipv6:%5B::ffff:192.0.2.7%5D:5000", "192.0.2.7"),
        ("unix:", ""),
    ],
)
def test_where_a_stream_comes_from(peer, host):
    assert host_of(peer) == host


class Stream:
    """What gRPC gives for a call: it tells when it has ended."""

    def add_done_callback(self, callback):
        self.ended = callback

    def code(self):
        return grpc.StatusCode.CANCELLED

    def details(self):
        return "the session is over"

    def cancel(self):
        pass


class Channel:
    def __init__(self):
        self.stream, self.closed = Stream(), Event()

    def stream_unary(self, _method):
        return SimpleNamespace(future=lambda _messages, metadata: self.stream)  # noqa: ARG005

    def close(self):
        self.closed.set()


def test_a_dealer_lets_go_of_the_evaluator_when_the_session_ends():
    """Its connection too, though nobody asks for another session."""
    channel = Channel()
    outbox = Outbox(channel, ConnectRelay(bytes(16), "127.0.0.1:1", None, bytes(32)), "client")
    assert not channel.closed.is_set()
    channel.stream.ended(channel.stream)
    assert channel.closed.wait(10)
    assert outbox.has_ended
