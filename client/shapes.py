"""A second lock on what sizes give away: within a call, a slice is asked for one shape only.

The first lock is `engines.onnx_guard`: no segment of a package can make a shape of a value. If one did all the same, the
call ends before a message of another size is sent.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from ppidm.protocol.errors import PackageError

if TYPE_CHECKING:
    from ppidm.protocol.linear import Shape


class ShapeRecord:
    """The input shape of every slice of one call. Safe to use from several threads at once."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._shapes: dict[str, Shape] = {}

    def require_unchanged(self, name: str, shape: Shape) -> None:
        """Remember the shape of slice `name`, or compare it with what is remembered.

        Raises:
            PackageError: it has changed.
        """
        with self._lock:
            first = self._shapes.setdefault(name, shape)
        if shape != first:
            raise PackageError(
                f"slice {name} got an input of shape {shape} after one of shape {first} in the same call; sizes would tell "
                "servers about the picture. Nothing of it was sent; do not use this package"
            )
