"""Servers of a package as processes of this machine, for the demo and the benchmarks."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

READY = "listening on "


class LocalServer(NamedTuple):
    """A running server."""

    address: str
    pid: int


@contextmanager
def local_servers(package: Path, count: int = 2, options: Sequence[str] = ()) -> Iterator[list[str]]:
    """`ppidm serve` with `options` for the first `count` server directories of `package`; yields their addresses."""
    with local_processes([package / f"server-{index}" for index in range(count)], options) as servers:
        yield [server.address for server in servers]


@contextmanager
def local_processes(directories: Sequence[Path], options: Sequence[str] = ()) -> Iterator[list[LocalServer]]:
    """The same for any server directories; yields the servers, for who measures their processes."""
    with ExitStack() as stack:
        yield [stack.enter_context(_server(directory, options)) for directory in directories]


@contextmanager
def _server(directory: Path, options: Sequence[str]) -> Iterator[LocalServer]:
    command = [
        sys.executable,
        "-m",
        "ppidm",
        "serve",
        str(directory),
        "--listen",
        "127.0.0.1:0",
        "--log-level",
        "warning",
        *options,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith(READY):
            raise SystemExit(f"{directory}: the server ended with status {process.wait()}; its message is above")
        try:
            yield LocalServer(line.removeprefix(READY).strip(), process.pid)
        finally:
            process.terminate()
            process.wait()
