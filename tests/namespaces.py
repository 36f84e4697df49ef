"""Network namespaces: machines of their own, as far as the network is concerned, with a wire between each two."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PREFIX = 24


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def why_not() -> str | None:
    """Why this machine cannot make namespaces; None if it can."""
    if shutil.which("ip") is None:
        return "no `ip` here (package iproute2)"
    if os.geteuid() != 0:
        return "network namespaces need root"
    try:
        with machines("probe", "probe-2"):
            ip("netns", "exec", name_of("probe"), "true")
    except subprocess.CalledProcessError as error:
        return f"`ip` cannot make network namespaces here: {error.stderr.strip()}"
    return None


def name_of(machine: str) -> str:
    return f"ppidm-{os.getpid()}-{machine}"


@contextmanager
def machines(*names: str) -> Iterator[None]:
    """Namespaces in a row, each with a wire to the next one: the n-th wire is 192.0.n.1 to 192.0.n.2 (n from 2)."""
    with ExitStack() as stack:
        for name in names:
            ip("netns", "add", name_of(name))
            stack.callback(ip, "netns", "delete", name_of(name))  # its wires go with it
            ip("-n", name_of(name), "link", "set", "lo", "up")
        for number, (left, right) in enumerate(pairwise(names), 2):
            connect(number, left, right)
        yield


def connect(number: int, left: str, right: str) -> None:
    ip("-n", name_of(left), "link", "add", f"to-{number}", "type", "veth", "peer", "name", f"from-{number}", "netns",
       name_of(right))  # fmt: skip
    for side, (machine, device) in enumerate(((left, f"to-{number}"), (right, f"from-{number}")), 1):
        ip("-n", name_of(machine), "address", "add", f"192.0.{number}.{side}/{PREFIX}", "dev", device)
        ip("-n", name_of(machine), "link", "set", device, "up")


@contextmanager
def process(machine: str, ready: str, *command: object) -> Iterator[subprocess.Popen[str]]:
    """A Python process on one of the machines, once it has printed `ready`."""
    running = subprocess.Popen(
        on(machine, [sys.executable, *command]), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline().startswith(ready), running.communicate()
            yield running
        finally:
            running.terminate()


def on(machine: str, command: Sequence[object]) -> list[str]:
    """The command that runs `command` there."""
    return ["ip", "netns", "exec", name_of(machine), *map(str, command)]
