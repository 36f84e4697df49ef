"""Sampler tables of runs that begin in the middle: image to image.

diffusers' image to image of strength s skips the first of N steps, as many as N - int(s N), and begins with the latents of a
picture under as much noise as the first evaluation expects:

    sample = PICTURE * latents of the picture + INIT_SIGMA * noise

From there on the rows are those of the whole run, but for the first ones of multistep methods, which have no past yet. The
array `NAME.begins` of `samplers.npz` holds, for every number of steps and of skipped steps, the two factors, and the rows that
differ; it is sorted by (steps, skipped, row, kind, index). Rows and indices count from the beginning of the whole run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from ppidm.protocol.errors import InputError, PackageError
from ppidm.protocol.sampler_table import BEGINS, Kind, check_table, read_samplers
from ppidm.protocol.sampler_table import ENTRY as TABLE_ENTRY

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from ppidm.protocol.sampler_table import Table

ENTRY = np.dtype([("steps", "u1"), ("skipped", "u1"), ("row", "u1"), ("kind", "u1"), ("index", "u1"), ("value", "<f8")])
PAST = (Kind.SAMPLE, Kind.OUTPUT, Kind.NOISE, Kind.RESULT)

Begins: TypeAlias = "NDArray[np.void]"


class Begun(NamedTuple):
    """A table of one number of steps, as `sampler_table` describes it, whose first row is where the run begins.

    Attributes:
        table: INIT_SIGMA is the factor of the noise.
        picture: the factor of the picture's latents.
    """

    table: Table
    picture: float


def skipped_steps(strength: float, steps: int) -> int:
    """How many of the first steps image to image of a strength skips, as diffusers counts them.

    Raises:
        InputError: out of range, or no step is left.
    """
    if not 0 < strength <= 1:
        raise InputError(f"strength is {strength:g}; expected more than 0 and at most 1")
    skipped = steps - min(int(steps * strength), steps)
    if skipped == steps:
        raise InputError(
            f"strength is {strength:g}, which leaves none of {steps} steps; expected at least {1 / steps:.4g}, or more "
            "num_inference_steps"
        )
    return skipped


def load_begins(path: Path, name: str) -> Begins:
    """Read the array of the scheduler class `name` from a file that may be hostile.

    Raises:
        InputError: the file has none.
        PackageError: the file is not what `ppidm export` writes.
    """
    _, begins = read_samplers(path, name + BEGINS)
    if begins is None:
        raise InputError(
            f"this package cannot begin {name} in the middle of a run; choose another scheduler, or export again"
        )
    if begins.dtype != ENTRY or begins.ndim != 1:
        raise PackageError(f"{path}: {name}{BEGINS}: {begins.dtype} {begins.shape}, expected entries of {ENTRY}")
    return begins


def begin(table: Table, begins: Begins, skipped: int, where: str) -> Begun:
    """The table of a run that begins after some steps.

    Args:
        table: of the whole run, one number of steps.
        begins: of all numbers of steps.
        skipped: steps.
        where: names the file in errors.

    Raises:
        PackageError: the result would be no table that can be run.
    """
    chosen = begins[(begins["steps"] == table["steps"][0]) & (begins["skipped"] == skipped)]
    picture = chosen[chosen["kind"] == Kind.PICTURE]
    if len(picture) != 1 or not np.isfinite(picture["value"]).all():
        raise PackageError(
            f"{where}: no beginning after {skipped} of {table['steps'][0]} steps; export the model again"
        )
    first, replaced = int(picture["row"][0]), np.unique(chosen["row"][np.isin(chosen["kind"], PAST)])
    past = np.isin(table["kind"], PAST)
    kept = (table["row"] >= first) & (table["kind"] != Kind.INIT_SIGMA) & ~(past & np.isin(table["row"], replaced))
    result = np.concatenate([table[kept], _as_table(chosen[chosen["kind"] != Kind.PICTURE])])
    result = np.sort(_counted_from(result, first), order=["row", "kind", "index"])
    check_table(result, where)
    return Begun(result, float(picture["value"][0]))


def _as_table(entries: Begins) -> Table:
    result = np.zeros(len(entries), TABLE_ENTRY)
    for name in TABLE_ENTRY.names or ():
        result[name] = entries[name]
    return result


def _counted_from(entries: NDArray[Any], first: int) -> NDArray[Any]:
    """Rows and indices from 0; what names something before the beginning wraps around, and fails the check of tables."""
    result = entries.copy()
    result["row"] -= np.uint8(first)
    past = np.isin(result["kind"], (Kind.SAMPLE, Kind.OUTPUT, Kind.RESULT))
    result["index"][past] -= np.uint8(first)
    noises = result["kind"] == Kind.NOISE
    if noises.any():
        result["index"][noises] -= result["index"][noises].min()
    return result
