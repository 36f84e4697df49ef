"""Run a diffusers scheduler from its table of coefficients: exact, with numpy only.

    sampler = Sampler.load(package / FILE, "DDIMScheduler", 20)
    state = sampler.start(noise)
    for t in sampler.timesteps:
        noise_pred = model(state.model_input(), t)
        state.step(noise_pred, draw_noise)
    state.latents

How the table is made: `ppidm.export.samplers`; what it contains: `ppidm.protocol.sampler_table`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ppidm.protocol.errors import InputError
from ppidm.protocol.sampler_begins import begin, load_begins, skipped_steps
from ppidm.protocol.sampler_table import Kind, Table, load_table

Array: TypeAlias = NDArray[np.float32]
DrawNoise: TypeAlias = Callable[[], Array]  # fresh standard normal noise in the shape of the latents
Term: TypeAlias = tuple[Kind, int]  # one earlier tensor: SAMPLE 3 is what evaluation 3 was given


class Sampler:
    """One scheduler with one step count; has no state, so that images can share it.

    Attributes:
        timesteps: one per model evaluation, float64, shape (M,); M may exceed the number of steps (PNDM: one more).
        init_noise_sigma: what `start` multiplies its noise by.
        picture_scale: what it multiplies a picture's latents by; 0 for a whole run.
        input_scales: what the model is given is this times the sample, float64, shape (M,).
        rows: per evaluation, the earlier tensors that its result is made of, with their coefficients.
        last_use: the last evaluation that names an earlier tensor.
        draws: per evaluation, the noises that it draws.
    """

    def __init__(self, table: Table, picture_scale: float = 0.0) -> None:
        """Use the entries of one step count, `table`, already checked."""
        self.picture_scale = picture_scale
        self.timesteps: NDArray[np.float64] = _values(table, Kind.TIMESTEP)
        self.init_noise_sigma = float(_values(table, Kind.INIT_SIGMA)[0])
        self.input_scales: NDArray[np.float64] = _values(table, Kind.INPUT_SCALE)
        self.rows = [_terms(table[table["row"] == row]) for row in range(len(self.timesteps))]
        self.last_use = {term: row for row, terms in enumerate(self.rows) for term in terms}
        self.draws = _draws(self.rows)

    @classmethod
    def load(cls, path: Path, name: str, steps: int) -> "Sampler":
        """Read the scheduler class `name` (`DDIMScheduler`) for a number of steps.

        Raises:
            InputError: the package has no such scheduler or step count; the message lists what it has.
            PackageError: the file is corrupt.
        """
        return cls(_table_of(path, name, steps))

    @classmethod
    def load_for_picture(cls, path: Path, name: str, steps: int, strength: float) -> "Sampler":
        """The same for image to image: a run without the first steps, of which `strength` says how many are left.

        Raises:
            InputError: as `load`; the strength is out of range, or the package cannot begin this scheduler in the middle.
            PackageError: the file is corrupt.
        """
        table = _table_of(path, name, steps)
        return cls(*begin(table, load_begins(path, name), skipped_steps(strength, steps), f"{path}: {name}"))

    def needs_noise(self, row: int) -> bool:
        """Whether evaluation `row` draws noise."""
        return bool(self.draws[row])

    def start(self, noise: Array, picture: Array | None = None) -> "SamplerState":
        """Begin an image.

        Args:
            noise: standard normal, float32, any shape.
            picture: latents that a run of `load_for_picture` begins with, in the shape of the noise.
        """
        latents = noise.astype(np.float64) * self.init_noise_sigma
        return SamplerState(self, latents if picture is None else latents + self.picture_scale * picture)


class SamplerState:
    """An image in the making: the latents, and of the past what later evaluations need.

    Everything is summed in float64, where diffusers rounds each operation to float32.
    """

    def __init__(self, sampler: Sampler, latents: NDArray[np.float64]) -> None:
        """Start at evaluation 0 with scaled `latents`."""
        self._sampler = sampler
        self._row = 0
        self._latents = latents
        self._past: dict[Term, NDArray[np.float64]] = {}

    @property
    def latents(self) -> Array:
        """The current sample, float32, contiguous. Assign to change it between two evaluations."""
        return _float32(self._latents)

    @latents.setter
    def latents(self, value: Array) -> None:
        self._latents = self._like_latents(value, "the new latents")

    def model_input(self) -> Array:
        """What the model is to be given now: the scaled sample, float32, contiguous."""
        self._expect_more()
        return _float32(self._latents * self._sampler.input_scales[self._row])

    def step(self, model_output: Array, draw_noise: DrawNoise | None = None) -> None:
        """Go one evaluation further.

        Args:
            model_output: what the model predicted, after guidance, in the shape of the latents.
            draw_noise: called once for each noise that this evaluation draws (`Sampler.needs_noise`).

        Raises:
            InputError: all evaluations are done, a shape is wrong, or noise is needed and `draw_noise` is missing.
        """
        self._expect_more()
        self._past[Kind.SAMPLE, self._row] = self._latents
        self._past[Kind.OUTPUT, self._row] = self._like_latents(model_output, "the model output")
        self._draw(draw_noise)
        terms = self._sampler.rows[self._row]
        self._latents = sum((value * self._past[term] for term, value in terms.items()), np.zeros_like(self._latents))
        self._past[Kind.RESULT, self._row] = self._latents
        self._row += 1
        self._forget()

    def _draw(self, draw_noise: DrawNoise | None) -> None:
        for term in self._sampler.draws[self._row]:
            if draw_noise is None:
                raise InputError(f"evaluation {self._row} of this scheduler needs noise; pass draw_noise")
            self._past[term] = self._like_latents(draw_noise(), "the noise")

    def _forget(self) -> None:
        """Drop what no later evaluation names."""
        last_use = self._sampler.last_use
        self._past = {term: array for term, array in self._past.items() if last_use.get(term, -1) >= self._row}

    def _like_latents(self, value: Array, what: str) -> NDArray[np.float64]:
        if np.shape(value) != self._latents.shape:
            raise InputError(f"{what}: got shape {np.shape(value)}, expected {self._latents.shape} like the latents")
        return value.astype(np.float64)

    def _expect_more(self) -> None:
        if self._row == len(self._sampler.timesteps):
            raise InputError(f"all {self._row} evaluations of this sampler are done")


def _table_of(path: Path, name: str, steps: int) -> Table:
    table = load_table(path, name)
    chosen: Table = table[table["steps"] == steps]
    if len(chosen) == 0:
        counts = _ranges(np.unique(table["steps"]).tolist())
        raise InputError(f"{name} cannot do {steps} steps in this package; it can do {counts or 'none'}")
    return chosen


def _values(table: Table, kind: Kind) -> NDArray[np.float64]:
    return np.ascontiguousarray(table["value"][table["kind"] == kind])


def _terms(row: Table) -> dict[Term, float]:
    entries = row[row["kind"] >= Kind.SAMPLE]
    return {(Kind(entry["kind"]), int(entry["index"])): float(entry["value"]) for entry in entries}


def _draws(rows: list[dict[Term, float]]) -> list[list[Term]]:
    """Per row, the noises that it is the first to name, in the order of drawing."""
    seen: set[Term] = set()
    draws = []
    for terms in rows:
        draws.append([term for term in terms if term[0] == Kind.NOISE and term not in seen])
        seen.update(draws[-1])
    return draws


def _float32(array: NDArray[Any]) -> Array:
    with np.errstate(over="ignore"):  # whoever uses it checks for inf
        return np.ascontiguousarray(array, dtype=np.float32)


def _ranges(counts: list[int]) -> str:
    """Sorted integers in short: 1-50, 60."""
    starts = [count for count in counts if count - 1 not in counts]
    ends = [count for count in counts if count + 1 not in counts]
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))
