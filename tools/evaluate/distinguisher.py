"""Can a view tell two prompts apart? A linear classifier, and the exact interval of its success on transcripts unseen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import binomtest
from tools.evaluate.ridge import Ridge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

CONFIDENCE = 0.99  # that all intervals of a family hold
CHANCE = 0.5
_PENALTY = 0.1


@dataclass(frozen=True)
class Success:
    """How often it was right: `value` of `trials`, within [low, high]."""

    value: float
    low: float
    high: float
    trials: int

    @property
    def is_chance(self) -> bool:
        """Whether a coin may do as well."""
        return self.low <= CHANCE <= self.high


def distinguish(x: Floats, family: int = 1) -> Success:
    """Learn from the first half of the transcripts, try the second.

    Args:
        x: (n, values): prompts in turn, so that neither time nor temperature tells them apart.
        family: how many such tests are made; the interval is as wide as it takes that all hold together (Bonferroni).

    Reference: Clopper and Pearson, Biometrika 26, 1934: an interval that holds for every n, not only for large ones.
    """
    labels = np.resize(np.array([-1, 1], np.float32), len(x))[:, None]
    half = len(x) // 4 * 2  # as many of either prompt
    guessed = Ridge(x[:half], labels[:half]).predict(x[half:], _PENALTY)
    right = int(((guessed > 0) == (labels[half:] > 0)).sum())
    trials = len(x) - half
    interval = binomtest(right, trials).proportion_ci(1 - (1 - CONFIDENCE) / family, method="exact")
    return Success(right / trials, float(interval.low), float(interval.high), trials)


def distinguish_layers(pooled: Mapping[str, Floats]) -> dict[str, Success]:
    """By each slice alone."""
    return {name: distinguish(x, len(pooled)) for name, x in pooled.items()}
