"""Server processes that serve a small package."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from tiny_package import build_package
from tritonclient import grpc as triton

from ppidm.protocol.messages import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TIMEOUT = 30  # seconds that a server process may take to stop
SERVE = """
import json
import sys
from pathlib import Path
from ppidm.protocol.address import parse_address
from ppidm.runtime.limits import Limits
from ppidm.runtime.server import ServeSettings, serve
limits = Limits(**json.loads(sys.argv[4]))
serve(ServeSettings(Path(sys.argv[1]), parse_address(sys.argv[2]), log_level=sys.argv[3], limits=limits))
"""


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    return build_package(tmp_path_factory.mktemp("package") / "server-0")


@pytest.fixture
def own_package(tmp_path):
    """A package that a test may damage."""
    return build_package(tmp_path / "server-0")


@dataclass
class ServerProcess:
    process: subprocess.Popen[str]
    address: str
    log: Path

    def stop(self, number=signal.SIGTERM):
        """Signal it; returns its exit status."""
        self.process.send_signal(number)
        return self.process.wait(TIMEOUT)


@pytest.fixture(scope="session")
def start_server(tmp_path_factory):
    """A context manager: a server process that listens."""

    @contextmanager
    def start(directory, *, prelude="", level="debug", **limits) -> Iterator[ServerProcess]:
        log = tmp_path_factory.mktemp("log") / "stderr"
        command = [sys.executable, "-W", "error", "-c", prelude + SERVE, str(directory), "127.0.0.1:0", level]
        command.append(json.dumps(limits))
        with (
            log.open("w") as stderr,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
        ):
            try:
                line = process.stdout.readline()
                assert line.startswith("listening on 127.0.0.1:"), log.read_text()
                yield ServerProcess(process, line.removeprefix("listening on ").strip(), log)
            finally:
                process.kill()

    return start


@pytest.fixture(scope="session")
def evaluator(start_server, package):
    with start_server(package.directory) as server:
        yield server


@pytest.fixture(scope="session")
def dealer(start_server, package):
    with start_server(package.directory) as server:
        yield server


@pytest.fixture(scope="session")
def connect():
    """A context manager: Triton's own client of a server."""

    @contextmanager
    def connect(server):
        client = triton.InferenceServerClient(server.address)
        try:
            yield client
        finally:
            client.close()

    return connect


@pytest.fixture(scope="session")
def ask(connect):
    """Send tensors to a server with Triton's own client; returns the tensors of its answer."""

    def ask(server, name, tensors, **options):
        with connect(server) as client:
            return answer_of(client.infer(name, [triton_input(tensor) for tensor in tensors], **options))

    return ask


def triton_input(tensor):
    result = triton.InferInput(tensor.name, tensor.shape, tensor.datatype)
    result.set_data_from_numpy(tensor.array(tensor.datatype))
    return result


def answer_of(result):
    response = result.get_response()
    pairs = zip(response.outputs, response.raw_output_contents, strict=True)
    return [Tensor(output.name, output.datatype, tuple(output.shape), content) for output, content in pairs]
