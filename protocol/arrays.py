"""Named arrays in one file (npz, no pickles), read as declared: every name, dtype and shape is expected or refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ppidm.protocol.errors import PackageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from ppidm.protocol.linear import Shape


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write `arrays`; names may hold slashes."""
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_arrays(path: Path, expected: Mapping[str, tuple[str, Shape]]) -> dict[str, NDArray[Any]]:
    """Read exactly the `expected` arrays: name -> (dtype, shape).

    Raises:
        PackageError: the file is missing, truncated or corrupt, or holds anything else.
    """
    try:
        return _read(path, expected)
    except PackageError:
        raise
    except Exception as error:  # hostile bytes: whatever a parser raises means the same
        problem = f"{type(error).__name__}: {error}"
        raise PackageError(f"{path}: cannot be read ({problem}); copy or export the package again") from error


def _read(path: Path, expected: Mapping[str, tuple[str, Shape]]) -> dict[str, NDArray[Any]]:
    with path.open("rb") as source, np.load(source, allow_pickle=False) as file:
        if surplus := set(file.files) ^ set(expected):
            raise PackageError(f"{path}: array {min(surplus)!a} is missing or unknown; export the package again")
        arrays = {name: file[name] for name in expected}
    for name, (dtype, shape) in expected.items():
        if (arrays[name].dtype.str, arrays[name].shape) != (np.dtype(dtype).str, shape):
            got = f"{arrays[name].dtype}{arrays[name].shape}"
            raise PackageError(f"{path}: array {name!r} is {got}; expected {np.dtype(dtype)}{shape}")
    return arrays
