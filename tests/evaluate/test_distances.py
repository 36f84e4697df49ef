"""KID and Frechet distance on distributions whose distance is known."""

import numpy as np
import pytest
from scipy.linalg import sqrtm
from tools.evaluate.distances import frechet_distance, kernel_distance


def draw(rng, count=40, width=4, shift=0.0, scale=1.0):
    return rng.standard_normal((count, width)) * scale + shift


def test_kernel_distance_is_its_definition():
    rng = np.random.default_rng(0)
    a, b = draw(rng, 7), draw(rng, 9, shift=0.5)

    def k(x, y):
        return (x @ y / len(x) + 1) ** 3

    within_a = np.mean([k(x, y) for i, x in enumerate(a) for j, y in enumerate(a) if i != j])
    within_b = np.mean([k(x, y) for i, x in enumerate(b) for j, y in enumerate(b) if i != j])
    across = np.mean([k(x, y) for x in a for y in b])
    assert kernel_distance(a, b) == pytest.approx(within_a + within_b - 2 * across)


def test_kernel_distance_is_unbiased():
    rng = np.random.default_rng(0)
    values = np.array([kernel_distance(draw(rng), draw(rng)) for _ in range(400)])
    error = values.std() / np.sqrt(len(values))
    assert values.min() < 0 < values.max()
    assert abs(values.mean()) < 4 * error
    assert kernel_distance(draw(rng), draw(rng, shift=1)) > values.max()


def test_frechet_distance_is_its_definition():
    rng = np.random.default_rng(0)
    a, b = draw(rng, 30), draw(rng, 50, shift=0.3, scale=np.array([1, 2, 3, 4]))
    ca, cb = np.cov(a.T), np.cov(b.T)
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(ca + cb - 2 * np.real(sqrtm(ca @ cb)))
    assert frechet_distance(a, b) == pytest.approx(expected)


def test_frechet_distance_of_gaussians_is_the_closed_form():
    rng = np.random.default_rng(0)
    a, b = draw(rng, 500, 2), draw(rng, 500, 2, shift=3, scale=2.0)
    assert frechet_distance(a, b) == pytest.approx(2 * 3**2 + 2 * (2 - 1) ** 2, rel=0.1)


def test_frechet_distance_of_a_set_to_itself_is_zero_with_fewer_examples_than_features():
    a = draw(np.random.default_rng(0), 10, 50)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
