"""What an evaluator sees is uniform, and these tests would notice if it were not.

False alarms: at most `uniformity.FALSE_ALARM`, 1e-12, per assertion. Every broken build below fails for certain.
"""

import numpy as np
import pytest
from linear_cases import random_weights, with_norm
from uniformity import assert_fresh_masks, assert_uniform, smallest_difference_p_value, uniformity_p_value

from ppidm.protocol.check import draw_check
from ppidm.protocol.fixed_point import encode, largest_scale
from ppidm.protocol.linear import Layer
from ppidm.protocol.masks import Mask, dealer_share
from ppidm.protocol.messages import parse_request
from ppidm.protocol.prg import Seed
from ppidm.protocol.ring import Ring
from ppidm.protocol.run import run_protocol

REQUESTS = 8
BROKEN = 1e-50  # what a broken build's p-value must stay below
LAYERS = {
    "convolution": Layer(
        name="convolution", kind="convolution", in_channels=8, out_channels=4, kernel=(3, 3), pads=(1, 1, 1, 1)
    ),
    "product": Layer(name="product", kind="product", in_channels=16, out_channels=4),
}
slices = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
rings = pytest.mark.parametrize("ring", [Ring(24), Ring(32)], ids=["k=24", "k=32"])


def smooth_activations(layer):
    """Activations of a slice over several steps: smooth in space, and little different from step to step."""
    rng = np.random.default_rng(8)
    rows, columns, channels = np.meshgrid(
        np.linspace(0, 3, 16), np.linspace(0, 2, 16), rng.normal(size=layer.in_channels), indexing="ij"
    )
    for step in range(REQUESTS):
        picture = (
            np.sin(rows + channels) * np.cos(columns * channels) + 0.05 * step + 0.01 * rng.normal(size=rows.shape)
        )
        shape = (-1, layer.in_channels) if layer.kind == "product" else (1, 16, 16, layer.in_channels)
        yield picture.reshape(shape).astype(np.float32)


def encoded(layer, ring, dealers=1):
    """Layer and weights, and the activations as the client encodes them."""
    weights = random_weights(np.random.default_rng(9), layer, bits=ring.bits // 4 + 2)
    layer = with_norm(layer, weights)
    inputs = [encode(x, largest_scale(ring, [layer], x, dealers)) for x in smooth_activations(layer)]
    return layer, weights, inputs


@slices
@rings
@pytest.mark.parametrize("dealers", [1, 2, 3])
def test_what_the_evaluator_receives_is_uniform(layer, ring, dealers):
    layer, weights, inputs = encoded(layer, ring, dealers)
    checks = [draw_check(layer, weights)]
    seen = []
    for x in inputs:
        seeds = [Seed.fresh() for _ in range(dealers)]
        _, transcript = run_protocol(ring, [layer], [weights], checks, x, seeds)
        seen.append(parse_request(transcript.requests[0], [layer], ring).digits)
        assert_uniform(seen[-1], "a request")
        assert_uniform(transcript.requests[0][0].content, "its bytes")
    assert_uniform(np.concatenate(seen, axis=1), "all requests together")
    assert_fresh_masks([ring.from_digits(digits) for digits in seen], ring.bits, "requests")


@slices
@rings
def test_unmasked_activations_are_noticed(layer, ring):
    *_, inputs = encoded(layer, ring)
    for x in inputs:
        assert uniformity_p_value(ring.to_digits(ring.reduce(x))) < BROKEN
        assert uniformity_p_value(ring.to_digits(ring.reduce(x)).tobytes()) < BROKEN


@slices
@rings
def test_float_masks_are_noticed(layer, ring):
    """The activation plus noise of 100 times its deviation, then encoded: what some published systems call masking."""
    layer, *_ = encoded(layer, ring)
    rng = np.random.default_rng()
    for x in smooth_activations(layer):
        masked = (x + 100 * x.std() * rng.normal(size=x.shape)).astype(np.float32)
        digits = ring.to_digits(ring.reduce(encode(masked, largest_scale(ring, [layer], masked, 1))))
        assert uniformity_p_value(digits) < BROKEN


@slices
@rings
def test_float_masks_that_fill_the_ring_are_noticed(layer, ring):
    """The hardest case: the noise uses the whole ring, five standard deviations wide."""
    rng = np.random.default_rng()
    noise = rng.normal(size=next(smooth_activations(layer)).shape) * 2.0 ** (ring.bits - 1) / 5
    assert uniformity_p_value(ring.to_digits(ring.reduce(np.rint(noise).astype(np.int64)))) < BROKEN


@slices
@rings
def test_a_mask_that_is_used_twice_is_noticed(layer, ring):
    *_, inputs = encoded(layer, ring)
    again = Seed.fresh()
    seeds = [again if number in {2, 5} else Seed.fresh() for number in range(REQUESTS)]
    seen = [ring.from_digits(Mask(ring, x.shape, [s]).hide(ring.reduce(x))) for s, x in zip(seeds, inputs, strict=True)]
    assert smallest_difference_p_value(seen, ring.bits) < BROKEN
    for message in seen:  # one by one they look fine: only differences tell
        assert_uniform(ring.to_digits(message))


@rings
def test_masks_that_repeat_within_a_request_are_noticed(ring):
    *_, inputs = encoded(LAYERS["convolution"], ring)
    x = ring.reduce(inputs[0])
    for repeated in [(1, 1, 16, 8), (1, 16, 1, 8), (1, 16, 16, 1)]:
        mask = np.broadcast_to(ring.from_digits(dealer_share(ring, Seed.fresh(), repeated)), x.shape)
        assert uniformity_p_value(ring.to_digits((x - mask) & ring.mask)) < BROKEN


@rings
def test_equal_masks_of_the_halves_of_a_batch_are_noticed(ring):
    *_, (first, second, *_) = encoded(LAYERS["convolution"], ring)
    half = ring.from_digits(dealer_share(ring, Seed.fresh(), first.shape))
    batch = ring.reduce(np.concatenate([first, second])) - np.concatenate([half, half])
    assert uniformity_p_value(ring.to_digits(batch & ring.mask)) < BROKEN


@rings
def test_one_keystream_for_all_limbs_is_noticed(ring):
    *_, inputs = encoded(LAYERS["convolution"], ring)
    x = ring.reduce(inputs[0])
    mask = np.repeat(dealer_share(Ring(16), Seed.fresh(), x.shape)[:1], ring.limbs, axis=0)
    assert uniformity_p_value(ring.to_digits((x - ring.from_digits(mask)) & ring.mask)) < BROKEN


@rings
def test_a_limb_in_the_clear_is_noticed(ring):
    *_, inputs = encoded(LAYERS["convolution"], ring)
    x = inputs[0]
    for limb in range(1, ring.limbs):  # the lowest limb of an activation is noise
        digits = Mask.fresh(ring, x.shape, 1).hide(ring.reduce(x)).copy()
        digits[limb] = ring.to_digits(ring.reduce(x))[limb]
        assert uniformity_p_value(digits) < BROKEN
