"""What attackers make of a view: a picture. Each learns from pictures whose views it has, and guesses those of others.

All attacks predict what separates a picture from the mean picture of the training set, the guess without data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from tools.evaluate.inversion import inversion_network
from tools.evaluate.ridge import Ridge

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Indices = NDArray[np.int64]
    from tools.evaluate.task import Task, View

    Attack = Callable[[View, Task], Floats]

_PATCH = 3  # positions around one that local least squares looks at


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


ATTACKS: Mapping[str, Attack] = {
    "metadata": metadata,
    "least_squares": least_squares,
    "local_least_squares": local_least_squares,
    "inversion_network": inversion_network,
}
