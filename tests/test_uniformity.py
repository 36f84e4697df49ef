import os
from itertools import combinations, pairwise
from math import comb, exp, log

import numpy as np
import pytest
from uniformity import (
    FALSE_ALARM,
    FEWEST,
    assert_fresh_masks,
    assert_uniform,
    smallest_difference_p_value,
    tail_bound,
    uniformity_p_value,
)


def counts_of(draws, cells):
    """Every way in which `draws` can fall into `cells`."""
    for bars in combinations(range(draws + cells - 1), cells - 1):
        yield tuple(b - a - 1 for a, b in pairwise((-1, *bars, draws + cells - 1)))


@pytest.mark.parametrize(("draws", "cells"), [(3, 2), (40, 2), (20, 3), (16, 4), (10, 5)])
def test_the_bound_holds_exactly(draws, cells):
    """Against the exact distribution of G, by enumeration."""
    exact = []
    for counts in counts_of(draws, cells):
        ways, left = 1, draws
        for count in counts:
            ways, left = ways * comb(left, count), left - count
        g = sum(count * log(count * cells / draws) for count in counts if count)
        exact.append((g, ways / cells**draws))
    assert sum(p for _, p in exact) == pytest.approx(1)
    for g, _ in exact:
        tail = sum(p for other, p in exact if other >= g - 1e-9)
        assert tail <= tail_bound(g, cells) * (1 + 1e-12)


def test_the_bound_is_no_looser_than_it_needs_to_be():
    assert tail_bound(0.0, 256) == tail_bound(255.0, 256) == 1.0
    assert tail_bound(30.0, 2) == pytest.approx(exp(-30) * exp(1) * 30)
    assert tail_bound(400.0, 256) < FALSE_ALARM  # 0.1 bits per byte of 1 kB


@pytest.mark.parametrize("shape", [(64,), (1000,), (4, 64), (3, 5, 7, 11), (4, 2, 16, 16, 8)])
def test_uniform_bytes_pass(shape):
    for _ in range(20):
        content = np.frombuffer(os.urandom(int(np.prod(shape))), np.uint8).reshape(shape)
        assert_uniform(content)
        assert_uniform(content.tobytes())


def test_there_are_never_more_bits_than_a_byte_has():
    assert_uniform(os.urandom(9_000_000))  # enough pairs for 2**18 cells


@pytest.mark.parametrize("bits", [16, 24, 32])
def test_independent_messages_pass(bits):
    messages = [np.frombuffer(os.urandom(4 * 500), np.uint32) & np.uint32(2**bits - 1) for _ in range(20)]
    assert_fresh_masks(messages, bits)


@pytest.mark.parametrize(
    "content",
    [
        bytes(FEWEST),
        bytes(range(64)),
        bytes(range(32)) * 2,
        b"\x80" * 200,
        bytes(range(256)) * 20,  # every byte as often as any other, but in order
        np.arange(4 * 256, dtype=np.uint8).reshape(4, 256),
        np.repeat(np.frombuffer(os.urandom(512), np.uint8), 8),
        np.tile(np.frombuffer(os.urandom(512), np.uint8), (4, 1)),
        np.tile(np.frombuffer(os.urandom(4 * 256), np.uint8).reshape(4, 1, 256), (1, 6, 1)),
        np.tile(np.frombuffer(os.urandom(4 * 4 * 256), np.uint8).reshape(4, 4, 256), (1, 2, 1)),
    ],
    ids=[
        "zeros",
        "short ramp",
        "low",
        "one byte",
        "counter",
        "counters",
        "runs",
        "equal limbs",
        "equal rows",
        "halves",
    ],
)
def test_patterns_are_noticed(content):
    assert uniformity_p_value(content) < FALSE_ALARM
    with pytest.raises(AssertionError, match=r"the view is not uniform: p < \d"):
        assert_uniform(content, "the view")


def test_one_uneven_limb_of_four_is_noticed():
    content = np.frombuffer(os.urandom(4 * 1000), np.uint8).reshape(4, 1000).copy()
    content[2] &= 0x7F
    assert uniformity_p_value(content) < FALSE_ALARM


def test_pairs_that_depend_on_each_other_are_noticed():
    """Bit 7 of every second byte is bit 6 of the one before: bytes and differences are uniform, pairs are not."""
    content = np.frombuffer(os.urandom(4000), np.uint8).reshape(-1, 2).copy()
    content[:, 1] = (content[:, 1] & 0x7F) | ((content[:, 0] & 0x40) << 1)
    assert uniformity_p_value(content.tobytes()) < FALSE_ALARM
    assert_uniform(np.ascontiguousarray(content[:, 1]))
    assert_uniform(np.ascontiguousarray(content[:, 1] - content[:, 0]))


@pytest.mark.parametrize("bits", [16, 24, 32])
def test_one_shared_mask_among_many_is_noticed(bits):
    messages = [np.frombuffer(os.urandom(4 * 100), np.uint32) & np.uint32(2**bits - 1) for _ in range(12)]
    small = np.random.default_rng(2).integers(-50, 50, 100)
    messages[7] = (messages[3] + small.astype(np.uint32)) & np.uint32(2**bits - 1)
    assert smallest_difference_p_value(messages, bits) < FALSE_ALARM
    with pytest.raises(AssertionError, match="two of 12 steps share a mask"):
        assert_fresh_masks(messages, bits, "steps")


def test_too_little_to_fail_on_is_refused():
    few = bytes(FEWEST - 1)
    with pytest.raises(ValueError, match="63 values; expected at least 64"):
        uniformity_p_value(few)
    with pytest.raises(ValueError, match="63 values; expected at least 64"):
        uniformity_p_value(np.zeros((4, 63), np.uint8))
    with pytest.raises(ValueError, match="63 values; expected at least 64"):
        smallest_difference_p_value([np.zeros(63, np.uint32)] * 2)


def test_other_arguments_are_refused():
    with pytest.raises(ValueError, match="got int64; expected bytes"):
        uniformity_p_value(np.zeros(100, np.int64))
    for messages in ([np.zeros(100, np.uint32)], [np.zeros(100, np.uint32), np.zeros(101, np.uint32)]):
        with pytest.raises(ValueError, match="expected two or more messages of one shape"):
            smallest_difference_p_value(messages)
