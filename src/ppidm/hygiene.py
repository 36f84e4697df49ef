"""Keeps what a process holds in memory (prompts, seeds, activations) out of core dumps.

The command line calls it first of all. As a library ppidm changes nothing of its process.
"""

from __future__ import annotations

import ctypes
import sys

_PR_SET_DUMPABLE = 4  # linux/prctl.h


def forbid_core_dumps() -> None:
    """Let this process and its children dump no core; on Linux, let no other process of the same user read its memory.

    Where the operating system has no such limit (Windows), nothing happens. The Linux flag also covers dumps that go to a
    program (`kernel.core_pattern` with a pipe), which ignore the limit; children that run another program do not inherit it.
    """
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415  (Unix only)

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
