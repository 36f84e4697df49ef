"""What must not be kept, logged or told."""

import base64
import gc
import json
import weakref

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from ppidm.protocol.messages import Tensor, masked_request, seed_request
from ppidm.protocol.prg import Seed
from ppidm.runtime.service import Service

SHAPE = (7, 16)


def spellings(secret):
    """Ways in which bytes could stand in a text."""
    yield from (secret.hex(), base64.b64encode(secret).decode(), repr(secret)[2:-1], str(list(secret))[1:-1])
    yield from (
        secret.hex(" "),
        secret.hex(":"),
        ascii(secret.decode("latin1"))[1:-1],
        json.dumps(secret.decode("latin1"))[1:-1],
    )


def assert_absent(secret, text):
    for part in (secret[:6], secret[6:12], secret[-6:]):
        for spelling in spellings(part):
            assert spelling not in text


def test_the_log_of_a_request_has_sizes_only(start_server, package, ask):
    seed = Seed.fresh()
    digits = np.random.default_rng().integers(0, 256, (4, *SHAPE), np.uint8)
    with start_server(package.directory) as server:
        answers = [ask(server, "mid.qk", request) for request in (seed_request(seed, SHAPE), masked_request(digits))]
        with pytest.raises(InferenceServerException):
            ask(server, "mid.to_out", [Tensor("seed", "UINT8", (32,), seed.reveal())])
        assert server.stop() == 0
        text = server.log.read_text()
    for secret in (seed.reveal(), digits.tobytes(), *(tensor.content for answer in answers for tensor in answer)):
        assert_absent(secret, text)
    first, second = [event for line in text.splitlines() if (event := json.loads(line))["event"] == "request"]
    assert (first["role"], first["bytes_received"], first["bytes_sent"]) == ("dealer", 48, 4 * 7 * 40)
    assert (second["role"], second["bytes_received"], second["bytes_sent"]) == ("evaluator", 448, 4 * 7 * 40)
    assert (first["slice"], first["input"], first["outputs"]) == ("mid.qk", [7, 16], [[7, 16], [7, 24]])
    assert first["level"] == "debug"
    assert first["milliseconds"] > 0


def test_requests_are_logged_at_debug_only(start_server, package, ask):
    with start_server(package.directory, level="info") as server:
        ask(server, "mid.qk", seed_request(Seed.fresh(), SHAPE))
        server.stop()
        events = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert [event["event"] for event in events] == ["loading", "loaded", "listening", "stopping", "stopped"]
    assert events[1]["slices"] == 3
    assert events[1]["package"] == package.manifest.package
    assert "onnxruntime" in events[1]["engine"]
    assert events[1]["seconds"] > 0


class FineRunner:
    """Remembers its digits weakly."""

    def run(self, digits):
        self.digits = weakref.ref(digits)
        return [np.zeros((7, 5), np.int32)]


def seeds_alive():
    gc.collect()
    return sum(type(thing) is Seed for thing in gc.get_objects())  # isinstance would ask lazy modules of others


def test_seed_and_mask_die_with_the_request(package):
    runner = FineRunner()
    service = Service(package.manifest, {subgraph.name: runner for subgraph in package.manifest.slices}, "fine")
    before = seeds_alive()
    request = seed_request(Seed.fresh(), SHAPE)
    served = service.infer("mid.to_out", request)
    assert (served.role, served.shape) == ("dealer", SHAPE)
    assert runner.digits() is None
    assert seeds_alive() == before
