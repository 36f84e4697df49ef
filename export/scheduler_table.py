"""Turn one diffusers scheduler with one number of steps into a table of coefficients.

A scheduler's step is linear in the samples, model outputs and noises that it has seen. So the real scheduler is run
once on basis vectors: evaluation i gets the basis vector S_i as its sample and O_i as its model output, and where it
draws noise it gets N_j. What it returns is then the row of coefficients itself, with the sparsity of the method. A
second run, on random numbers from 1e-6 to 1e6, must agree with the table: a scheduler that clips or thresholds does
not.
"""

import copy

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ppidm.export.scheduler_run import Floats, Run, Scheduler, name_of, quiet, run_scheduler
from ppidm.protocol.errors import InputError, UnsupportedError
from ppidm.protocol.sampler_table import ENTRY, MAX_ROWS, Kind, Table

NON_LINEAR_FLAGS = ("clip_sample", "thresholding")
MAGNITUDES = np.logspace(-6, 6, 13)  # of the random numbers: a clamp or an offset of any size shows at one of them
TOLERANCE = 1e-5  # relative to the sum of absolute terms; some schedulers go through float32
REFUSALS = (ValueError, TypeError, IndexError, ArithmeticError, RuntimeError, AssertionError)  # seen from diffusers
CANCELLED = 1e-10  # a difference smaller than this times what it was taken from is rounding


class StepsRefusedError(InputError):
    """The scheduler itself refuses this number of steps, or returns inf or nan for it."""


def extract(scheduler: Scheduler, steps: int) -> Table:
    """Make the table of one diffusers scheduler for one number of steps; the scheduler is left as it is.

    Raises:
        StepsRefusedError: the scheduler cannot do this number of steps.
        UnsupportedError: it is not linear, so no table can carry it exactly.
    """
    with quiet():
        return _extract(ready_for(scheduler, steps), steps)


def _extract(ready: Scheduler, steps: int) -> Table:
    count = len(ready.timesteps)
    probes = np.random.default_rng(steps).standard_normal((3, count, len(MAGNITUDES))) * MAGNITUDES
    basis = _attempt(ready, np.eye(3 * count).reshape(3, count, 3 * count))
    scales = np.diagonal(basis.scaled)
    coefficients = _shortened(basis.results)
    _check_linear(ready, probes, _attempt(ready, probes), scales, coefficients)
    return _table(steps, ready, scales, coefficients, basis.drawn)


def ready_for(scheduler: Scheduler, steps: int) -> Scheduler:
    """A copy whose timesteps are set.

    Raises:
        StepsRefusedError: the scheduler cannot do this number of steps.
        UnsupportedError: it makes more evaluations than a table holds.
    """
    ready = copy.deepcopy(scheduler)
    try:
        ready.set_timesteps(steps)
    except REFUSALS as error:
        raise StepsRefusedError(f"{name_of(scheduler)} refuses {steps} steps: {error}") from error
    if len(ready.timesteps) >= MAX_ROWS:
        raise UnsupportedError(f"{name_of(scheduler)}: {len(ready.timesteps)} evaluations, at most {MAX_ROWS - 1} fit")
    return ready


def _attempt(ready: Scheduler, inputs: Floats) -> Run:
    """Run a copy of `ready`; what fails in the middle or returns inf or nan would do so for diffusers' users too."""
    try:
        run = run_scheduler(copy.deepcopy(ready), inputs)
    except UnsupportedError:
        raise
    except REFUSALS as error:
        raise StepsRefusedError(f"{name_of(ready)} fails with these timesteps: {error}") from error
    if not np.isfinite(run.results).all() or not np.isfinite(run.scaled).all():
        raise StepsRefusedError(f"{name_of(ready)} returns inf or nan with these timesteps")
    return run


def _shortened(rows: Floats) -> Floats:
    """Coefficients (M, 4M) over SAMPLE, OUTPUT, NOISE and RESULT, with fewer terms than `rows` (M, 3M) where possible.

    A scheduler with hidden state (UniPC's corrected sample) names its whole past in every row, each time in the same
    combination: then a multiple of the previous result stands for it.
    """
    count = len(rows)
    full = np.concatenate([rows, np.zeros((count, count))], axis=1)
    for i in range(1, count):
        factor, rest = _without_common_past(rows[i], rows[i - 1])
        if np.count_nonzero(rest) + 1 < np.count_nonzero(rows[i]):
            full[i, : 3 * count] = rest
            full[i, 3 * count + i - 1] = factor
    return full


def _without_common_past(row: Floats, previous: Floats) -> tuple[float, Floats]:
    """The factor, and `row` - factor * `previous`, that cancel the oldest tensor that both name."""
    common = np.flatnonzero(row * previous)
    factor = float(row[common[0]] / previous[common[0]]) if len(common) else 0.0
    rest = row - factor * previous
    rest[np.abs(rest) < CANCELLED * np.abs(row)] = 0
    return factor, rest


def _check_linear(scheduler: Scheduler, probes: Floats, run: Run, scales: Floats, coefficients: Floats) -> None:
    """Compare a run on random numbers with what the table says."""
    inputs = scales[:, None] * probes[0]
    terms = np.concatenate([*probes, run.results])
    close = np.abs(run.results - coefficients @ terms) <= TOLERANCE * (np.abs(coefficients) @ np.abs(terms))
    if not close.all() or not (np.abs(run.scaled - inputs) <= TOLERANCE * np.abs(inputs)).all():
        flags = " and ".join(flag for flag in NON_LINEAR_FLAGS if scheduler.config.get(flag))
        advice = f": set {flags} to false in scheduler_config.json (this changes the pictures)" if flags else ""
        raise UnsupportedError(f"{name_of(scheduler)} is not linear, so that a client cannot run it exactly{advice}")


def coefficients_of(run: Run) -> list[dict[tuple[Kind, int], float]]:
    """By row of a run on basis vectors, what its result is made of; indices count from the beginning of the run."""
    coefficients = _shortened(run.results)
    row, column = np.nonzero(_named(coefficients, run.drawn))
    count = len(coefficients)
    rows: list[dict[tuple[Kind, int], float]] = [{} for _ in range(count)]
    for i, j in zip(row.tolist(), column.tolist(), strict=True):
        rows[i][Kind(Kind.SAMPLE + j // count), j % count] = float(coefficients[i, j])
    return rows


def _named(coefficients: Floats, drawn: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which coefficients a table holds."""
    keep: NDArray[np.bool_] = coefficients != 0
    count = len(coefficients)
    first_row = np.searchsorted(drawn, np.arange(drawn[-1]), side="right")
    keep[first_row, 2 * count + np.arange(drawn[-1])] = True  # drawn, if only to be multiplied by 0
    return keep


def _table(steps: int, scheduler: Scheduler, scales: Floats, coefficients: Floats, drawn: NDArray[np.int64]) -> Table:
    count = len(scales)
    keep = _named(coefficients, drawn)
    row, column = np.nonzero(keep)
    parts = [
        _entries(steps, np.arange(count), Kind.TIMESTEP, 0, np.array(scheduler.timesteps.tolist(), dtype=np.float64)),
        _entries(steps, np.arange(count), Kind.INPUT_SCALE, 0, scales),
        _entries(steps, 0, Kind.INIT_SIGMA, 0, np.array([float(scheduler.init_noise_sigma)])),
        _entries(steps, row, Kind.SAMPLE + column // count, column % count, coefficients[keep]),
    ]
    return np.sort(np.concatenate(parts), order=["row", "kind", "index"])


def _entries(steps: int, row: ArrayLike, kind: ArrayLike, index: ArrayLike, value: Floats) -> Table:
    entries = np.zeros(len(value), ENTRY)
    for name, column in {"steps": steps, "row": row, "kind": kind, "index": index, "value": value}.items():
        entries[name] = column
    return entries
