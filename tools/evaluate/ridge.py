"""Linear least squares with a penalty on the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

PENALTIES = tuple(10.0**power for power in range(-5, 5))  # relative to the mean eigenvalue of the covariance


class Scaler:
    """Shifts and scales features to mean 0 and variance 1 on the examples that it was made of; constant ones become 0."""

    def __init__(self, examples: Floats) -> None:
        self._mean = examples.mean(axis=0, dtype=np.float64)
        deviation = examples.std(axis=0, dtype=np.float64)
        noise = 1e-6 * np.abs(self._mean)  # of float32
        self._factor = np.where(deviation > noise, 1 / np.maximum(deviation, 1e-30), 0)

    def __call__(self, x: Floats) -> Floats:
        """Scale others by the same numbers."""
        scaled: Floats = ((x - self._mean) * self._factor).astype(np.float32)
        return scaled


class Ridge:
    """Minimises |X W - Y|^2 + penalty |W|^2 on scaled features; `penalty` can be chosen after the costly part.

    Args:
        x: (n, p) features.
        y: (n, q) targets; their mean is no weight, and not penalised.
    """

    def __init__(self, x: Floats, y: Floats) -> None:
        self._scaler = Scaler(x)
        self._x, self._mean = self._scaler(x), y.mean(axis=0)
        self._dual = len(self._x) < self._x.shape[1]
        gram = self._x @ self._x.T if self._dual else self._x.T @ self._x
        self._values, self._vectors = np.linalg.eigh(gram.astype(np.float64))
        residual = y - self._mean
        self._target = self._vectors.T @ (residual if self._dual else self._x.T @ residual)

    def predict(self, x: Floats, penalty: float) -> Floats:
        """(m, q) for features (m, p)."""
        scale = max(float(self._values.mean()), 1e-30)
        shrunk = np.maximum(self._values, 0) + penalty * scale
        weights = (self._vectors @ (self._target / shrunk[:, None])).astype(np.float32)
        scaled = self._scaler(x)
        predicted: Floats = self._mean + ((scaled @ self._x.T) if self._dual else scaled) @ weights
        return predicted

    def best_penalty(self, x: Floats, y: Floats) -> float:
        """Which of `PENALTIES` predicts these left-out examples best."""
        return min(PENALTIES, key=lambda penalty: float(np.square(self.predict(x, penalty) - y).mean()))
