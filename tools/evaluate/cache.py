"""Arrays on disk: a file is there when it is complete, so that a stopped evaluation goes on where it stopped."""

from __future__ import annotations

import os
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

_SECONDS = "seconds"


class Cache:
    """A folder of .npz files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, name: str) -> Path:
        """Where `name` is, or will be."""
        return self._folder / f"{name}.npz"

    def has(self, name: str) -> bool:
        """Whether it was made."""
        return self.path(name).exists()

    def store(self, name: str, arrays: Arrays) -> None:
        """Write under another name first."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.stem}.{os.getpid()}.partial")
        with partial.open("wb") as file:
            np.savez(file, **dict(arrays))  # type: ignore[arg-type]
        partial.replace(path)

    def load(self, name: str, *keys: str) -> dict[str, NDArray[Any]]:
        """Some arrays of `name`, or all."""
        with np.load(self.path(name)) as stored:
            return {key: stored[key] for key in keys or stored.files}

    def get(self, name: str, make: Callable[[], Arrays]) -> dict[str, NDArray[Any]]:
        """What was stored, or what `make` makes, which is then stored."""
        if not self.has(name):
            self.store(name, make())
        return self.load(name)

    def stack(self, names: list[str], key: str) -> NDArray[Any]:
        """One array of every file, along a new first axis."""
        return np.stack([self.load(name, key)[key] for name in names])

    @contextmanager
    def sitting(self) -> Iterator[Callable[[], float]]:
        """Yields a function: seconds so far, with those of earlier sittings, stopped ones too."""
        start, earlier = perf_counter(), float(self.load(_SECONDS, _SECONDS)[_SECONDS]) if self.has(_SECONDS) else 0.0
        try:
            yield lambda: earlier + perf_counter() - start
        finally:
            self.store(_SECONDS, {_SECONDS: np.array(earlier + perf_counter() - start)})
