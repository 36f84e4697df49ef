"""Run a real diffusers scheduler on chosen samples, model outputs and noises. Needs torch when called."""

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ppidm.protocol.errors import UnsupportedError

Floats: TypeAlias = NDArray[np.float64]
Scheduler: TypeAlias = Any  # diffusers has no common base class with a step; see `name_of`
Tensor: TypeAlias = Any  # torch is not imported here


class Run(NamedTuple):
    """What a scheduler did: M evaluations of D numbers."""

    scaled: Floats  # (M, D), the model's inputs
    results: Floats  # (M, D), the next samples
    drawn: NDArray[np.int64]  # (M,), noises drawn so far, this evaluation included


def run_scheduler(scheduler: Scheduler, inputs: Floats, first: int = 0) -> Run:
    """Run M evaluations, each on given tensors and not on the result of the one before.

    Args:
        scheduler: a diffusers scheduler whose timesteps are set; its state advances.
        inputs: samples, model outputs and noises, float64, shape (3, M, D).
        first: the evaluation to begin with.
    """
    timesteps = scheduler.timesteps[first : first + inputs.shape[1]]
    noises = _Noises(inputs[2], name_of(scheduler))
    scaled, results, drawn = [], [], []
    with _randn_tensor(scheduler, noises):
        for t, sample, output in zip(timesteps, inputs[0], inputs[1], strict=True):
            scaled.append(_array(scheduler.scale_model_input(_tensor(sample), t)))
            results.append(_array(scheduler.step(_tensor(output), t, _tensor(sample), return_dict=False)[0]))
            drawn.append(noises.taken)
    return Run(np.array(scaled), np.array(results), np.array(drawn))


def noised(scheduler: Scheduler, inputs: Floats, first: int) -> Floats:
    """What image to image gives evaluation `first`, of a picture's latents and of noise, float64, shape (2, D)."""
    latents, noise = (_tensor(values) for values in inputs)
    return _array(scheduler.add_noise(latents, noise, scheduler.timesteps[first : first + 1]))


def name_of(scheduler: Scheduler) -> str:
    """The class name, as in a pipeline's `scheduler_config.json`."""
    return type(scheduler).__name__


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within the block, no warnings about diffusers' own use of numpy, or about settings of another scheduler.

    Not thread-safe, like all filters of warnings.
    """
    log = logging.getLogger("diffusers")
    level = log.level
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            log.setLevel(logging.ERROR)
            yield
    finally:
        log.setLevel(level)


class _Noises:
    """Gives prepared noises one after the other, in place of diffusers' `randn_tensor`."""

    def __init__(self, noises: Floats, scheduler: str) -> None:
        self.taken = 0
        self._noises = noises
        self._scheduler = scheduler

    def __call__(self, *_: object, dtype: object = None, **__: object) -> Tensor:
        if self.taken == len(self._noises):
            raise UnsupportedError(f"{self._scheduler} draws more than one noise per evaluation, which no table holds")
        self.taken += 1
        return _tensor(self._noises[self.taken - 1]).to(dtype)


@contextlib.contextmanager
def _randn_tensor(scheduler: Scheduler, noises: _Noises) -> Iterator[None]:
    """Within the block, the modules that define the scheduler take their noise from `noises`. Not thread-safe."""
    modules: set[Any] = {sys.modules[base.__module__] for base in type(scheduler).__mro__}
    originals = {module: module.randn_tensor for module in modules if hasattr(module, "randn_tensor")}
    try:
        for module in originals:
            module.randn_tensor = noises
        yield
    finally:
        for module, original in originals.items():
            module.randn_tensor = original


def _tensor(values: Floats) -> Tensor:
    """A fresh float64 tensor, shape (1, D, 1, 1): thresholding needs more than two dimensions."""
    import torch  # noqa: PLC0415  (the module can be imported without it)

    return torch.tensor(values, dtype=torch.float64).reshape(1, -1, 1, 1)


def _array(tensor: Tensor) -> Floats:
    return np.array(tensor.flatten().numpy(), dtype=np.float64)
