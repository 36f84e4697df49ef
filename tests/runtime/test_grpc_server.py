"""The transport in this process, with runners that are not ONNX Runtime."""

import json
import logging
import socket
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from ppidm.protocol.address import Address
from ppidm.protocol.errors import InputError
from ppidm.protocol.messages import masked_request
from ppidm.runtime.grpc_server import running
from ppidm.runtime.log import make_logger
from ppidm.runtime.service import Service

ANY_PORT = Address("127.0.0.1", 0)
DIGITS = np.random.default_rng(6).integers(0, 256, (4, 7, 16), np.uint8)


@pytest.fixture
def serving(package):
    """A context manager: every slice of the package is served by one runner."""

    @contextmanager
    def serving(runner, address=ANY_PORT, level="info"):
        runners = {subgraph.name: runner for subgraph in package.manifest.slices}
        with running(Service(package.manifest, runners, "test"), address, 1, make_logger(level)) as bound:
            yield SimpleNamespace(address=str(bound))

    return serving


def events(capsys):
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


class FineRunner:
    """Answers zeros."""

    def run(self, digits):
        return [np.zeros((digits.shape[1], 5), np.int32)]


class BrokenRunner:
    """Fails with a message that quotes what it was given."""

    def run(self, digits):
        raise RuntimeError(digits.tobytes().hex())


def test_an_unexpected_exception_is_told_without_its_message(serving, ask, capsys):
    with serving(BrokenRunner(), level="debug") as server, pytest.raises(InferenceServerException) as error:
        ask(server, "mid.qk", masked_request(DIGITS))
    assert error.value.status() == "StatusCode.INTERNAL"
    assert error.value.message() == "the server failed (RuntimeError); see its operator's log"
    [event] = events(capsys)
    assert (event["event"], event["error"], event["level"]) == ("request failed", "RuntimeError", "error")
    assert "raise RuntimeError" in event["traceback"][-1]
    assert DIGITS.tobytes()[:4].hex() not in json.dumps(event)


def test_a_taken_port_is_an_error_of_the_transport_too(serving, evaluator):
    port = int(evaluator.address.split(":")[1])
    with pytest.raises(InputError, match="cannot listen"), serving(FineRunner(), Address("127.0.0.1", port)):
        pass


def test_ipv6(serving, ask):
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with serving(FineRunner(), Address("::1", 0)) as server:
        assert server.address.startswith("[::1]:")
        [answer] = ask(server, "mid.to_out", masked_request(DIGITS))
    assert answer.shape == (7, 5)


def test_what_grpc_logs_becomes_one_event(serving, capsys):
    library = logging.getLogger("grpc._server")
    with serving(FineRunner()):
        library.warning("careful, %d", 5)
        library.error("failed: %s", "00ff00ff", exc_info=ValueError("00ff00ff"))
    first, second = events(capsys)
    assert (first["event"], first["library"], first["level"]) == ("library", "grpc._server", "warning")
    assert first["text"] == "careful, 5"
    assert (second["level"], second["error"]) == ("error", "ValueError")
    assert "00ff00ff" not in json.dumps(second)
