import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_cases import LAYERS, apply_exactly, cases, random_weights, rows_exactly, with_norm

from ppidm.protocol.errors import PackageError
from ppidm.protocol.fixed_point import decode, encode, headroom, largest_scale
from ppidm.protocol.linear import Layer
from ppidm.protocol.ring import Ring

WEIGHT_BITS = {16: 5, 24: 8, 32: 12}
FLOAT32 = np.finfo(np.float32)


def scaled_to(values, largest):
    """`values` with `largest` as the largest magnitude."""
    return (values / (np.abs(values).max() or 1.0) * largest).astype(np.float32)


def aligned(layer, weights, shape, position, channel):
    """An input whose row at one output position *is* the kernel of `channel`: Cauchy-Schwarz with equality."""
    numbers = np.arange(1, 1 + math.prod(shape)).reshape(shape)
    rows = [groups[channel // (layer.out_channels // layer.groups)] for groups in rows_exactly(layer, numbers)]
    x = np.zeros(shape)
    for number, weight in zip(rows[position % len(rows)], weights[channel].reshape(-1), strict=True):
        if number:  # 0 is padding
            x.flat[number - 1] = weight
    return x


@st.composite
def activations(draw, weight_bits):
    """Layers that share an input, their weights, and an input of any size and kind."""
    case = draw(cases(x_bits=24, weight_bits=weight_bits))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weights = [case.weights, random_weights(rng, case.layer, weight_bits)][: draw(st.integers(1, 2))]
    x = case.x.astype(np.float64)
    kind = draw(st.sampled_from(["any", "sparse", "aligned", "against"]))
    if kind == "sparse":
        x *= rng.random(x.shape) < 0.1
    elif kind != "any":
        channel = int(np.argmax(np.square(case.weights).reshape(len(case.weights), -1).sum(axis=1)))
        x = aligned(case.layer, case.weights, x.shape, draw(st.integers(0, 30)), channel)
        x = -x if kind == "against" else x
    largest = 10 ** draw(st.floats(-44, 38))
    return [with_norm(case.layer, w) for w in weights], weights, scaled_to(x, largest)


@pytest.mark.parametrize("bits", [16, 24, 32])
@settings(max_examples=100)
@given(data=st.data())
def test_no_result_can_leave_the_ring(bits, data):
    ring, dealers = Ring(bits), data.draw(st.integers(1, 4))
    layers, weights, x = data.draw(activations(WEIGHT_BITS[bits]))
    scale = largest_scale(ring, layers, x, dealers)
    assert 0 < scale < math.inf
    integers = encode(x, scale)
    assert np.abs(integers).max() < 2**31
    for layer, w in zip(layers, weights, strict=True):
        assert np.abs(apply_exactly(layer, w, integers)).max() <= headroom(ring, dealers) < 2 ** (bits - 1)


@pytest.mark.parametrize("bits", [24, 32])
@pytest.mark.parametrize("name", ["product", "convolution", "grouped"])
@pytest.mark.parametrize("largest", [1e-40, 1.0, 1e38])
def test_the_scale_is_the_largest_up_to_one_percent(bits, name, largest):
    ring = Ring(bits)
    layer = LAYERS[name].model_copy(update={"pads": (0, 0, 0, 0)})
    weights = random_weights(np.random.default_rng(1), layer, WEIGHT_BITS[bits])
    layer = with_norm(layer, weights)
    channel = int(np.argmax(np.square(weights).reshape(len(weights), -1).sum(axis=1)))
    shape = (1, layer.in_channels) if layer.kind == "product" else (1, 3, 5, layer.in_channels)
    x = scaled_to(aligned(layer, weights, shape, 0, channel), largest)
    scale = largest_scale(ring, [layer], x, 1)
    assert np.abs(apply_exactly(layer, weights, encode(x, scale))).max() < 2 ** (bits - 1)
    assert np.abs(apply_exactly(layer, weights, encode(x, scale * 1.01))).max() >= 2 ** (bits - 1)


def test_the_most_demanding_layer_decides():
    small, large = (
        Layer(name=name, kind="product", in_channels=4, out_channels=1, weight_norm=norm)
        for name, norm in [("small", 2.0**7), ("large", 2.0**9)]
    )
    x = np.ones((1, 4), np.float32)
    ring = Ring(32)
    both, reverse = (largest_scale(ring, layers, x, 1) for layers in ([small, large], [large, small]))
    assert both == reverse == largest_scale(ring, [large], x, 1)
    assert largest_scale(ring, [small], x, 1) == pytest.approx(4 * both, rel=1e-5)


def test_values_that_no_row_holds_still_fit_an_int32():
    layer = Layer(name="skip", kind="convolution", in_channels=1, out_channels=1, strides=(2, 2), weight_norm=1.0)
    x = np.array([[1e-3, 1e6], [0, 0]], np.float32).reshape(1, 2, 2, 1)  # strides skip the 1e6
    integers = encode(x, largest_scale(Ring(32), [layer], x, 1))
    assert 2**31 * 0.99 < integers.max() < 2**31


def test_an_activation_that_strides_skip_altogether():
    layer = Layer(name="skip", kind="convolution", in_channels=1, out_channels=1, strides=(2, 2), weight_norm=1.0)
    x = np.array([[0, 3], [5, 7]], np.float32).reshape(1, 2, 2, 1)
    assert encode(x, largest_scale(Ring(32), [layer], x, 1)).max() < 2**31


def test_zeros_have_the_scale_1():
    layer = Layer(name="p", kind="product", in_channels=4, out_channels=1, weight_norm=3.0)
    assert largest_scale(Ring(32), [layer], np.zeros((3, 4), np.float32), 1) == 1.0


@pytest.mark.parametrize("value", [FLOAT32.smallest_subnormal, FLOAT32.tiny, 1e38, FLOAT32.max, -FLOAT32.max])
def test_the_ends_of_float32(value):
    layer = Layer(name="p", kind="product", in_channels=4, out_channels=1, weight_norm=2.0)  # weights 1, 1, 1, 1
    x = np.full((1, 4), value, np.float32)
    scale = largest_scale(Ring(32), [layer], x, 1)
    integers = encode(x, scale)
    y = integers.sum(axis=1, keepdims=True)
    assert 2**31 * 0.99 < np.abs(y).max() < 2**31
    opened = decode(y, scale, np.array([0.25], np.float32), np.zeros(1, np.float32))
    assert opened.item() == pytest.approx(float(np.float32(value)), rel=1e-6, abs=float(FLOAT32.smallest_subnormal))


@pytest.mark.parametrize("norm", [2.0**31, 1e300])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_weights_that_leave_no_room_are_refused_whatever_the_activation(norm, value):
    layer = Layer(name="heavy", kind="product", in_channels=4, out_channels=1, weight_norm=norm)
    with pytest.raises(PackageError, match=r"heavy: weights of norm .* leave no room in 32 bits"):
        largest_scale(Ring(32), [layer], np.full((1, 4), value, np.float32), 1)


@pytest.mark.parametrize(
    ("bits", "dealers", "dropped", "expected"),
    [(32, 1, 0, 2**31 - 1), (32, 3, 0, 2**31 - 1), (24, 2, 0, 2**23 - 1), (32, 2, 16, 2**31 - 3 * 2**15)],
)
def test_headroom(bits, dealers, dropped, expected):
    assert headroom(Ring(bits), dealers, dropped) == expected


def test_encode_rounds_to_the_nearest_and_ties_to_even():
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 0.49, -0.51, 3.0], np.float32)
    assert encode(x, 1.0).tolist() == [0, 2, 2, 0, -2, 0, -1, 3]
    assert encode(np.array([2**31 - 128], np.float32), 1.0).tolist() == [2**31 - 128]
    assert encode(np.array([1e-30], np.float32), 1e39).tolist() == [round(float(np.float32(1e-30)) * 1e39)]


def test_decode_scales_every_channel_and_adds_the_bias():
    y = np.array([[2**31 - 1, -(2**31)], [3, 0]])
    opened = decode(y, 4.0, np.array([0.5, 0.25], np.float32), np.array([1.0, -2.0], np.float32))
    assert opened.dtype == np.float32
    expected = [[(2**31 - 1) / 8 + 1, -(2**31) / 16 - 2], [3 / 8 + 1, -2.0]]
    assert opened.tolist() == np.array(expected, np.float32).tolist()


def test_decode_overflows_to_infinity_without_a_warning():
    opened = decode(np.array([[2**30, -(2**30), 0]]), 1e-35, np.ones(3, np.float32), np.zeros(3, np.float32))
    assert opened.tolist() == [[math.inf, -math.inf, 0.0]]


@settings(max_examples=50)
@given(data=st.data())
def test_the_error_of_a_layer_is_that_of_rounding_its_input(data):
    (layer, *_), (weights, *_), x = data.draw(activations(12))
    scale = largest_scale(Ring(32), [layer], x, 1)
    ones, zeros = np.ones(layer.out_channels, np.float32), np.zeros(layer.out_channels, np.float32)
    opened = decode(apply_exactly(layer, weights, encode(x, scale)).astype(np.int64), scale, ones, zeros)
    exact = apply_exactly(layer, weights, x.astype(np.float64)).astype(np.float64)
    half_a_unit = 0.5 / scale * np.abs(weights).reshape(len(weights), -1).sum(axis=1)
    in_range = np.abs(exact) < FLOAT32.max / 2
    rounding = np.abs(exact) * 2.0**-23 + FLOAT32.smallest_subnormal
    assert (np.abs(opened - exact) <= half_a_unit + rounding)[in_range].all()
