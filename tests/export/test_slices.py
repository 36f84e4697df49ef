"""Slices in the portable form: valid ONNX of a few standard operators, and exact."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from linear_cases import LAYERS, input_shape, random_weights

from ppidm.export.quantize import QuantizedLayer
from ppidm.export.slices import slice_from_layers
from ppidm.protocol.linear import Layer, apply
from ppidm.protocol.ring import Ring

PORTABLE = {  # TensorRT, ONNX Runtime on any device and OpenVINO run these, exactly: there is no Conv
    "Add", "Cast", "Gather", "MatMul", "Mul", "Pad", "Reshape", "Slice", "Sub", "Transpose"
}  # fmt: skip
WIDE = {
    "product in parts": Layer(name="wide", kind="product", in_channels=11, out_channels=4, parts=3),
    "convolution in parts": Layer(
        name="deep", kind="convolution", in_channels=7, out_channels=3, kernel=(3, 3), pads=(1, 1, 1, 1), parts=4
    ),
    "depthwise": Layer(
        name="depthwise", kind="convolution", in_channels=4, out_channels=8, kernel=(3, 3), groups=4, strides=(2, 1)
    ),
    "one value": Layer(name="one", kind="product", in_channels=1, out_channels=1),
}
CASES = LAYERS | WIDE


def quantized(layer, seed=0):
    weights = np.maximum(random_weights(np.random.default_rng(seed), layer), -2047)
    scales = np.ones(layer.out_channels, np.float32)
    return QuantizedLayer(layer, weights, scales, scales)


def build(*layers, ring):
    return ir.to_proto(slice_from_layers("some.slice", layers, ring))


def run(proto, digits):
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"masked": digits})


def assert_exact(layers, digits, ring):
    answers = run(build(*layers, ring=ring), digits)
    for layer, answer in zip(layers, answers, strict=True):
        assert answer.dtype == np.int32
        expected = apply(layer.layer, layer.weights, digits, ring)
        np.testing.assert_array_equal(answer.view(np.uint32) & ring.mask, expected)


def uniform(ring, shape, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (ring.limbs, *shape), np.uint8)


@pytest.mark.parametrize("bits", [16, 24, 32])
@pytest.mark.parametrize("layer", CASES.values(), ids=CASES)
def test_answers_are_exact(layer, bits):
    ring = Ring(bits)
    shape = input_shape(layer)
    assert_exact([quantized(layer)], uniform(ring, shape), ring)
    for byte in (0, 127, 128, 255):
        assert_exact([quantized(layer)], np.full((ring.limbs, *shape), byte, np.uint8), ring)


def test_the_answer_in_32_bits_needs_no_reduction():
    layer, ring = quantized(LAYERS["convolution"]), Ring(32)
    digits = uniform(ring, (2, 5, 6, 3))
    (answer,) = run(build(layer, ring=ring), digits)
    np.testing.assert_array_equal(answer.view(np.uint32), apply(layer.layer, layer.weights, digits, ring))


def test_several_layers_share_the_input():
    layers = [Layer(name=f"l{i}", kind="product", in_channels=6, out_channels=i + 1, parts=i % 3 + 1) for i in range(5)]
    assert_exact([quantized(layer, seed) for seed, layer in enumerate(layers)], uniform(Ring(32), (7, 6)), Ring(32))
    wide = Layer(name="c", kind="convolution", in_channels=5, out_channels=4, parts=2)
    layers = [wide.model_copy(update={"kernel": kernel}) for kernel in [(1, 1), (3, 3), (2, 3)]]
    assert_exact(
        [quantized(layer, seed) for seed, layer in enumerate(layers)], uniform(Ring(32), (2, 4, 5, 5)), Ring(32)
    )


def test_one_file_for_all_sizes():
    layer, ring = quantized(LAYERS["strided"]), Ring(32)
    proto = build(layer, ring=ring)
    for shape in ((1, 4, 4, 2), (3, 9, 2, 2)):
        digits = uniform(ring, shape)
        (answer,) = run(proto, digits)
        np.testing.assert_array_equal(answer.view(np.uint32), apply(layer.layer, layer.weights, digits, ring))


# the file


@pytest.mark.parametrize("layer", CASES.values(), ids=CASES)
def test_file_is_standard_onnx(layer):
    proto = build(quantized(layer), quantized(layer, 1), ring=Ring(32))
    onnx.checker.check_model(proto, full_check=True)
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", 17)]
    assert {node.op_type for node in proto.graph.node} <= PORTABLE
    assert not {node.domain for node in proto.graph.node} - {""}
    assert proto.graph.name == "some.slice"


def interface(values):
    return {
        value.name: (
            onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type),
            [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim],
        )
        for value in values
    }


def test_interface_of_products():
    layers = [quantized(Layer(name="q", kind="product", in_channels=6, out_channels=out)) for out in (6, 9)]
    graph = build(*layers, ring=Ring(24)).graph
    assert interface(graph.input) == {"masked": ("UINT8", [3, "rows", 6])}
    assert interface(graph.output) == {"answer_0": ("INT32", ["rows", 6]), "answer_1": ("INT32", ["rows", 9])}


def test_interface_of_convolutions():
    graph = build(quantized(LAYERS["strided"]), quantized(LAYERS["strided"]), ring=Ring(32)).graph
    assert interface(graph.input) == {"masked": ("UINT8", [4, "batch", "height", "width", 2])}
    assert interface(graph.output) == {
        "answer_0": ("INT32", ["batch", "height_0", "width_0", 5]),
        "answer_1": ("INT32", ["batch", "height_1", "width_1", 5]),
    }


def test_weights_are_stored_once_in_16_bits():
    layer = quantized(WIDE["convolution in parts"])
    stored = {tensor.name: tensor for tensor in build(layer, layer, ring=Ring(32)).graph.initializer}
    weights = [f"weights_{index}_{part}" for index in range(2) for part in range(4)]
    assert {name for name, tensor in stored.items() if tensor.data_type == onnx.TensorProto.FLOAT16} == set(weights)
    assert sum(tensor.ByteSize() for name, tensor in stored.items() if name not in weights) < 6000
    parts = [onnx.numpy_helper.to_array(stored[name]) for name in weights[:4]]
    whole = np.concatenate(parts, axis=1)  # (places of the kernel, C_in, C_out)
    np.testing.assert_array_equal(whole.transpose(2, 1, 0).reshape(layer.weights.shape), layer.weights)


def test_weights_that_16_bits_cannot_hold_are_refused():
    layer = Layer(name="l", kind="product", in_channels=1, out_channels=1)
    one = np.ones(1, np.float32)
    with pytest.raises(AssertionError):
        build(QuantizedLayer(layer, np.array([[[[2049]]]]), one, one), ring=Ring(32))


def test_two_builds_are_the_same_bytes():
    layers = [quantized(WIDE["convolution in parts"], seed) for seed in range(3)]
    assert build(*layers, ring=Ring(32)).SerializeToString() == build(*layers, ring=Ring(32)).SerializeToString()
