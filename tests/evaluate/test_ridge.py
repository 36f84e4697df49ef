"""Ridge regression against the normal equations."""

import numpy as np
import pytest
from tools.evaluate.ridge import PENALTIES, Ridge, Scaler


@pytest.mark.parametrize(("count", "width"), [(30, 8), (12, 40)])  # more examples than features, and fewer
def test_it_solves_the_normal_equations(count, width):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((count, width)) * rng.uniform(1, 9, width) + 5).astype(np.float32)
    y = rng.standard_normal((count, 3)).astype(np.float32)
    z = (x - x.mean(0)) / x.std(0)
    scale = np.linalg.eigvalsh(z.T @ z if width <= count else z @ z.T).mean()
    weights = np.linalg.solve(z.T @ z + 0.3 * scale * np.eye(width), z.T @ (y - y.mean(0)))
    assert Ridge(x, y).predict(x, 0.3) == pytest.approx(z @ weights + y.mean(0), abs=1e-3)


def test_the_penalty_is_chosen_by_what_was_left_out():
    rng = np.random.default_rng(0)
    x, held = rng.standard_normal((2, 40, 30)).astype(np.float32)
    weights = rng.standard_normal((30, 2)).astype(np.float32)
    assert Ridge(x, x @ weights).best_penalty(held, held @ weights) == PENALTIES[0]
    noise, other = rng.standard_normal((2, 40, 2)).astype(np.float32)
    assert Ridge(x, noise).best_penalty(held, other) >= 1


def test_constant_features_count_for_nothing():
    x = np.full((9, 2), 1234.56, np.float32)
    assert not Scaler(x)(x).any()
    assert Ridge(x, np.arange(9, dtype=np.float32)[:, None]).predict(x, 1e-5) == pytest.approx(np.full((9, 1), 4.0))
