import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_cases import LAYERS, apply_exactly, cases, input_shape, layers, random_case, rows_exactly, shapes
from pydantic import ValidationError

from ppidm.protocol.errors import InputError
from ppidm.protocol.linear import Layer, apply, largest_row_norm, patches
from ppidm.protocol.ring import Ring

CONVOLUTION = {"name": "c", "kind": "convolution", "in_channels": 4, "out_channels": 6}


@pytest.mark.parametrize("bits", [16, 24, 32])
@settings(max_examples=60)
@given(case=cases())
def test_apply_is_exact(bits, case):
    ring = Ring(bits)
    digits = ring.to_digits(ring.reduce(case.x))
    got = apply(case.layer, case.weights, digits, ring)
    assert got.dtype == np.uint32
    expected = apply_exactly(case.layer, case.weights, case.x) % 2**bits
    assert got.reshape(expected.shape).tolist() == expected.tolist()


@settings(max_examples=60)
@given(data=st.data(), layer=layers())
def test_shape_is_that_of_the_result(data, layer):
    shape = data.draw(shapes(layer))
    positions = sum(1 for _ in rows_exactly(layer, np.zeros(shape)))
    output = layer.output_shape(shape)
    assert len(output) == layer.rank == len(shape)
    assert (output[0], output[-1]) == (shape[0], layer.out_channels)
    assert math.prod(output[:-1]) == positions
    assert layer.flops(shape) == 2 * positions * layer.out_channels * len(next(rows_exactly(layer, np.zeros(shape)))[0])


def test_float64_sums_stay_exact_where_float32_would_round():
    layer = Layer(name="long", kind="product", in_channels=4096, out_channels=2)
    weights = np.full((2, 4096, 1, 1), 2**15 - 1)
    weights[1] *= -1
    digits = np.zeros((4, 1, 4096), np.uint8)  # every digit is -128
    digits[:, 0, 0] = 255
    x = sum((digits[limb].astype(int) - 128) * 256**limb for limb in range(4))
    got = apply(layer, weights, digits, Ring(32))
    assert got.tolist() == (apply_exactly(layer, weights, x) % 2**32).tolist()


@pytest.mark.parametrize("name", [name for name in LAYERS if name != "product"])
def test_geometry_is_that_of_torch(name):
    torch = pytest.importorskip("torch")
    case = random_case(LAYERS[name])
    top, left, bottom, right = case.layer.pads
    x = torch.nn.functional.pad(torch.tensor(case.x).permute(0, 3, 1, 2).double(), (left, right, top, bottom))
    weights = torch.tensor(case.weights).double()
    geometry = (case.layer.strides, 0, case.layer.dilations, case.layer.groups)
    expected = torch.nn.functional.conv2d(x, weights, None, *geometry).permute(0, 2, 3, 1).numpy()
    ring = Ring(32)
    got = ring.signed(apply(case.layer, case.weights, ring.to_digits(ring.reduce(case.x)), ring))
    assert got.shape == expected.shape == case.layer.output_shape(case.x.shape)
    assert np.array_equal(got, expected)


@settings(max_examples=60)
@given(case=cases(x_bits=20))
def test_row_norm_is_the_largest(case):
    norms = [math.hypot(*values) for groups in rows_exactly(case.layer, case.x) for values in groups]
    assert largest_row_norm(case.layer, case.x.astype(np.float32)) == pytest.approx(max(norms), rel=1e-12)


@pytest.mark.parametrize("value", [1e-45, 1e-20, 1e20, 3e38])
def test_row_norm_of_values_whose_squares_leave_float32(value):
    layer = Layer(name="p", kind="product", in_channels=9, out_channels=1)
    x = np.full((2, 9), value, np.float32)
    assert largest_row_norm(layer, x) == pytest.approx(3 * float(np.float32(value)), rel=1e-12)


def test_patches_pad_with_what_they_are_told():
    layer = Layer(**CONVOLUTION, kernel=(1, 3), pads=(0, 1, 0, 2))
    row = patches(layer, np.full((1, 1, 2, 4), 7), padding=128)[0, 0, :, 0, 0]
    assert row.tolist() == [[128, 7, 7], [7, 7, 128], [7, 128, 128]]


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_other_inputs_are_refused(layer):
    good = input_shape(layer)
    assert layer.output_shape(good)
    bad = [(), good[:-1], (*good, 1), (*good[:-1], layer.in_channels + 1), (0, *good[1:]), (-1, *good[1:])]
    for shape in bad:
        with pytest.raises(InputError, match=rf"^{layer.name}: input shape is .* with C = {layer.in_channels}"):
            layer.output_shape(shape)


def test_an_image_smaller_than_the_kernel_is_refused():
    layer = Layer(**CONVOLUTION, kernel=(3, 2), dilations=(2, 1), pads=(1, 0, 1, 0))
    assert layer.output_shape((1, 3, 2, 4)) == (1, 1, 1, 6)
    with pytest.raises(InputError, match="c: 4 padded positions; the kernel reaches over 5"):
        layer.output_shape((1, 2, 2, 4))
    with pytest.raises(InputError, match="c: 1 padded positions; the kernel reaches over 2"):
        layer.output_shape((1, 3, 1, 4))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"groups": 3}, "channels 4 -> 6 in 3 groups"),
        ({"groups": 4}, "channels 4 -> 6 in 4 groups"),
        ({"pads": (0, 0, -1, 0)}, "negative padding"),
        ({"kind": "product", "kernel": (3, 1)}, "product with the geometry of a convolution"),
        ({"kind": "product", "strides": (1, 2)}, "product with the geometry of a convolution"),
        ({"kind": "product", "pads": (0, 0, 0, 1)}, "product with the geometry of a convolution"),
        ({"kind": "product", "groups": 2}, "product with the geometry of a convolution"),
        ({"weight_norm": math.nan}, "finite"),
        ({"weight_norm": math.inf}, "finite"),
        ({"weight_norm": -1.0}, "greater than or equal to 0"),
        ({"bound": math.nan}, "finite"),
        ({"kernel": (0, 1)}, "greater than 0"),
        ({"strides": (1, 0)}, "greater than 0"),
        ({"kind": "attention"}, "'product' or 'convolution'"),
        ({"padding": 1}, "Extra inputs"),
    ],
)
def test_impossible_layers_are_refused(fields, message):
    Layer(**CONVOLUTION)
    with pytest.raises(ValidationError, match=message):
        Layer(**CONVOLUTION | fields)
