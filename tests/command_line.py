"""Runs the command line: in this process, which saves a second, or in one of its own; and servers."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO

import pytest
from conftest import ServerProcess

from ppidm.cli import main

WIDE = {"COLUMNS": "500", "TERM": "dumb"}  # boxes of typer break no message


@dataclass(frozen=True)
class Finished:
    status: int
    out: str
    err: str


def ppidm(*arguments, **settings):
    """`ppidm ARGUMENTS` with PPIDM_<name> of `settings`."""
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        patch.setattr(sys, "argv", ["ppidm", *map(str, arguments)])
        for name in set(os.environ) - set(environment := clean_environment(settings)):
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        with pytest.raises(SystemExit) as exit_info:
            main()
    return Finished(exit_info.value.code or 0, out.getvalue(), err.getvalue())


def refused(*arguments, status=2, **settings):
    """The error, one line, of a call that must fail."""
    shown = ppidm(*arguments, **settings)
    assert (shown.status, shown.out) == (status, "")
    lines = [line for line in shown.err.splitlines() if not line.startswith("{")]  # a server's log
    assert len(lines) == 1, shown.err
    return lines[0]


def start_ppidm(*arguments, **settings):
    """The same as a process; every warning is an error there."""
    command = [sys.executable, "-W", "error", "-m", "ppidm", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_environment(settings)
    )


def run_ppidm(*arguments, timeout=120, **settings):
    """Start it and wait for its end."""
    with start_ppidm(*arguments, **settings) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            process.kill()
    return Finished(process.returncode, out, err)


def clean_environment(settings):
    ours = {f"PPIDM_{name}": str(value) for name, value in settings.items()}
    return {name: value for name, value in os.environ.items() if not name.startswith("PPIDM_")} | WIDE | ours


@contextmanager
def serving(directory):
    """A server of one test's own, which may kill its `process`."""
    server = ServerProcess.start(directory)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait()
        server.process.stdout.close()
