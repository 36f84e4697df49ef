"""What an evaluator sees in relay mode: for every request x - r and W r + s, uniform each and together."""

import numpy as np
import pytest
from uniformity import FALSE_ALARM, assert_fresh_masks, assert_uniform, smallest_difference_p_value, uniformity_p_value

from ppidm.protocol.linear import ANSWER_RING, Layer, apply
from ppidm.protocol.masks import Mask, dealer_share
from ppidm.protocol.messages import Tensor
from ppidm.protocol.prg import Seed
from ppidm.protocol.relay import mask_out, relayed_tensors
from ppidm.protocol.ring import Ring

LAYER = Layer(name="layer", kind="product", in_channels=24, out_channels=24)
SHAPE = (40, 24)
WEIGHTS = 2 * np.eye(24, dtype=np.int64).reshape(24, 24, 1, 1)  # W r has no lowest bit, and is hardly larger than r
rings = pytest.mark.parametrize("ring", [Ring(24), Ring(32)], ids=["k=24", "k=32"])


def view(ring, seeds):
    """Masked zeros, and what each dealer relays, as digits."""
    masked = Mask(ring, SHAPE, seeds).hide(np.zeros(SHAPE, np.uint32))
    return masked, [relayed(ring, seed) for seed in seeds]


def product(ring, seed):
    return apply(LAYER, WEIGHTS, dealer_share(ring, seed, SHAPE), ANSWER_RING)


def relayed(ring, seed):
    [tensor] = relayed_tensors(ring, seed, [product(ring, seed).view(np.int32)])
    assert isinstance(tensor, Tensor)
    return tensor.array("UINT8")


@rings
def test_everything_is_uniform_alone_and_together(ring):
    for _ in range(5):
        masked, shares = view(ring, [Seed.fresh(), Seed.fresh()])
        for digits in (masked, *shares, masked - shares[0], masked + shares[0], shares[0] - shares[1]):
            assert_uniform(np.ascontiguousarray(digits))


@rings
def test_no_two_share_a_mask(ring):
    seeds = [Seed.fresh() for _ in range(6)]
    assert_fresh_masks([ring.from_digits(relayed(ring, seed)) for seed in seeds], ring.bits)
    assert_fresh_masks([mask_out(ring, seeds[0], index, SHAPE) for index in range(4)], ring.bits)


def test_without_s_it_is_not_uniform():
    """The control, and the reason for s: W r tells about r."""
    ring = Ring(32)
    seed = Seed.fresh()
    assert not (product(ring, seed) & 1).any()
    assert 0.4 < (ring.from_digits(relayed(ring, seed)) & 1).mean() < 0.6


def test_bits_above_the_ring_would_not_be_uniform():
    """The control: a share in Z_2^24 that were sent as an int32 would show the high byte of W r."""
    ring, seed = Ring(24), Seed.fresh()
    unreduced = product(ring, seed) + mask_out(ring, seed, 0, SHAPE)
    top = np.ascontiguousarray((unreduced >> 24).astype(np.uint8))
    assert uniformity_p_value(top[None]) < FALSE_ALARM


def test_one_mask_for_two_shares_is_found():
    ring, seed = Ring(32), Seed.fresh()
    shares = [ring.from_digits(relayed(ring, each)) for each in (seed, Seed.fresh(), seed)]
    assert smallest_difference_p_value(shares, 32) < FALSE_ALARM
