"""The views of weak builds can be opened; that of ours is uniform."""

import numpy as np
import pytest
from tools.evaluate.transcripts import Exchange
from tools.evaluate.views import (
    BUILDS,
    DIFFERENCES,
    FLOAT_BUILDS,
    OURS,
    PARTIES,
    PLAIN,
    RELAY,
    RELAY_DIFFERENCES,
    RELAY_SIZES,
    RELAY_VIEWS,
    REUSED,
    SHARE,
    SIGMAS,
    SIZES,
    VIEWS,
    Layout,
    ViewMaker,
    held_views,
)
from uniformity import assert_uniform, uniformity_p_value

from ppidm.protocol.masks import Mask, dealer_share
from ppidm.protocol.ring import Ring

RING = Ring(32)
HALF = 2.0**31
SHAPE = (1, 8, 8, 16)


def exchange(x):
    mask = Mask.fresh(RING, x.shape, 1)
    share = RING.from_digits(dealer_share(RING, mask.seeds[0], x.shape))
    return Exchange(RING, RING.from_digits(mask.hide(RING.reduce(x))), share)


def activation(seed):
    return np.random.default_rng(seed).integers(-50_000, 50_000, SHAPE)


def views_of(*activations):
    maker = ViewMaker(np.random.default_rng(0), {})
    return [maker.views("slice", exchange(x)) for x in activations]


def digits(view):
    return RING.to_digits(RING.reduce((view.astype(np.float64) * HALF).astype(np.int64)))[1:]  # float32 has 24 bits


def test_the_unprotected_view_is_the_activation():
    x = activation(1)
    (seen,) = views_of(x)
    assert (np.rint(seen[PLAIN] * HALF) == x).all()
    assert uniformity_p_value(digits(seen[PLAIN])) < 1e-12


@pytest.mark.parametrize(("build", "sigma"), list(zip(FLOAT_BUILDS, SIGMAS, strict=True)))
def test_a_float_mask_has_the_deviation_that_it_says(build, sigma):
    x = activation(1)
    (seen,) = views_of(x)
    noise = seen[build] * HALF - x
    assert noise.std() == pytest.approx(sigma * x.std(), rel=0.1)
    assert np.corrcoef(seen[build].ravel(), x.ravel())[0, 1] == pytest.approx(1 / np.hypot(1, sigma), abs=0.1)


def test_a_reused_mask_cancels():
    first, second = activation(1), activation(2)
    seen = views_of(first, second)[1]
    assert (np.rint(seen[REUSED] * HALF) == second - first).all()


def test_the_earlier_picture_stays_the_reference():
    x, maker = activation(1), ViewMaker(np.random.default_rng(0), {})
    maker.views("slice", exchange(x))
    later = ViewMaker(np.random.default_rng(1), maker.first).views("slice", exchange(activation(2)))
    assert (np.rint(later[REUSED] * HALF) == activation(2) - x).all()


@pytest.mark.parametrize("view", [OURS, DIFFERENCES, SHARE])
def test_ours_is_uniform_and_tells_nothing_of_x(view):
    x = activation(1)
    seen = views_of(activation(2), x)[1]
    assert_uniform(digits(seen[view]), view)
    assert abs(np.corrcoef(seen[view].ravel(), x.ravel())[0, 1]) < 6 / np.sqrt(x.size)


def test_our_masks_differ_where_reused_ones_do_not():
    x = activation(1)
    again = views_of(x, x)[1]
    assert not again[REUSED].any()
    assert np.abs(again[DIFFERENCES]).mean() == pytest.approx(0.5, abs=0.05)


def test_every_party_holds_something_on_every_build():
    held = {(build, party): held_views(build, party) for build in BUILDS for party in PARTIES}
    assert {view for views in held.values() for view in views} == {*VIEWS, SIZES, *RELAY_VIEWS, RELAY_SIZES}
    assert held["ours", "evaluator"] == (OURS, DIFFERENCES)
    assert held["ours_relay", "evaluator"] == (RELAY, RELAY_DIFFERENCES)
    assert {held["none", party] for party in PARTIES} == {(PLAIN,)}


class FakeRecorder:
    """A transcript of two steps with two halves, and of a slice that is asked once."""

    def __init__(self):
        self.x = {("in", i): activation(i) for i in range(4)} | {("prompt", 0): activation(9)}

    def counts(self):
        return {"in": 4, "prompt": 1}

    def take(self, name, index):
        return exchange(self.x[name, index])


def test_features_hold_the_maps_and_the_means_of_channels():
    recorder = FakeRecorder()
    layout = Layout.of(recorder.counts(), "in", (0, 1), 2)
    assert layout.requests == {"in": ((0, 1), (2, 3)), "prompt": ((0,),)}
    features = ViewMaker(np.random.default_rng(0), {}).features(recorder, layout)
    assert set(features) == {f"{view}.{part}" for view in VIEWS for part in ("maps", "pooled")}
    maps = np.concatenate([recorder.x["in", i][0].transpose(2, 0, 1) for i in range(4)])
    assert (np.rint(features["none.maps"] * HALF) == maps).all()
    halves = [(recorder.x["in", i] + recorder.x["in", i + 1]) / 2 for i in (0, 2)]
    expected = np.concatenate([each.mean(axis=(0, 1, 2)) for each in (*halves, recorder.x["prompt", 0])])
    assert features["none.pooled"] * HALF == pytest.approx(expected, rel=1e-3, abs=1)
