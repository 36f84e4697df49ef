"""Processes that hold secrets leave no core dump, whatever the limits of the shell are."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

if not sys.platform.startswith("linux"):
    pytest.skip("reads /proc", allow_module_level=True)

import resource

HARD = resource.getrlimit(resource.RLIMIT_CORE)[1]
pytestmark = pytest.mark.skipif(
    HARD == 0, reason="core dumps are forbidden here altogether, so the test could not fail"
)
NOTHING = "import time\nprint('listening on', flush=True)\ntime.sleep(60)\n"


def allow_core_dumps() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (HARD, HARD))


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=allow_core_dumps,  # noqa: PLW1509  (it takes no lock),
    )


def core_limit(process: subprocess.Popen[str]) -> str:
    """What a running process may dump."""
    lines = Path(f"/proc/{process.pid}/limits").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("Max core file size")]
    return line.split()[4]


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_server(package):
    process = start("-m", "ppidm", "serve", str(package / "server-0"), "--listen", "127.0.0.1:0")
    try:
        assert process.stdout.readline().startswith("listening on ")
        assert core_limit(process) == "0"
    finally:
        end(process)


def test_a_client(package):
    """Looked at while it waits for a server that never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        process = start(
            "-m", "ppidm", "generate", str(package / "client"), "x", "--evaluator", address, "--dealer", "127.0.0.1:1"
        )
        try:
            link, _ = server.accept()
            with link:
                assert core_limit(process) == "0"
        finally:
            end(process)


def test_other_processes_keep_theirs():
    """The control: without ppidm the same start allows core dumps."""
    process = start("-c", NOTHING)
    try:
        process.stdout.readline()
        assert core_limit(process) != "0"
    finally:
        end(process)


def test_the_memory_of_a_process_is_closed_to_others():
    """PR_GET_DUMPABLE is 0 after the call and 1 before."""
    script = (
        "import ctypes\nfrom ppidm.hygiene import forbid_core_dumps\nget = lambda: ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)\n"
        "before = get()\nforbid_core_dumps()\nprint(before, get())\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["1", "0"]
