"""What attackers make of a view: a picture. Each learns from pictures whose views it has, and guesses those of others.

All attacks predict what separates a picture from the mean picture of the training set, the guess without data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from tools.evaluate.ridge import Ridge, Scaler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Indices = NDArray[np.int64]
    Attack = Callable[["View", "Task"], "Floats"]

_PATCH = 3  # positions around one that local least squares looks at
_CHANNELS, _BATCH, _LEARNING_RATE, _EVERY = 64, 32, 2e-3, 20


@dataclass(frozen=True)
class View:
    """What a party holds of n pictures.

    Attributes:
        maps: requests for the slice that reads the latents, (n, channels, h, w).
        pooled: of all slices, (n, values).
        sizes: of messages, (n, values).
    """

    maps: Floats
    pooled: Floats
    sizes: Floats


@dataclass(frozen=True)
class Task:
    """Which pictures are known, and which are to be guessed.

    Attributes:
        pictures: (n, height, width, 3) in [0, 1].
        train: indices; the attacker has these pictures.
        validation: has these too, and chooses by them.
        test: has not.
        updates: of the network, at most.
    """

    pictures: Floats
    train: Indices
    validation: Indices
    test: Indices
    updates: int = 300

    @classmethod
    def split(cls, pictures: Floats, updates: int) -> Task:
        """Half to train, a fifth to choose, three tenths to test; the first picture is among the last."""
        place = np.arange(len(pictures)) % 10
        test, validation = np.isin(place, (0, 3, 6)), np.isin(place, (1, 5))
        train = ~(test | validation)
        return cls(pictures, np.flatnonzero(train), np.flatnonzero(validation), np.flatnonzero(test), updates)

    @property
    def guess(self) -> Floats:
        """The mean of the training pictures: the best guess (in mean squared error) of who sees nothing."""
        mean: Floats = self.pictures[self.train].mean(axis=0)
        return mean

    @property
    def residuals(self) -> Floats:
        """What is left to explain."""
        return self.pictures - self.guess


def metadata(view: View, task: Task) -> Floats:
    """Least squares on numbers and sizes of messages."""
    return _flat_least_squares(view.sizes, task)


def least_squares(view: View, task: Task) -> Floats:
    """Least squares on everything at once: all steps, all slices."""
    return _flat_least_squares(np.concatenate([view.maps.reshape(len(view.maps), -1), view.pooled], axis=1), task)


def _flat_least_squares(x: Floats, task: Task) -> Floats:
    y = task.residuals.reshape(len(x), -1)
    ridge = Ridge(x[task.train], y[task.train])
    penalty = ridge.best_penalty(x[task.validation], y[task.validation])
    return ridge.predict(x, penalty).reshape(task.pictures.shape)


def local_least_squares(view: View, task: Task) -> Floats:
    """Least squares from the neighbourhood of a latent, in all steps, to the pixels of that latent: same weights everywhere."""
    x, y = _neighbourhoods(view.maps), blocks_from_pictures(task.residuals, view.maps.shape[2])

    def rows(part: Floats, chosen: Indices) -> Floats:
        return part[chosen].reshape(-1, part.shape[-1])

    ridge = Ridge(rows(x, task.train), rows(y, task.train))
    penalty = ridge.best_penalty(rows(x, task.validation), rows(y, task.validation))
    everything = np.arange(len(x))
    return pictures_from_blocks(ridge.predict(rows(x, everything), penalty).reshape(y.shape))


def _neighbourhoods(maps: Floats) -> Floats:
    """(n, c, h, w) -> (n, h, w, c * _PATCH^2)."""
    margin = _PATCH // 2
    padded = np.pad(maps, ((0, 0), (0, 0), (margin, margin), (margin, margin)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (_PATCH, _PATCH), axis=(2, 3))
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(len(maps), *maps.shape[2:], -1)


def blocks_from_pictures(pictures: Floats, side: int) -> Floats:
    """(n, H, W, 3) -> (n, side, side, values of a block)."""
    count, height, _, channels = pictures.shape
    block = height // side
    blocks = pictures.reshape(count, side, block, side, block, channels).transpose(0, 1, 3, 2, 4, 5)
    return blocks.reshape(count, side, side, -1)


def pictures_from_blocks(blocks: Floats) -> Floats:
    """The inverse of `blocks_from_pictures`."""
    count, side, _, values = blocks.shape
    block = round((values / 3) ** 0.5)
    whole = blocks.reshape(count, side, side, block, block, 3).transpose(0, 1, 3, 2, 4, 5)
    return whole.reshape(count, side * block, side * block, 3)


def inversion_network(view: View, task: Task) -> Floats:
    """A convolutional network from the latents' maps to the picture, stopped where it guesses the validation set best."""
    flat = view.maps.transpose(0, 2, 3, 1)
    scaler = Scaler(flat[task.train].reshape(-1, flat.shape[-1]))
    x = torch.from_numpy(np.ascontiguousarray(scaler(flat).transpose(0, 3, 1, 2)))
    y = torch.from_numpy(np.ascontiguousarray(task.residuals.transpose(0, 3, 1, 2)))
    torch.manual_seed(0)
    network = _network(x.shape[1], y.shape[2] // x.shape[2])
    _train(network, x, y, task)
    with torch.inference_mode():
        guessed: Floats = network(x).permute(0, 2, 3, 1).numpy()
    return guessed


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


ATTACKS: Mapping[str, Attack] = {
    "metadata": metadata,
    "least_squares": least_squares,
    "local_least_squares": local_least_squares,
    "inversion_network": inversion_network,
}
