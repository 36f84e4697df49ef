"""Truncation of shares: its error bound, by enumeration of a small ring and by drawing in the large ones."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppidm.protocol.fixed_point import headroom
from ppidm.protocol.precision import Precision, restore, truncate, truncation
from ppidm.protocol.ring import Ring


@dataclass(frozen=True)
class SmallRing(Ring):
    """Of any number of bits, for enumeration."""

    def __post_init__(self):
        assert 1 < self.bits <= 16


def error(ring, y, shares, dropped_bits):
    """Of the opened sum of truncated `shares` of the signed integers `y`."""
    total = sum(restore(truncate(ring, share, dropped_bits), dropped_bits) for share in shares) & ring.mask
    return np.abs(ring.signed(total) - y)


def largest(ring, servers, dropped_bits):
    """The largest |y| that the norm rule lets through: below the headroom, by `fixed_point.MARGIN`."""
    return int(headroom(ring, servers - 1, dropped_bits)) - 1


@pytest.mark.parametrize(("bits", "dropped_bits"), [(8, 1), (8, 3), (8, 5), (10, 4)])
def test_two_shares_exhaustively(bits, dropped_bits):
    """Every result and every share: the error is at most (n + 1) / 2 = 1 unit, and reaches it."""
    ring = SmallRing(bits)
    most = largest(ring, 2, dropped_bits)
    y = np.arange(-most, most + 1)[:, None]
    share = np.arange(2**bits, dtype=np.uint32)[None]
    errors = error(
        ring, y, [ring.reduce(y - share.astype(np.int64)), share + np.zeros_like(y, np.uint32)], dropped_bits
    )
    assert errors.max() == 2**dropped_bits


def test_three_shares_exhaustively():
    ring, dropped_bits = SmallRing(7), 3
    most = largest(ring, 3, dropped_bits)
    y = np.arange(-most, most + 1)[:, None, None]
    one, two = (np.arange(128, dtype=np.int64).reshape(shape) for shape in ((1, 128, 1), (1, 1, 128)))
    zero = y * 0 + one * 0 + two * 0
    errors = error(ring, y, [ring.reduce(zero + share) for share in (y - one - two, one, two)], dropped_bits)
    assert 2**dropped_bits < errors.max() <= 3 * 2 ** (dropped_bits - 1)


@pytest.mark.parametrize(("bits", "dropped_bits"), [(8, 3), (10, 4), (12, 8)])
def test_one_share_whose_mask_is_known_exhaustively(bits, dropped_bits):
    """Relay mode: the client takes s off exactly, so the error is at most half a unit, whatever s is."""
    ring = SmallRing(bits)
    most = largest(ring, 1, dropped_bits)
    y, s = np.arange(-most, most + 1)[:, None], np.arange(2**bits)[None]
    opened = restore(truncate(ring, ring.reduce(y + s), dropped_bits), dropped_bits) - ring.reduce(s + 0 * y)
    assert np.abs(ring.signed(opened & ring.mask) - y).max() == 2 ** (dropped_bits - 1)


@pytest.mark.parametrize("bits", [24, 32])
@given(data=st.data())
def test_shares_of_the_real_rings(bits, data):
    ring, servers = Ring(bits), data.draw(st.integers(2, 5))
    dropped_bits = truncation(ring)
    most = largest(ring, servers, dropped_bits)
    y = np.array(data.draw(st.lists(st.integers(-most, most) | st.sampled_from([-most, most]), min_size=1)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    ends = np.array([0, 2 ** (dropped_bits - 1) - 1, 2 ** (dropped_bits - 1), 2**bits - 1])
    shares = [
        np.where(rng.random(y.shape) < 0.5, rng.choice(ends, y.shape), rng.integers(0, 2**bits, y.shape))
        for _ in range(servers - 1)
    ]
    parts = [ring.reduce(y - sum(shares)), *(ring.reduce(share) for share in shares)]
    assert error(ring, y, parts, dropped_bits).max() <= servers * 2 ** (dropped_bits - 1)


def test_one_more_than_the_norm_rule_lets_through_can_wrap_around():
    """The control: the headroom is not wider than it must be."""
    ring, dropped_bits = SmallRing(8), 3
    y = np.array([largest(ring, 2, dropped_bits) + 1])
    shares = np.arange(256, dtype=np.int64)
    assert (
        max(error(ring, y, [ring.reduce(y - share), ring.reduce(0 * y + share)], dropped_bits)[0] for share in shares)
        > 8
    )


@pytest.mark.parametrize(
    ("precision", "ring_bits", "weight_bits", "dropped_bits"),
    [("exact", 32, 12, 0), ("balanced", 32, 12, 16), ("fast", 24, 8, 8)],
)
def test_what_the_names_mean(precision, ring_bits, weight_bits, dropped_bits):
    named = Precision(precision)
    assert (named.ring.bits, named.weight_bits, named.dropped_bits) == (ring_bits, weight_bits, dropped_bits)
