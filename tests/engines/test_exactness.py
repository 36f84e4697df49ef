"""A masked slice computes the integer product or convolution of the quantised tensors, bit for bit.

The reference is torch in 64-bit integers. The portable form is exact for uniform digits (masked, or a mask) but for a
probability of 1e-31 per output, so that no false alarm comes from there: below 1e-24 for all that is computed here.
"""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from shipped import RING, LoadedSlice, apply_torch, extreme_activation, load_slices, masked_answers, rough_activation

from ppidm.engines.onnx_policy import SLICE
from ppidm.engines.onnxruntime import OrtRunner, open_session
from ppidm.export.quantize import WEIGHT_BITS, quantize_layer
from ppidm.export.slices import slice_from_layers
from ppidm.protocol.linear import Layer
from ppidm.protocol.masks import Mask
from ppidm.protocol.prg import SEED_BYTES, Seed
from ppidm.protocol.ring import Ring
from ppidm.protocol.shares import aggregate

INPUTS = {"rough": rough_activation, "extreme": extreme_activation}
SHAPES = {"own": lambda loaded: loaded.subgraph.nominal_shape, "another": LoadedSlice.small_shape}


@pytest.mark.parametrize("shape_of", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("draw", INPUTS.values(), ids=INPUTS)
def test_every_slice_of_the_shipped_model_is_exact(package, draw, shape_of):
    rng, largest = np.random.default_rng(1), []
    slices = load_slices(package)
    assert len(slices) == 96
    for loaded in slices:
        x = draw(rng, loaded, shape_of(loaded))
        answers = masked_answers(loaded.runner, RING, RING.reduce(x), Mask.fresh(RING, x.shape, 2))
        for index, (layer, weights) in enumerate(zip(loaded.layers, loaded.weights, strict=True)):
            expected = apply_torch(layer, weights, x)
            opened = aggregate(RING, [answer[index] for answer in answers])
            assert np.array_equal(opened, expected), layer.name
            largest.append(np.abs(expected).max() / 2**31)
    assert max(largest) < 1
    assert max(largest) > (0.99 if draw is extreme_activation else 0.1)


def test_the_shipped_slices_are_of_every_kind(package):
    layers = [layer for loaded in load_slices(package) for layer in loaded.layers]
    assert {layer.kind for layer in layers} == {"product", "convolution"}
    assert {layer.strides for layer in layers} == {(1, 1), (2, 2)}
    assert max(layer.parts for layer in layers) > 1
    assert max(len(loaded.layers) for loaded in load_slices(package)) > 1


@st.composite
def geometry(draw, kind, in_channels, number):
    groups = 1 if kind == "product" or in_channels > 8 else draw(st.sampled_from([1, 2, in_channels]))
    layer = {"name": f"layer {number}", "kind": kind, "in_channels": in_channels}
    layer |= {"out_channels": groups * draw(st.integers(1, 3)), "groups": groups}
    if kind == "product":
        return Layer(**layer)
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    pads, dilations = st.tuples(*[st.integers(0, 2)] * 4), st.tuples(st.integers(1, 2), st.integers(1, 2))
    return Layer(**layer, kernel=draw(pair), strides=draw(pair), pads=draw(pads), dilations=draw(dilations))


def smallest_size(layer, axis):
    reach = layer.dilations[axis] * (layer.kernel[axis] - 1) + 1
    return max(1, reach - layer.pads[axis] - layer.pads[axis + 2])


@st.composite
def slices(draw):
    """One to three quantised layers that share an input, and elements of it: all sizes, ends of the ring among them."""
    kind = draw(st.sampled_from(["product", "convolution"]))
    in_channels = draw(st.sampled_from([2, 4, 6, 8, 90, 170, 260]))
    layers = [draw(geometry(kind, in_channels, number)) for number in range(draw(st.integers(1, 3)))]
    sizes = [max(smallest_size(layer, axis) for layer in layers) + draw(st.integers(0, 3)) for axis in range(2)]
    shape = (draw(st.integers(1, 3)), *(sizes if kind == "convolution" else []), in_channels)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ends = rng.choice([0, 1, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1], shape)
    x = np.where(rng.random(shape) < rng.random(), ends, rng.integers(0, 2**32, shape)).astype(np.uint32)
    seeds = [Seed(rng.bytes(SEED_BYTES)) for _ in range(2)]
    return [quantized(rng, layer, flat=draw(st.booleans())) for layer in layers], x, seeds


def quantized(rng, layer, *, flat):
    shape = (layer.out_channels, layer.in_channels // layer.groups, *layer.kernel)
    weights = rng.choice([-1.0, 1.0], shape) if flat else rng.normal(size=shape)  # flat: +-2047, the hardest to sum
    weights[0] *= rng.choice([0, 1])
    return quantize_layer(layer, weights.astype(np.float32), np.zeros(len(weights), np.float32))


@pytest.mark.parametrize("bits", [24, 32])
@settings(max_examples=100, deadline=None)
@given(drawn=slices())
def test_random_slices_are_exact_modulo_the_ring(bits, drawn):
    ring, (layers, x, seeds) = Ring(bits), drawn
    x = x & ring.mask
    runner = OrtRunner(
        open_session(ir.to_proto(slice_from_layers("drawn", layers, ring)).SerializeToString(), 1, SLICE)
    )
    answers = masked_answers(runner, ring, x, Mask(ring, x.shape, seeds))
    for index, quantized in enumerate(layers):
        event(f"parts: {min(quantized.layer.parts, 3)}{'+' if quantized.layer.parts > 3 else ''}")
        expected = apply_torch(quantized.layer, quantized.weights, ring.signed(x))
        opened = aggregate(ring, [answer[index] for answer in answers])
        assert np.array_equal(opened, ring.signed(ring.reduce(expected)))


@pytest.mark.parametrize("channels", [60, 90, 5000])
def test_long_flat_rows_are_split_as_often_as_needed(channels):
    layer = Layer(name="flat", kind="product", in_channels=channels, out_channels=2)
    flat = quantize_layer(layer, np.ones((2, channels, 1, 1), np.float32), np.zeros(2, np.float32), WEIGHT_BITS)
    assert (flat.layer.parts == 1) == (channels == 60)
    runner = OrtRunner(open_session(ir.to_proto(slice_from_layers("flat", [flat], RING)).SerializeToString(), 1, SLICE))
    x = np.full((4, channels), 2**32 - 1, np.uint32)
    answers = masked_answers(runner, RING, x, Mask.fresh(RING, x.shape, 1))
    assert (aggregate(RING, [answer for (answer,) in answers]) == -2047 * channels).all()
