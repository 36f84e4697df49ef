"""Anybody who reaches the port sends malformed requests: noise, HTTP/2 frames that lie about their length, enormous shapes.

Has: a way to the port of a real `ppidm serve`. Tries: to crash it, to hang it, to fill its memory; afterwards it must still answer
a good request bit for bit. Weak build: a server that reserves what a frame says it holds, under a limit of memory.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import whole_model
from verdict import FAILS, Size, Verdict

sys.path.append(str(Path(__file__).resolve().parents[1] / "fuzz"))

from frames import Attacker
from victim import running_victim

EXPECTED = FAILS
MOST_MIB = 1024  # more than a third of it is the interpreter with numpy, gRPC and ONNX Runtime
WEAK_SERVER = """
import resource, socket
resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
with socket.create_server(("127.0.0.1", 0)) as server:
    print(server.getsockname()[1], flush=True)
    while True:
        link, _ = server.accept()
        with link:
            length = int.from_bytes(link.recv(4), "big")
            link.recv_into(bytearray(length))
"""


def run(size: Size) -> Verdict:
    """Requests to every method, and streams to the port."""
    with TemporaryDirectory() as folder, running_victim(whole_model.package() / "server-0", Path(folder)) as victim:
        attacker = Attacker(victim, np.random.default_rng(16))
        before = victim.peak_mib()
        attacker.call_methods(calls := size.pick(150, 10_000))
        attacker.write_streams(streams := size.pick(20, 500))
        alive, grown = victim.answers_right(), victim.peak_mib() - before
        faults = victim.log.read_text().count('"request failed"')
    number = (
        f"{calls + streams:,} malformed, {attacker.hangs} hangs, {faults} faults, {grown:.0f} MiB more, answers right "
        "afterwards; a server that believes lengths dies of the first"
    )
    broken = not alive or attacker.hangs > 0 or faults > 0 or grown > MOST_MIB
    return Verdict(broken, number, weak_server_dies())


def weak_server_dies() -> bool:
    """One frame of four bytes, to the weak build."""
    with subprocess.Popen(
        [sys.executable, "-c", WEAK_SERVER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with socket.create_connection(("127.0.0.1", port)) as link:
            link.sendall(b"\xff\xff\xff\xff")
        try:
            return process.wait(20) != 0
        except subprocess.TimeoutExpired:
            process.kill()
            return False
