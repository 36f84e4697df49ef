"""The task of an attacker: views of pictures, some of which it has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Indices = NDArray[np.int64]


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
