"""How alike two pictures are: PSNR and SSIM, of pictures in [0, 1]."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Scores = NDArray[np.float64]

BEST_DB = 120.0  # of two equal pictures
_SIGMA, _RADIUS = 1.5, 5  # of the window: 11 x 11
_C1, _C2 = 0.01**2, 0.03**2


def psnr_db(a: Floats, b: Floats) -> Scores:
    """Peak signal-to-noise ratio of every pair of pictures, (n, height, width, 3) each."""
    error = np.square(a.astype(np.float64) - b).mean(axis=(1, 2, 3))
    decibels: Scores = -10 * np.log10(np.maximum(error, 10 ** (-BEST_DB / 10)))
    return decibels


def ssim(a: Floats, b: Floats) -> Scores:
    """Structural similarity of every pair: mean over channels, and over positions where the window fits.

    Reference: Wang, Bovik, Sheikh and Simoncelli, IEEE Trans. Image Processing 13(4), 2004, with its Gaussian window.
    """
    x, y = a.astype(np.float64), b.astype(np.float64)
    mean_x, mean_y = _window(x), _window(y)
    variances = _window(x * x) - mean_x**2 + _window(y * y) - mean_y**2
    covariance = _window(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    similarity: Scores = (luminance * (2 * covariance + _C2) / (variances + _C2)).mean(axis=(1, 2, 3))
    return similarity


def _window(x: Scores) -> Scores:
    blurred: Scores = gaussian_filter(x, (0, _SIGMA, _SIGMA, 0), radius=(0, _RADIUS, _RADIUS, 0))
    return blurred[:, _RADIUS:-_RADIUS, _RADIUS:-_RADIUS]
