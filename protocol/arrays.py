"""Named arrays in one file (npz, no pickles), read as declared: every name, dtype and shape is expected or refused."""

from __future__ import annotations

import zipfile
from math import prod
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
    """What the file says of its arrays is compared before memory is allocated for them."""
    needed = sum(_bytes(np.dtype(dtype), shape) for dtype, shape in expected.values())
    with zipfile.ZipFile(path) as archive:
        if surplus := {name.removesuffix(".npy") for name in archive.namelist()} ^ set(expected):
            raise PackageError(f"{path}: array {min(surplus)!a} is missing or unknown; export the package again")
        if (size := path.stat().st_size) < needed:
            raise ValueError(f"{size} bytes; its arrays need {needed}")
        return {name: _array(archive, name, np.dtype(dtype), shape) for name, (dtype, shape) in expected.items()}


def _array(archive: zipfile.ZipFile, name: str, dtype: np.dtype[Any], shape: Shape) -> NDArray[Any]:
    with archive.open(f"{name}.npy") as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("another version of npy")
        got_shape, in_columns, got_dtype = np.lib.format.read_array_header_1_0(file)
        if (got_shape, got_dtype.str) != (shape, dtype.str):
            got = f"{got_dtype}{got_shape}"
            raise PackageError(f"{archive.filename}: array {name!a} is {got}; expected {dtype}{shape}")
        content = file.read(_bytes(dtype, shape))
    if len(content) != _bytes(dtype, shape):
        raise EOFError(name)
    return np.frombuffer(bytearray(content), dtype).reshape(shape, order="F" if in_columns else "C")


def _bytes(dtype: np.dtype[Any], shape: Shape) -> int:
    return int(prod(shape)) * dtype.itemsize
