"""The file `samplers.npz`: every supported scheduler as a table of coefficients.

A step of a diffusers scheduler is linear in what it was given. Row i of a table says how evaluation i turns the
samples, model outputs and noises so far into the next sample:

    result_i = sum over entries of row i of  value * {SAMPLE, OUTPUT, NOISE, RESULT}[index]

SAMPLE k is what evaluation k was given, RESULT k what it returned; they differ only where a callback changed the
latents in between. (UniPC needs RESULT: its corrected sample depends on the whole past, but on little more than the
last result.) A noise is drawn in the first row that names it, even with the value 0: the caller's generator stays in
step with diffusers.

The file is an npz: per scheduler class one array of `ENTRY`, sorted by (steps, row, kind, index), all step counts
together, and one of `sampler_begins.ENTRY`, for runs that begin in the middle; `missing`, an array of text, shape (K, 2): the
schedulers that were left out, and why; and `configuration`, text, shape (1,): the digest of the configuration that all were
made from.
"""

import zipfile
from enum import IntEnum
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ppidm.protocol.errors import InputError, PackageError

FILE = Path("scheduler", "samplers.npz")
MAX_STEPS = 100  # step counts that are exported: 1 to this
MAX_ROWS = 256  # `row` and `index` are one byte
MAX_ARRAY_BYTES = 16 * 2**20  # uncompressed; the largest of ours has 0.6 MB
MISSING = "missing"
CONFIGURATION = "configuration"
BEGINS = ".begins"  # what is added to a scheduler's name: its array of `sampler_begins`
ENTRY = np.dtype([("steps", "u1"), ("row", "u1"), ("kind", "u1"), ("index", "u1"), ("value", "<f8")])

Table: TypeAlias = NDArray[np.void]


class Kind(IntEnum):
    """What the value of an entry is; the index is 0 for the first three, and not above the row for the others."""

    TIMESTEP = 0  # the timestep of this evaluation, may be fractional
    INPUT_SCALE = 1  # the model is given this times the sample
    INIT_SIGMA = 2  # row 0 only: the first sample is this times standard normal noise
    SAMPLE = 3
    OUTPUT = 4
    NOISE = 5
    RESULT = 6
    PICTURE = (
        7  # in `sampler_begins` only: the first sample is this times a picture's latents, and INIT_SIGMA times noise
    )


def load_table(path: Path, name: str) -> Table:
    """Read and check the table of the scheduler class `name`, all step counts, from a file that may be hostile.

    Raises:
        InputError: the file has no such scheduler; the message says why, and which it has.
        PackageError: the file is not what `ppidm export` writes.
    """
    names, table = read_samplers(path, name)
    if table is None or name not in names:
        why = load_missing(path).get(name)
        raise InputError(
            f"this package has no scheduler {name!r}{f' ({why})' if why else ''}; it has {', '.join(names) or 'none'}"
        )
    check_table(table, f"{path}: {name}")
    return table


def load_missing(path: Path) -> dict[str, str]:
    """Which schedulers `ppidm export` left out of the file, and why (printable ASCII, shortened).

    Raises:
        PackageError: the file is not what `ppidm export` writes.
    """
    _, rows = read_samplers(path, MISSING)
    if rows is None or rows.dtype.kind != "U" or rows.shape[1:] != (2,):
        raise PackageError(
            f"{path}: the list of missing schedulers is not text of shape (K, 2); export the model again"
        )
    try:
        return {str(name): _printable(str(reason)) for name, reason in rows}
    except (ValueError, SystemError) as error:  # numpy raises either
        raise PackageError(f"{path}: the list of missing schedulers is not Unicode; export the model again") from error


def load_configuration(path: Path) -> str:
    """The digest of the configuration that the tables were made from; "" if the file has none.

    Raises:
        PackageError: the file is not what `ppidm export` writes.
    """
    _, digest = read_samplers(path, CONFIGURATION)
    if digest is None or digest.dtype.kind != "U" or digest.shape != (1,):
        return ""
    return _printable(str(digest[0]))


def read_samplers(path: Path, name: str) -> tuple[list[str], NDArray[Any] | None]:
    """The names of the schedulers in the file, and the array `name` if there is one.

    Raises:
        PackageError: the file is not what `ppidm export` writes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _schedulers(archive), _array(archive, f"{name}.npy")
    except PackageError:
        raise
    except Exception as error:  # hostile bytes: whatever a parser raises means the same
        raise PackageError(
            f"{path}: cannot read the samplers ({type(error).__name__}); export the model again"
        ) from error


def _schedulers(archive: zipfile.ZipFile) -> list[str]:
    names = [_printable(name.removesuffix(".npy")) for name in archive.namelist()]
    return [name for name in names if name not in (MISSING, CONFIGURATION) and not name.endswith(BEGINS)]


def _array(archive: zipfile.ZipFile, member: str) -> NDArray[Any] | None:
    if member not in archive.namelist():
        return None
    if archive.getinfo(member).file_size > MAX_ARRAY_BYTES:  # zipfile reads no more than this says
        raise PackageError(f"{archive.filename}: {member} unpacks to more than {MAX_ARRAY_BYTES} bytes")
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _printable(text: str) -> str:
    """What a terminal can show without obeying it."""
    return ascii(text[:500])[1:-1]


def check_table(table: NDArray[Any], where: str) -> None:
    """Check that `table` is one that a client can run.

    Raises:
        PackageError: naming `where` and the first rule that is broken.
    """
    if table.dtype != ENTRY or table.ndim != 1:
        raise PackageError(f"{where}: got {table.dtype} {table.shape}, expected entries of {ENTRY}")
    for rule, holds in _rules(table).items():
        if not holds:
            raise PackageError(f"{where}: {rule} does not hold; the file is corrupt, export the model again")


def _rules(table: Table) -> dict[str, bool]:
    kind, row, index = table["kind"], table["row"], table["index"]
    scalar = kind < Kind.SAMPLE
    last = np.where(kind == Kind.RESULT, row.astype(int) - 1, row)
    return {
        "every value is finite": bool(np.isfinite(table["value"]).all()),
        f"1 <= steps <= {MAX_STEPS}": bool(((table["steps"] > 0) & (table["steps"] <= MAX_STEPS)).all()),
        "every kind is known": bool((kind <= Kind.RESULT).all()),
        "entries are sorted and unique": bool((np.diff(_sort_key(table)) > 0).all()),
        "no index is ahead of its row": bool((index <= np.where(scalar, 0, last)).all()),
        "the start is described once per step count": _starts_once(table),
        "every row has one timestep and one input scale, without gaps": _rows_complete(table),
        "noises are numbered as they are drawn": _noises_in_order(table),
    }


def _sort_key(table: Table) -> NDArray[np.int64]:
    key = np.zeros(len(table), np.int64)
    for field in ("steps", "row", "kind", "index"):
        key = key * 256 + table[field]
    return key


def _starts_once(table: Table) -> bool:
    start = table[table["kind"] == Kind.INIT_SIGMA]
    return bool((start["row"] == 0).all()) and np.array_equal(start["steps"], np.unique(table["steps"]))


def _rows_complete(table: Table) -> bool:
    """Each row that occurs has a timestep and a scale, and follows row i-1 or is row 0."""
    place = table["steps"].astype(int) * MAX_ROWS + table["row"]
    rows = np.unique(place)
    follows = (np.diff(rows, prepend=-1) == 1) | (rows % MAX_ROWS == 0)
    kinds = (Kind.TIMESTEP, Kind.INPUT_SCALE)
    return bool(follows.all()) and all(np.array_equal(place[table["kind"] == kind], rows) for kind in kinds)


def _noises_in_order(table: Table) -> bool:
    """Within one step count, noise j+1 is first named after noise j was (or in the same row)."""
    noise = table[table["kind"] == Kind.NOISE]
    for steps in np.unique(noise["steps"]):
        index = noise["index"][noise["steps"] == steps].astype(int)
        seen = np.maximum.accumulate(np.concatenate([[-1], index[:-1]]))
        if (index > seen + 1).any():
            return False
    return True
