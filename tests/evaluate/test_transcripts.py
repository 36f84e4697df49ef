"""The recorder keeps an evaluator's message and the seed of the same request together, with requests in flight at once."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tools.evaluate.transcripts import Recorder

from ppidm.client.servers import Servers
from ppidm.protocol.masks import Mask
from ppidm.protocol.messages import Tensor
from ppidm.protocol.ring import Ring
from ppidm.protocol.run import ask

RING = Ring(32)


class FakeServer:
    role = "fake"

    def ask(self, _name, _tensors):
        return lambda: [Tensor("answer_0", "INT32", (2,), bytes(8))]


def send(servers, name, x):
    transcript = ask(RING, x, Mask.fresh(RING, x.shape, 1))
    for answer in [s.ask(name, request) for s, request in zip(servers.all, transcript.requests, strict=True)]:
        answer()


@pytest.fixture
def recorder():
    return Recorder(RING)


def test_both_messages_of_a_request_give_x(recorder):
    servers = recorder.around(Servers(FakeServer(), (FakeServer(),)))
    activations = [np.random.default_rng(i).integers(-999, 999, (5, 7)) for i in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda pair: send(servers, f"slice {pair[0] % 3}", pair[1]), enumerate(activations)))
    assert recorder.counts() == {f"slice {i}": 8 for i in range(3)}
    found = {recorder.take(f"slice {i}", j).encoded.tobytes() for i in range(3) for j in range(8)}
    assert found == {x.tobytes() for x in activations}


def test_sizes_are_those_of_the_messages_in_a_fixed_order(recorder):
    servers = recorder.around(Servers(FakeServer(), (FakeServer(),)))
    for name in ("b", "a", "b"):
        send(servers, name, np.zeros((5, 7), np.int64))
    assert recorder.lengths().tolist() == [2, 8, 140, 4, 8, 8, 140, 140]
    recorder.clear()
    assert recorder.counts() == {}
    assert recorder.lengths().size == 0


def test_a_recorded_server_is_the_server_otherwise(recorder):
    server = FakeServer()
    assert recorder.around(Servers(server, (server,))).evaluator.role == "fake"
