"""The interface of engines: load a slice, run it on digits, say what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from ppidm.protocol.records import Subgraph
    from ppidm.protocol.ring import Digits


class Runner(Protocol):
    """A loaded slice. Safe to run from several threads at once."""

    def run(self, digits: Digits) -> Sequence[NDArray[np.int32]]:
        """W x of every layer of the slice, modulo 2**k, as two's complement int32.

        Args:
            digits: planar bytes, (limbs, *input shape).
        """
        ...


class Engine(Protocol):
    """Makes runners of slices."""

    @property
    def name(self) -> str:
        """What runs, for logs and metadata: library, execution provider, form."""
        ...

    def load(self, directory: Path, subgraph: Subgraph) -> Runner:
        """Load a slice of a package directory.

        Raises:
            PackageError: the file is not a slice that this engine can load, or it fails its self-test.
        """
        ...
