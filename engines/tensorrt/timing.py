"""What TensorRT measured of its kernels, shared by all slices and builds: slices of one shape are timed once.

TensorRT for RTX measures nothing when it compiles, and its functions for this do nothing.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any

from ppidm.engines.plans import write_whole

if TYPE_CHECKING:
    from pathlib import Path


class Timings:
    """A timing cache. Safe to use from several threads at once.

    Args:
        path: the file that it is kept in; one of another version or GPU is ignored.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, Lock()
        self._content = path.read_bytes() if path.exists() else b""

    def lend(self, config: Any) -> None:  # noqa: ANN401
        """Let a build use what is known."""
        for content in (self._content, b""):
            cache = config.create_timing_cache(content)
            if cache is not None and config.set_timing_cache(cache, False):  # noqa: FBT003  (False: of this machine only)
                return

    def keep(self, config: Any) -> None:  # noqa: ANN401
        """Learn what a build measured, and write it down."""
        with self._lock:
            learned = config.get_timing_cache()
            known = config.create_timing_cache(self._content)
            if known is not None:
                learned.combine(known, True)  # noqa: FBT003  (True: what does not fit is left out)
            self._content = bytes(learned.serialize())
            write_whole(self._path, [self._content])
