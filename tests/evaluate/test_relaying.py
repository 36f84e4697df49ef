"""What is recorded in relay mode is what parties hold together, and uniform; a mask that is missing would show."""

import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tools.evaluate.relay_transcripts import PRECISION, RelayRecorder
from tools.evaluate.relaying import RelayViewMaker
from tools.evaluate.views import RELAY, RELAY_DIFFERENCES, RELAY_SHARE, RELAY_VIEWS, Layout
from uniformity import assert_uniform, uniformity_p_value

from ppidm.client.exchange import Mode
from ppidm.client.servers import Servers
from ppidm.protocol.linear import ANSWER_RING, apply
from ppidm.protocol.precision import restore, truncate

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools" / "attacks"))
RING, SHAPE, REQUESTS = PRECISION.ring, (1, 12, 12, 8), 4


def draw(audit, requests=REQUESTS):
    """Requests of ppidm's own client in relay mode; the recorder, the slice, and the activations as they were encoded."""
    parties, relaying = import_module("parties"), import_module("relaying")
    rng = np.random.default_rng()
    held = parties.Slice.draw(rng)
    slices = {held.name: held}
    evaluator = relaying.RelayEvaluator("evaluator", slices, parties.honest, RING)
    dealer = relaying.RelayDealer("dealer", 0, slices, evaluator, RING)
    recorder = RelayRecorder(lambda _name, digits: [product(held, digits).view(np.int32)])
    recorded = recorder.around(Servers(evaluator, (dealer,)))
    client = parties.client_of([held], list(recorded.all), SHAPE, PRECISION, audit, Mode.RELAY)
    activations = [parties.draw_activation(rng, SHAPE) for _ in range(requests)]
    for x in activations:
        client(held.name, x)
    return SimpleNamespace(recorder=recorder, held=held, activations=activations)


def product(held, digits):
    return apply(held.layer, held.weights, digits, ANSWER_RING)


def digits_of(view):
    """float32 has 24 bits."""
    return RING.to_digits(RING.reduce((view.astype(np.float64) * 2.0 ** (RING.bits - 1)).astype(np.int64)))[1:]


def test_an_exchange_is_what_the_evaluator_held_and_answered():
    drawn = draw(audit=0.0)
    for index, x in enumerate(drawn.activations):
        taken = drawn.recorder.take(drawn.held.name, index)
        total = (product(drawn.held, RING.to_digits(taken.masked)) + taken.dealt[0]) & RING.mask
        answered = restore(truncate(RING, total, PRECISION.dropped_bits), PRECISION.dropped_bits)
        assert np.array_equal(taken.answered[0], answered)
        assert np.corrcoef(taken.encoded.ravel(), x.ravel())[0, 1] > 0.999999


def test_an_audit_is_the_same_request_and_more_bytes():
    plain, audited = draw(audit=0.0).recorder, draw(audit=1.0).recorder
    assert plain.counts() == audited.counts() == {"down.conv": REQUESTS}
    (messages, size), (more, larger) = plain.lengths(), audited.lengths()
    assert (messages, more) == (2 * REQUESTS, 4 * REQUESTS)
    assert larger > 2 * size  # whole answers are longer
    audited.clear()
    assert (audited.counts(), audited.lengths().size) == ({}, 0)


@pytest.mark.parametrize("view", RELAY_VIEWS)
def test_all_that_a_party_holds_together_is_uniform(view):
    drawn, maker = draw(audit=0.0, requests=8), RelayViewMaker(RING, {})
    seen = [maker.views(drawn.held.name, drawn.recorder.take(drawn.held.name, index))[view] for index in range(8)]
    parts = [np.concatenate([each[part].ravel() for each in seen[1:]]) for part in range(2)]  # answers are truncated
    for part in parts:
        assert_uniform(digits_of(part), view)
    both = [part for each in seen[1:] for part in each[:2]]
    x = drawn.activations[1].ravel()
    assert abs(np.corrcoef(both[0].ravel(), x)[0, 1]) < 6 / np.sqrt(x.size)


def test_without_the_mask_on_answers_the_view_is_the_result():
    """The control: W x, as a weak build would show it to the evaluator, is far from uniform, and found in the view."""
    drawn = draw(audit=0.0)
    taken = drawn.recorder.take(drawn.held.name, 0)
    result = product(drawn.held, RING.to_digits(RING.reduce(taken.encoded)))
    weak = type(taken)(taken.ring, taken.masked, taken.share, taken.dealt, [result])
    answered = RelayViewMaker(RING, {}).views("slice", weak)[RELAY][-1]
    assert uniformity_p_value(digits_of(answered)) < 1e-12


def test_features_hold_maps_and_means_of_every_part():
    drawn = draw(audit=0.0)
    name, first = drawn.held.name, {}
    layout = Layout.of(drawn.recorder.counts(), name, (0, 1), 2)
    features = RelayViewMaker(RING, first).features(drawn.recorder, layout)
    assert set(features) == {f"{view}.{part}" for view in RELAY_VIEWS for part in ("maps", "pooled")}
    widths = {RELAY: 8 + 2 * 6, RELAY_DIFFERENCES: 8 + 2 * 6, RELAY_SHARE: 8 + 6}
    assert {view: features[f"{view}.pooled"].size for view in RELAY_VIEWS} == {v: 2 * n for v, n in widths.items()}
    assert features["relay.maps"].shape == (REQUESTS * (8 + 2 * 6), 12, 12)
    half = 2.0 ** (RING.bits - 1)
    masked = RING.signed(drawn.recorder.take(name, 2).masked) / half
    other = RING.signed(drawn.recorder.take(name, 3).masked) / half
    expected = (masked + other).mean(axis=(0, 1, 2)) / 2
    assert features["relay.pooled"][20:28] == pytest.approx(expected, rel=1e-3, abs=1e-6)
    assert not features["relay_differences.maps"][:8].any()  # the first request, less itself
