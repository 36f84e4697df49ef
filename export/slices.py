"""A slice in the portable form: digits -> float32 products -> int32 -> sum over the limbs, modulo 2**k.

    UINT8 [limb, row, channel] -> Cast FLOAT -> minus 128 -> MatMul -> Cast INT32 -> times 2**(8 limb) -> Add

A convolution is a sum of products, one per place of its kernel, of shifted views of the padded input. There is no Conv:
GPU libraries may compute one by Winograd's method or by Fourier transforms, which round, and TensorRT has no option that
rules it out. A product of integers is exact in any order of summation. It costs nothing here (ONNX Runtime on 2 cores, 3x3:
0.73 ms instead of 0.66 for 128 channels at 8x8, 246 ms instead of 266 for 320 at 64x64).

Only standard operators (opset 17), so that ONNX Runtime, TensorRT and Triton run the same file. Weights are stored as
float16, which holds integers up to 2048 exactly.
"""

from __future__ import annotations

from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from onnx_ir.tape import Tape

from ppidm.protocol.messages import ANSWER, MASKED
from ppidm.protocol.ring import DIGIT_BITS, DIGIT_CENTRE, Ring

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from ppidm.export.quantize import QuantizedLayer
    from ppidm.protocol.linear import Layer
    from ppidm.protocol.ring import Integers

OPSET = 17
_END = np.iinfo(np.int64).max
_GROUPS_OUT, _GROUPS_IN = [0, 1, 4, 2, 3, 5], [0, 1, 3, 4, 2, 5]


def slice_from_layers(name: str, layers: Sequence[QuantizedLayer], ring: Ring) -> ir.Model:
    """The ONNX model of a slice: one input `masked`, one output `answer_<i>` per layer, all channels last."""
    build = _Builder(ring)
    masked, digits = build.input(layers[0].layer)
    outputs = [build.layer(index, quantized, digits) for index, quantized in enumerate(layers)]
    tape = build.tape
    graph = ir.Graph(
        [masked], outputs, nodes=tape.nodes, initializers=tape.initializers, name=name, opset_imports={"": OPSET}
    )
    return ir.Model(graph, ir_version=10, producer_name="ppidm")


def operand_from_weights(layer: Layer, weights: NDArray[Any]) -> NDArray[Any]:
    """Weights as a slice stores them.

    Args:
        layer: the geometry.
        weights: (C_out, C_in / groups, kernel height, kernel width), or some of the input channels.

    Returns:
        (C_in, C_out) of a product; (places of the kernel, C_in, C_out) of a convolution; (places, groups, 1,
        C_in / groups, C_out / groups) of one in groups.
    """
    places: NDArray[Any] = weights.reshape(*weights.shape[:2], -1).transpose(2, 1, 0)
    if layer.kind == "product":
        return places.reshape(places.shape[1:])
    if layer.groups == 1:
        return places
    return places.reshape(*places.shape[:2], layer.groups, 1, -1).transpose(0, 2, 3, 1, 4)


def weights_from_operand(layer: Layer, operand: NDArray[Any]) -> Integers:
    """The inverse of `operand_from_weights`."""
    if layer.groups > 1:
        operand = operand.transpose(0, 3, 1, 2, 4)
    places = operand.reshape(layer.kernel[0] * layer.kernel[1], -1, layer.out_channels)
    return places.transpose(2, 1, 0).reshape(layer.out_channels, -1, *layer.kernel).astype(np.int64)


class _Builder:
    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self.tape = Tape()
        self.constants: dict[str, ir.Value] = {}

    def op(self, kind: str, *inputs: ir.Value, **attributes: Any) -> ir.Value:  # noqa: ANN401
        return self.tape.op(kind, inputs, attributes or None)

    def constant(self, name: str, array: Any) -> ir.Value:  # noqa: ANN401
        if name not in self.constants:
            self.constants[name] = self.tape.initializer(ir.tensor(np.asarray(array, order="C"), name=name))
        return self.constants[name]

    def integers(self, values: Sequence[int]) -> ir.Value:
        """A constant list, named after what it holds, so that there is one of each."""
        return self.constant("_".join(["integers", *map(str, values)]), np.array(values, np.int64))

    def input(self, layer: Layer) -> tuple[ir.Value, ir.Value]:
        """The graph's input, and its digits: float32, of the same shape."""
        sizes = ["rows"] if layer.kind == "product" else ["batch", "height", "width"]
        shape = ir.Shape([self.ring.limbs, *sizes, layer.in_channels])
        masked = ir.Value(name=MASKED, type=ir.TensorType(ir.DataType.UINT8), shape=shape)
        floats = self.op("Cast", masked, to=ir.DataType.FLOAT)  # first: TensorRT does nothing else with bytes
        return masked, self.op("Sub", floats, self.constant("digit_centre", np.array(DIGIT_CENTRE, np.float32)))

    def layer(self, index: int, quantized: QuantizedLayer, digits: ir.Value) -> ir.Value:
        layer = quantized.layer
        weights = quantized.weights.astype(np.float16)
        assert np.array_equal(weights, quantized.weights)
        source, total = self.source(layer, digits), None
        ends = np.cumsum([0, *map(len, np.array_split(range(weights.shape[1]), layer.parts))]).tolist()
        for part, channels in enumerate(pairwise(ends)):
            operand = operand_from_weights(layer, weights[:, slice(*channels)])
            stored = self.constant(f"weights_{index}_{part}", operand)
            result = self.op("Cast", self.sums(layer, source, stored, channels), to=ir.DataType.INT32)
            total = result if total is None else self.op("Add", total, result)
        assert total is not None
        return self.recombine(index, layer, self.with_groups_joined(layer, total))

    def source(self, layer: Layer, digits: ir.Value) -> ir.Value:
        """What the products read: padded, and with groups in an axis of their own, (limbs, N, groups, H, W, C / groups)."""
        if any(layer.pads):
            top, left, bottom, right = layer.pads
            digits = self.op("Pad", digits, self.integers([0, 0, top, left, 0, 0, 0, bottom, right, 0]))
        if layer.groups == 1:
            return digits
        grouped = self.op("Reshape", digits, self.integers([0, 0, 0, 0, layer.groups, -1]))
        return self.op("Transpose", grouped, perm=_GROUPS_OUT)

    def sums(self, layer: Layer, source: ir.Value, stored: ir.Value, channels: tuple[int, int]) -> ir.Value:
        """Products of some input channels with all places of the kernel, added up."""
        if layer.kind == "product":
            view = source if layer.parts == 1 else self.view(source, [-1], [channels[0]], [channels[1]], [1])
            return self.op("MatMul", view, self.op("Cast", stored, to=ir.DataType.FLOAT))
        total = None
        for place, (starts, ends) in enumerate(_places(layer)):
            view = self.view(source, [-3, -2, -1], [*starts, channels[0]], [*ends, channels[1]], [*layer.strides, 1])
            kernel = self.op("Gather", stored, self.constant(f"place_{place}", np.array(place, np.int64)), axis=0)
            result = self.op("MatMul", view, self.op("Cast", kernel, to=ir.DataType.FLOAT))
            total = result if total is None else self.op("Add", total, result)
        assert total is not None
        return total

    def view(self, source: ir.Value, axes: list[int], starts: list[int], ends: list[int], steps: list[int]) -> ir.Value:
        return self.op("Slice", source, *map(self.integers, (starts, ends, axes, steps)))

    def with_groups_joined(self, layer: Layer, total: ir.Value) -> ir.Value:
        if layer.groups == 1:
            return total
        return self.op("Reshape", self.op("Transpose", total, perm=_GROUPS_IN), self.integers([0, 0, 0, 0, -1]))

    def recombine(self, index: int, layer: Layer, planes: ir.Value) -> ir.Value:
        """Sum of 2**(8 i) times limb i, wrapping around: Mul and Add, since ReduceSum saturates on int32."""
        total = None
        for limb in range(self.ring.limbs):
            plane = self.op("Gather", planes, self.constant(f"limb_{limb}", np.array(limb, np.int64)), axis=0)
            weight = self.constant(f"weight_{limb}", np.array(1 << (DIGIT_BITS * limb), np.int32))
            shifted = self.op("Mul", plane, weight) if limb else plane
            total = shifted if total is None else self.op("Add", total, shifted)
        assert total is not None
        total.name = f"{ANSWER}{index}"
        total.type = ir.TensorType(ir.DataType.INT32)
        sizes = ["rows"] if layer.kind == "product" else ["batch", f"height_{index}", f"width_{index}"]
        total.shape = ir.Shape([*sizes, layer.out_channels])
        return total


def _places(layer: Layer) -> Iterator[tuple[list[int], list[int]]]:
    """For every place of the kernel: where its view of the padded height and width starts, and ends (from the end)."""
    for place in product(*map(range, layer.kernel)):
        starts = [at * step for at, step in zip(place, layer.dilations, strict=True)]
        after = [(size - 1 - at) * step for at, size, step in zip(place, layer.kernel, layer.dilations, strict=True)]
        yield starts, [-distance if distance else _END for distance in after]
