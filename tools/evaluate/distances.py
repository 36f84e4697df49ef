"""Distances between two sets of pictures, given features of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Features = NDArray[np.float64]


def kernel_distance(a: Features, b: Features) -> float:
    """KID: the unbiased estimate of MMD^2 under the kernel (<x, y> / d + 1)^3. 0 in the mean for equal distributions.

    Args:
        a: (n, d) features, n >= 2.
        b: (n, d).

    Reference: Binkowski, Sutherland, Arbel and Gretton, Demystifying MMD GANs, ICLR 2018.
    """
    return float(_mean_of_pairs(_kernel(a, a)) + _mean_of_pairs(_kernel(b, b)) - 2 * _kernel(a, b).mean())


def _kernel(a: Features, b: Features) -> Features:
    kernel: Features = (a @ b.T / a.shape[1] + 1) ** 3
    return kernel


def _mean_of_pairs(kernel: Features) -> float:
    """Without the diagonal."""
    count = len(kernel)
    return float((kernel.sum() - np.trace(kernel)) / (count * (count - 1)))


def frechet_distance(a: Features, b: Features) -> float:
    """|m_a - m_b|^2 + Tr(C_a + C_b - 2 (C_a C_b)^(1/2)) of Gaussians with the sets' means and covariances.

    With C = X^T X the last trace is the sum of the singular values of X_a X_b^T: exact, and n x n instead of d x d.
    Biased upwards for small n: compare with two sets of one distribution and the same n.

    Reference: Heusel, Ramsauer, Unterthiner, Nessler and Hochreiter, GANs trained by a two time-scale update rule, 2017.
    """
    x, y = _centred(a), _centred(b)
    cross = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    return float(np.square(a.mean(axis=0) - b.mean(axis=0)).sum() + np.square(x).sum() + np.square(y).sum() - 2 * cross)


def _centred(features: Features) -> Features:
    centred: Features = (features - features.mean(axis=0)) / np.sqrt(len(features) - 1)
    return centred
