"""PSNR and SSIM against their definitions, computed position by position."""

import numpy as np
import pytest
from tools.evaluate.similarity import BEST_DB, psnr_db, ssim


def pair(seed=0, side=15):
    rng = np.random.default_rng(seed)
    a = rng.random((2, side, side, 3), np.float32)
    return a, np.clip(a + rng.normal(0, 0.2, a.shape), 0, 1).astype(np.float32)


def test_psnr_of_a_known_error():
    a = np.zeros((2, 4, 4, 3), np.float32)
    b = a + np.array([0.1, 0.01], np.float32)[:, None, None, None]
    assert psnr_db(a, b) == pytest.approx([20, 40], abs=1e-4)
    assert psnr_db(a, a) == pytest.approx([BEST_DB, BEST_DB])


def reference_ssim(a, b):
    """Wang et al. 2004, equation 13, with an 11 x 11 Gaussian window of 1.5 wherever it fits."""
    offsets = np.arange(-5, 6)
    line = np.exp(-(offsets**2) / (2 * 1.5**2))
    weights = np.outer(line, line) / np.outer(line, line).sum()
    values = []
    for i in range(5, a.shape[0] - 5):
        for j in range(5, a.shape[1] - 5):
            for c in range(a.shape[2]):
                x, y = (p[i - 5 : i + 6, j - 5 : j + 6, c].astype(np.float64) for p in (a, b))
                mx, my = (weights * x).sum(), (weights * y).sum()
                vx, vy = (weights * (x - mx) ** 2).sum(), (weights * (y - my) ** 2).sum()
                cov = (weights * (x - mx) * (y - my)).sum()
                top = (2 * mx * my + 0.01**2) * (2 * cov + 0.03**2)
                values.append(top / ((mx**2 + my**2 + 0.01**2) * (vx + vy + 0.03**2)))
    return np.mean(values)


def test_ssim_is_that_of_the_paper():
    a, b = pair()
    expected = [reference_ssim(x, y) for x, y in zip(a, b, strict=True)]
    assert 0.1 < min(expected) < max(expected) < 0.95
    assert ssim(a, b) == pytest.approx(expected, abs=1e-9)


def test_ssim_of_equal_pictures_is_one():
    a, _ = pair()
    assert ssim(a, a) == pytest.approx([1, 1], abs=1e-12)
