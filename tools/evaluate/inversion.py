"""The inversion network: a small convolutional network from what a party holds to the picture."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from tools.evaluate.ridge import Scaler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from tools.evaluate.task import Task, View

    Floats = NDArray[np.float32]
    Indices = NDArray[np.int64]

_CHANNELS, _BATCH, _LEARNING_RATE, _EVERY = 64, 32, 2e-3, 20


def inversion_network(view: View, task: Task) -> Floats:
    """A convolutional network from the latents' maps to the picture, stopped where it guesses the validation set best."""
    flat = view.maps.transpose(0, 2, 3, 1)
    scaler = Scaler(flat[task.train].reshape(-1, flat.shape[-1]))
    x = torch.from_numpy(np.ascontiguousarray(scaler(flat).transpose(0, 3, 1, 2)))
    y = torch.from_numpy(np.ascontiguousarray(task.residuals.transpose(0, 3, 1, 2)))
    with _one_thread(), torch.random.fork_rng():
        torch.manual_seed(0)
        network = _network(x.shape[1], y.shape[2] // x.shape[2])
        _train(network, x, y, task)
        with torch.inference_mode():
            guessed: Floats = network(x).permute(0, 2, 3, 1).numpy()
    return guessed


@contextmanager
def _one_thread() -> Iterator[None]:
    """Threads of so small a network wait for each other most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _network(channels: int, factor: int) -> torch.nn.Sequential:
    def convolution(inputs: int, outputs: int) -> torch.nn.Conv2d:
        return torch.nn.Conv2d(inputs, outputs, 3, padding=1)

    last = convolution(_CHANNELS, 3 * factor**2)
    torch.nn.init.zeros_(last.weight)  # begins with the mean picture
    assert last.bias is not None
    torch.nn.init.zeros_(last.bias)
    hidden = convolution(channels, _CHANNELS), torch.nn.ReLU(), convolution(_CHANNELS, _CHANNELS), torch.nn.ReLU()
    return torch.nn.Sequential(*hidden, last, torch.nn.PixelShuffle(factor))


def _train(network: torch.nn.Sequential, x: torch.Tensor, y: torch.Tensor, task: Task) -> None:
    rng = np.random.default_rng(0)
    optimizer = torch.optim.Adam(network.parameters(), _LEARNING_RATE)
    best, kept = _error(network, x, y, task.validation), _copy(network)
    for update in range(1, task.updates + 1):
        chosen = torch.from_numpy(rng.choice(task.train, min(_BATCH, len(task.train)), replace=False))
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(network(x[chosen]), y[chosen]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if update % _EVERY == 0 and (error := _error(network, x, y, task.validation)) < best:
            best, kept = error, _copy(network)
    network.load_state_dict(kept)


def _error(network: torch.nn.Sequential, x: torch.Tensor, y: torch.Tensor, chosen: Indices) -> float:
    indices = torch.from_numpy(chosen)
    with torch.inference_mode():
        return float(torch.nn.functional.mse_loss(network(x[indices]), y[indices]))


def _copy(network: torch.nn.Sequential) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}
