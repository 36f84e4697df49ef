"""A slice in the portable form: digits -> float32 product -> int32 -> sum over the limbs, modulo 2**k.

    UINT8 [limb, row, channel] -> Cast FLOAT -> minus 128 -> MatMul or Conv -> Cast INT32 -> times 2**(8 limb) -> Add

Only standard operators (opset 17), so that ONNX Runtime, TensorRT and Triton run the same file. Weights are stored as
float16, which holds integers up to 2048 exactly.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from onnx_ir.tape import Tape

from ppidm.protocol.messages import ANSWER, MASKED
from ppidm.protocol.ring import DIGIT_BITS, DIGIT_CENTRE, Ring

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ppidm.export.quantize import QuantizedLayer
    from ppidm.protocol.linear import Layer

OPSET = 17
_TO_FIRST, _TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]


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


class _Builder:
    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self.tape = Tape()
        self.constants: dict[str, ir.Value] = {}

    def op(self, kind: str, *inputs: ir.Value, **attributes: Any) -> ir.Value:  # noqa: ANN401
        return self.tape.op(kind, inputs, attributes or None)

    def constant(self, name: str, array: Any) -> ir.Value:  # noqa: ANN401
        if name not in self.constants:
            self.constants[name] = self.tape.initializer(ir.tensor(np.asarray(array), name=name))
        return self.constants[name]

    def input(self, layer: Layer) -> tuple[ir.Value, ir.Value]:
        """The graph's input, and its digits: float32, (limbs, rows, C) or (limbs * N, C, H, W)."""
        sizes = ["rows"] if layer.kind == "product" else ["batch", "height", "width"]
        shape = ir.Shape([self.ring.limbs, *sizes, layer.in_channels])
        masked = ir.Value(name=MASKED, type=ir.TensorType(ir.DataType.UINT8), shape=shape)
        planes = masked
        if layer.kind == "convolution":
            inner = self.op("Shape", masked, start=2)
            target = self.op("Concat", self.constant("any", np.array([-1], np.int64)), inner, axis=0)
            planes = self.op("Transpose", self.op("Reshape", masked, target), perm=_TO_FIRST)
        centre = self.constant("digit_centre", np.float32(DIGIT_CENTRE))
        return masked, self.op("Sub", self.op("Cast", planes, to=ir.DataType.FLOAT), centre)

    def layer(self, index: int, quantized: QuantizedLayer, digits: ir.Value) -> ir.Value:
        layer = quantized.layer
        weights = quantized.weights.astype(np.float16)
        assert np.array_equal(weights, quantized.weights)
        pieces = np.array_split(weights, layer.parts, axis=1)
        total = None
        for part, (piece, plane) in enumerate(zip(pieces, self.split_channels(layer, digits, pieces), strict=True)):
            stored = self.constant(f"weights_{index}_{part}", _operand(layer, piece))
            sums = self.product(layer, plane, self.op("Cast", stored, to=ir.DataType.FLOAT))
            result = self.op("Cast", sums, to=ir.DataType.INT32)
            total = result if total is None else self.op("Add", total, result)
        assert total is not None
        return self.recombine(index, layer, total if layer.kind == "product" else self.channels_last(total))

    def split_channels(self, layer: Layer, digits: ir.Value, pieces: Sequence[Any]) -> list[ir.Value]:
        if layer.parts == 1:
            return [digits]
        axis = self.constant("channel_axis", np.array([-1 if layer.kind == "product" else 1], np.int64))
        ends = np.cumsum([0, *(piece.shape[1] for piece in pieces)])
        bounds = [self.constant(f"channel_{end}", np.array([end], np.int64)) for end in ends]
        return [self.op("Slice", digits, start, end, axis) for start, end in pairwise(bounds)]

    def product(self, layer: Layer, digits: ir.Value, weights: ir.Value) -> ir.Value:
        if layer.kind == "product":
            return self.op("MatMul", digits, weights)
        geometry = {"strides": layer.strides, "pads": layer.pads, "dilations": layer.dilations, "group": layer.groups}
        return self.op("Conv", digits, weights, kernel_shape=layer.kernel, **geometry)

    def channels_last(self, planes: ir.Value) -> ir.Value:
        last = self.op("Transpose", planes, perm=_TO_LAST)
        limbs = self.constant("limbs_any", np.array([self.ring.limbs, -1], np.int64))
        return self.op("Reshape", last, self.op("Concat", limbs, self.op("Shape", last, start=1), axis=0))

    def recombine(self, index: int, layer: Layer, planes: ir.Value) -> ir.Value:
        """Sum of 2**(8 i) times limb i, wrapping around: Mul and Add, since ReduceSum saturates on int32."""
        total = None
        for limb in range(self.ring.limbs):
            plane = self.op("Gather", planes, self.constant(f"limb_{limb}", np.int64(limb)), axis=0)
            weight = self.constant(f"weight_{limb}", np.array(1 << (DIGIT_BITS * limb), np.int32))
            shifted = self.op("Mul", plane, weight) if limb else plane
            total = shifted if total is None else self.op("Add", total, shifted)
        assert total is not None
        total.name = f"{ANSWER}{index}"
        total.type = ir.TensorType(ir.DataType.INT32)
        sizes = ["rows"] if layer.kind == "product" else ["batch", f"height_{index}", f"width_{index}"]
        total.shape = ir.Shape([*sizes, layer.out_channels])
        return total


def _operand(layer: Layer, weights: Any) -> Any:  # noqa: ANN401
    return weights[:, :, 0, 0].T if layer.kind == "product" else weights
