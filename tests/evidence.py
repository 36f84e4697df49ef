"""Servers at debug level with recorders in the middle, and all that a run leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from canaries import files_below
from recorder import recording

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from recorder import Recorder

ROLES = ("evaluator", "dealer")
MAIN = "from ppidm.cli import main\nmain()\n"


@dataclass
class Evidence:
    """Place -> content: output, logs, files, and what crossed the wire."""

    content: dict[str, bytes] = field(default_factory=dict)

    def add_traffic(self, recorders: list[Recorder]) -> None:
        """Both directions of every link."""
        for role, recorder in zip(ROLES, recorders, strict=True):
            self.content |= {f"to {role}": bytes(recorder.sent), f"from {role}": bytes(recorder.received)}


@contextmanager
def debugged_server(package: Path, index: int, folder: Path) -> Iterator[str]:
    """A server process; its log, HOME and TMPDIR are in `folder`."""
    command = [sys.executable, "-m", "ppidm", "serve", str(package / f"server-{index}"), "--listen", "127.0.0.1:0"]
    with (
        (folder / f"server-{index}.log").open("wb") as log,
        subprocess.Popen(
            [*command, "--log-level", "debug"], stdout=subprocess.PIPE, stderr=log, env=environment(folder)
        ) as process,
    ):
        assert process.stdout is not None
        try:
            line = process.stdout.readline().decode()
            assert line.startswith("listening on "), line
            yield line.removeprefix("listening on ").strip()
        finally:
            process.terminate()
            process.wait(30)


@contextmanager
def recorded_servers(package: Path, folder: Path) -> Iterator[list[Recorder]]:
    """Two of them, each behind a recorder."""
    with ExitStack() as stack:
        targets = [stack.enter_context(debugged_server(package, index, folder)) for index in range(2)]
        yield stack.enter_context(recording(*targets))


def environment(folder: Path) -> dict[str, str]:
    """With HOME and TMPDIR in `folder`."""
    for name in ("home", "tmp"):
        (folder / name).mkdir(exist_ok=True)
    unset = {"XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"}
    kept = {name: value for name, value in os.environ.items() if name not in unset}
    return kept | {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp")}


def generate(package: Path, folder: Path, arguments: list[str], prelude: str = "") -> Evidence:
    """Run `ppidm generate` with fresh HOME, TMPDIR and working directory, and collect everything."""
    (folder / "out").mkdir(parents=True)
    found = Evidence()
    with recorded_servers(package, folder) as recorders:
        addresses = ["--evaluator", recorders[0].address, "--dealer", recorders[1].address]
        command = [sys.executable, "-c", prelude + MAIN, "generate", str(package / "client"), *arguments, *addresses]
        run = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, check=False)
        assert run.returncode == 0, run.stderr.decode()
    found.content = {"stdout": run.stdout, "stderr": run.stderr}
    found.add_traffic(recorders)
    found.content |= files_below(folder)
    return found
