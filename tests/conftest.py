"""What the tests share: the shipped model's package, and real servers of it."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import ppidm  # noqa: F401  (before any test imports gRPC: it rules out TLS 1.2)
from ppidm.export.package import export_package
from ppidm.export.settings import ExportSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

# A test run in the background of a shell ignores SIGINT, and so would the processes that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "models" / "default"


@dataclass
class ServerProcess:
    """A running `ppidm serve`."""

    process: subprocess.Popen[str]
    address: str

    @classmethod
    def start(cls, directory: Path, *options: str) -> ServerProcess:
        """Start it on a free port, and wait until it is ready."""
        command = [sys.executable, "-m", "ppidm", "serve", str(directory), "--listen", "127.0.0.1:0", *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening on "), (line, process.poll())
        return cls(process, line.removeprefix("listening on ").strip())

    def stop(self) -> int:
        """End it gracefully; returns its exit status."""
        self.process.terminate()
        status = self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`ppidm export models/default`: the folder with client, check, server-0, server-1. Do not change it."""
    out = tmp_path_factory.mktemp("export") / "package"
    export_package(ExportSettings(str(MODEL), out))
    return out


@pytest.fixture(scope="session")
def servers(package: Path) -> Iterator[list[str]]:
    """Addresses of three servers of `package`, shared by all tests: do not stop them."""
    running = [ServerProcess.start(package / f"server-{index % 2}") for index in range(3)]
    yield [server.address for server in running]
    assert [server.stop() for server in running] == [0, 0, 0]
