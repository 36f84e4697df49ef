"""Where runs of one diffusers scheduler differ that begin in the middle, as image to image does (`protocol.sampler_begins`).

A multistep method that begins later has less of a past, for as many rows as its order. So only the first rows of such a run
are made, on basis vectors as in `scheduler_table`, until a row is that of the whole run again.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np

from ppidm.export.scheduler_run import name_of, noised, quiet, run_scheduler
from ppidm.export.scheduler_table import REFUSALS, coefficients_of, ready_for
from ppidm.protocol.errors import UnsupportedError
from ppidm.protocol.sampler_begins import ENTRY
from ppidm.protocol.sampler_table import Kind

if TYPE_CHECKING:
    from ppidm.export.scheduler_run import Scheduler
    from ppidm.protocol.sampler_begins import Begins
    from ppidm.protocol.sampler_table import Table

Row = dict[tuple[Kind, int], float]
SAME = 1e-9  # relative to the largest coefficient of a row: what floating point makes of equal ones
LONGEST_PAST = 12  # rows; the longest of diffusers' schedulers (PNDM) needs 5


def extract_begins(scheduler: Scheduler, steps: int, table: Table) -> Begins:
    """Find all beginnings of one number of steps.

    Args:
        scheduler: of diffusers; it is left as it is.
        steps: number of steps.
        table: of the whole run.

    Raises:
        UnsupportedError: the scheduler cannot begin in the middle, or its runs do not become those of the whole.
    """
    whole, depth = _rows_of(table), 2
    found: list[tuple[int, ...] | tuple[float, ...]] = []
    with quiet():
        ready = ready_for(scheduler, steps)
        order = int(getattr(ready, "order", 1))
        for skipped in range(steps):
            first = skipped * order
            if first >= len(whole):
                break
            found += _factors(ready, steps, skipped, first)
            while (rows := _begun(ready, whole, first, depth)) is None:
                depth += 1
            found += [
                (steps, skipped, row, kind, index, value)
                for row, terms in rows.items()
                for (kind, index), value in sorted(terms.items())
            ]
    return np.array(found, ENTRY)


def _rows_of(table: Table) -> list[Row]:
    """The past that each row of a table names."""
    rows: list[Row] = [{} for _ in range(1 + int(table["row"].max()))]
    for entry in table[table["kind"] >= Kind.SAMPLE]:
        rows[entry["row"]][Kind(entry["kind"]), int(entry["index"])] = float(entry["value"])
    return rows


def _factors(ready: Scheduler, steps: int, skipped: int, first: int) -> list[tuple[float, ...]]:
    begun = _placed(ready, first)
    try:
        picture, noise = noised(begun, np.eye(2), first)
    except (*REFUSALS, AttributeError) as error:
        raise UnsupportedError(f"{name_of(ready)} cannot begin with a picture: {error}") from error
    return [(steps, skipped, first, Kind.INIT_SIGMA, 0, noise), (steps, skipped, first, Kind.PICTURE, 0, picture)]


def _placed(ready: Scheduler, first: int) -> Scheduler:
    """A copy that will begin at evaluation `first`, as diffusers' pipelines tell it."""
    begun = copy.deepcopy(ready)
    if hasattr(begun, "set_begin_index"):
        begun.set_begin_index(first)
    return begun


def _begun(ready: Scheduler, whole: list[Row], first: int, depth: int) -> dict[int, Row] | None:
    """The first rows of a run, by number, where they differ from the whole run's; None if the last of `depth` still does."""
    count = min(depth, len(whole) - first)
    basis = np.eye(3 * count).reshape(3, count, 3 * count)
    try:
        run = run_scheduler(_placed(ready, first), basis, first)
    except REFUSALS as error:
        raise UnsupportedError(f"{name_of(ready)} fails after {first} evaluations left out: {error}") from error
    noises = len({index for row in whole[:first] for kind, index in row if kind == Kind.NOISE})
    shift = {Kind.SAMPLE: first, Kind.OUTPUT: first, Kind.NOISE: noises, Kind.RESULT: first}
    rows = {
        first + place: {(kind, index + shift[kind]): value for (kind, index), value in row.items()}
        for place, row in enumerate(coefficients_of(run))
    }
    different = {number: row for number, row in rows.items() if not _same(row, whole[number])}
    if count < len(whole) - first and max(different, default=-1) == first + count - 1:
        if depth >= LONGEST_PAST:
            raise UnsupportedError(f"{name_of(ready)} does not come back to the whole run within {depth} evaluations")
        return None
    return different


def _same(row: Row, other: Row) -> bool:
    scale = max(map(abs, other.values()), default=0.0)
    return set(row) == set(other) and all(abs(row[term] - other[term]) <= SAME * scale for term in row)
