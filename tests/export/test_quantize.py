"""Weights as integers, and the bound that makes float32 products of them exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppidm.export.quantize import MAX_PARTS, best_bits, proof_of, quantize_layer, split_for_exactness
from ppidm.protocol.errors import UnsupportedError
from ppidm.protocol.fixed_point import encode, largest_scale
from ppidm.protocol.linear import Layer
from ppidm.protocol.records import EXACT_FLOAT32
from ppidm.protocol.ring import Ring

LARGEST = 2047


def layer_of(shape, groups=1):
    kind = "convolution" if shape[2:] != (1, 1) or groups > 1 else "product"
    channels = {"in_channels": shape[1] * groups, "out_channels": shape[0], "groups": groups}
    return Layer(name="some.layer", kind=kind, kernel=shape[2:], **channels)


def quantized(weights, bias=None, **options):
    weights = np.asarray(weights, np.float32)
    bias = np.zeros(len(weights), np.float32) if bias is None else np.asarray(bias, np.float32)
    return quantize_layer(layer_of(weights.shape), weights, bias, **options)


def bound_by_hand(rows):
    """Twelve standard deviations of sum (digit * w), plus the mean."""
    variance_of_a_digit = np.var(np.arange(-128, 128))
    return max(12 * np.sqrt(variance_of_a_digit * (row**2).sum()) + np.abs(row).sum() / 2 for row in rows)


def worst_part(weights, parts):
    pieces = np.array_split(weights.astype(float), parts, axis=1)
    return max(bound_by_hand(piece.reshape(len(piece), -1)) for piece in pieces)


@pytest.mark.parametrize("bits", [2, 8, 10, 12])
def test_integers_times_scales_are_the_weights(bits):
    weights = np.random.default_rng(0).standard_normal((6, 5, 3, 2)).astype(np.float32)
    weights *= 10.0 ** np.arange(-3, 3)[:, None, None, None]
    got = quantized(weights, bits=bits)
    assert (np.abs(got.weights).reshape(6, -1).max(axis=1) == 2 ** (bits - 1) - 1).all()
    error = np.abs(got.weights * got.scales.astype(np.float64)[:, None, None, None] - weights)
    assert (error <= got.scales[:, None, None, None] * 0.5001).all()


def test_types_and_what_is_passed_on():
    bias = np.array([1.5, -2], np.float32)
    got = quantized(np.ones((2, 3, 1, 1)), bias)
    assert (got.weights.dtype, got.scales.dtype, got.scales.shape) == (np.int64, np.float32, (2,))
    np.testing.assert_array_equal(got.bias, bias)
    assert got.layer.name == "some.layer"


def test_norm_is_that_of_the_integers():
    got = quantized([[[[1.0]], [[0.5]]], [[[0.0]], [[3.0]]]])
    assert got.layer.weight_norm == pytest.approx(np.hypot(LARGEST, 1024))


# degenerate weights


def test_a_channel_of_zeros():
    got = quantized([[[[0.0]]], [[[2.0]]]])
    np.testing.assert_array_equal(got.weights.reshape(-1), [0, LARGEST])
    assert got.scales[0] > 0
    assert quantized(np.zeros((2, 3, 1, 1))).layer.bound == 0


@pytest.mark.parametrize("size", [1e-45, 1e-42, 1e-38, 1e-31, 1e-30, 1e-20, 3.4e38])
def test_weights_of_any_size(size):
    got = quantized(np.array([1.0, -0.5]).reshape(1, 2, 1, 1) * size)
    assert np.isfinite(got.scales).all()
    assert got.scales[0] > 0
    error = got.weights.reshape(-1) * got.scales.astype(np.float64) - np.array([size, -size / 2])
    assert np.abs(error).max() <= max(got.scales[0] if size > 1e-30 else 0, 1e-30)
    assert np.abs(got.weights).max() in {0, LARGEST}


def test_one_huge_weight_costs_its_channel_only():
    weights = np.full((2, 4, 1, 1), 0.01, np.float32)
    weights[0, 0] = 1e6
    got = quantized(weights)
    np.testing.assert_array_equal(got.weights[0].reshape(-1), [LARGEST, 0, 0, 0])
    np.testing.assert_array_equal(got.weights[1].reshape(-1), [LARGEST] * 4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(value):
    with pytest.raises(UnsupportedError, match=r"some\.layer: weights hold inf or nan"):
        quantized([[[[1.0]], [[value]]]])
    with pytest.raises(UnsupportedError, match="inf or nan"):
        quantized([[[[1.0]]]], bias=[value])


def test_more_bits_than_a_slice_can_hold_are_refused():
    with pytest.raises(AssertionError):
        quantized([[[[1.0]]]], bits=13)
    assert np.array_equal(np.arange(-2048, 2049).astype(np.float16), np.arange(-2048, 2049))
    assert float(np.float16(2049)) != 2049


# the bound


@given(
    st.integers(1, 4), st.integers(1, 40), st.sampled_from([(1, 1), (3, 3), (8, 8)]), st.integers(0, 2**32 - 1),
    st.sampled_from([3, 300, LARGEST]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_parts_are_the_fewest_that_do(out, channels, kernel, seed, largest):
    weights = np.random.default_rng(seed).integers(-largest, largest + 1, (out, channels, *kernel))
    parts, bound = split_for_exactness(layer_of(weights.shape), weights)
    assert bound == pytest.approx(worst_part(weights, parts))
    assert bound < EXACT_FLOAT32
    assert all(worst_part(weights, fewer) >= EXACT_FLOAT32 for fewer in range(1, parts))


@pytest.mark.parametrize(("channels", "expected"), [(84, 1), (85, 2), (400, 5)])
def test_parts_of_the_largest_weights(channels, expected):
    weights = np.full((1, channels, 1, 1), LARGEST)
    assert split_for_exactness(layer_of(weights.shape), weights)[0] == expected


def test_a_usual_layer_is_not_split():
    """Gaussian weights whose largest is four deviations: more than a thousand values of a row fit."""
    weights = np.random.default_rng(1).standard_normal((4, 1200, 1, 1)).clip(-4, 4)
    weights[:, 0] = 4
    assert quantized(weights).layer.parts == 1
    assert quantized(np.concatenate([weights] * 2, axis=1)).layer.parts == 2


def test_groups_are_not_split():
    weights = np.full((2, 85, 1, 1), LARGEST)
    with pytest.raises(UnsupportedError, match=r"some\.layer: 170 input channels in 2 groups.* in 1 parts.*2\*\*24"):
        split_for_exactness(layer_of(weights.shape, groups=2), weights)
    assert split_for_exactness(layer_of((2, 40, 1, 1), groups=2), weights[:, :40])[0] == 1


def test_what_no_split_makes_exact_is_refused():
    with pytest.raises(UnsupportedError, match="in 3 parts"):
        split_for_exactness(layer_of((1, 3, 10, 10)), np.full((1, 3, 10, 10), LARGEST))
    with pytest.raises(UnsupportedError, match=f"in {MAX_PARTS} parts"):
        split_for_exactness(layer_of((1, 6000, 1, 1)), np.full((1, 6000, 1, 1), LARGEST))


@pytest.mark.parametrize("orders", ["as stored", "shuffled", "positive weights first"])
@pytest.mark.parametrize("kind", ["gaussian", "one sign", "ends"])
def test_no_partial_sum_leaves_the_bound(kind, orders):
    """Float32 sums of uniform digits, in any order that does not depend on the digits, equal those of integers."""
    rng = np.random.default_rng(2)
    raw = {"gaussian": rng.standard_normal(500), "one sign": rng.random(200), "ends": rng.choice([-1.0, 1.0], 80)}[kind]
    got = quantized(raw.reshape(1, -1, 1, 1))
    weights = got.weights.reshape(-1)
    assert got.layer.parts == 1
    order = {
        "as stored": np.arange(len(weights)),
        "shuffled": rng.permutation(len(weights)),
        "positive weights first": np.argsort(-weights),
    }[orders]
    digits = rng.integers(-128, 128, (4000, len(weights)))[:, order]
    terms = digits * weights[order]
    exact = np.cumsum(terms, axis=1)
    np.testing.assert_array_equal(np.cumsum(terms.astype(np.float32), axis=1, dtype=np.float32), exact)
    assert got.layer.bound / 8 < np.abs(exact).max() < got.layer.bound  # the maximum of 4,000 is at 3.5 deviations


def error_of_a_product(weights, x, bits):
    """Relative, of the integers that come back, at the scale that a client chooses."""
    got = quantized(weights[:, :, None, None], bits=bits)
    scale = largest_scale(Ring(32), [got.layer], x, dealers=1)
    y = encode(x, scale) @ got.weights[:, :, 0, 0].T / scale * got.scales
    expected = x.astype(np.float64) @ weights.astype(np.float64).T
    return np.sqrt(np.square(y - expected).mean() / np.square(expected).mean())


@pytest.mark.parametrize(("length", "fewest", "most"), [(64, 12, 12), (1280, 12, 12), (9600, 10, 11)])
@pytest.mark.parametrize("draw", ["uniform", "standard_normal"])
def test_weights_and_activations_share_the_ring(length, fewest, most, draw):
    rng = np.random.default_rng(0)
    weights = np.asarray(rng.uniform(-1, 1, (24, length)) if draw == "uniform" else rng.standard_normal((24, length)))
    x = (rng.standard_normal((60, length)) * rng.lognormal(sigma=0.3, size=(60, 1))).astype(np.float32)
    bits = best_bits(layer_of((24, length, 1, 1)), weights.astype(np.float32)[:, :, None, None])
    assert fewest <= bits <= most
    errors = {bits: error_of_a_product(weights.astype(np.float32), x, bits) for bits in range(8, 13)}
    assert errors[bits] <= 1.25 * min(errors.values())  # 2 dB


def test_bits_of_zeros_and_of_a_zero_channel():
    weights = np.random.default_rng(0).standard_normal((3, 40, 1, 1)).astype(np.float32)
    weights[1] = 0
    assert best_bits(layer_of(weights.shape), weights) == best_bits(layer_of(weights.shape), 0 * weights) == 12


@pytest.mark.parametrize(("bits", "operand_bits"), [(12, 11), (10, 9), (8, 8), (2, 8)])
def test_the_proof_covers_all_layers(bits, operand_bits):
    """Digits have 8 bits without sign, weights one less than with it."""
    rng = np.random.default_rng(0)
    layers = [quantized(rng.standard_normal((4, size, 1, 1)), bits=bits) for size in (30, 60, 10)]
    proof = proof_of(layers)
    assert proof.operand_bits == operand_bits
    assert proof.sum_bound == max(layer.layer.bound for layer in layers) == layers[1].layer.bound
