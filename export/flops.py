"""A graph that counts its own work: one more output, `flops`, computed from the shapes of the run.

2 x MAC of every Conv, ConvTranspose, MatMul, Gemm and Attention of the graph itself (not of the bodies of If and Loop),
exact for whatever sizes the client runs. It costs a few operations on scalars, in an order of execution that runs Size
and Shape as soon as it can; in ONNX Runtime's default order they come last, and keep every counted activation alive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
from onnx_ir.tape import Tape

from ppidm.engines.program import FLOPS
from ppidm.export.graph import unique_name, value_names
from ppidm.protocol.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable

_QUERY, _KEY, _PAST_KEY = 0, 1, 4  # inputs of Attention


def count_flops(graph: ir.Graph) -> None:
    """Add the output `flops`, a scalar int64, to `graph`.

    Raises:
        UnsupportedError: the graph has a value of that name.
    """
    taken = value_names(graph)
    if FLOPS in taken:
        raise UnsupportedError(f"{graph.name}: a value is named {FLOPS!r}, which ppidm needs; rename it in the graph")
    tape = _Tape(taken)
    total = tape.constant(0)
    for node in list(graph):
        if (count := _COUNTS.get(node.op_type)) and not node.domain:
            macs = count(tape, node)
            total = tape.op("Add", [total, tape.op("Add", [macs, macs])])
    output = tape.op("Identity", [total])
    tape.name_values()
    output.name, output.type, output.shape = FLOPS, ir.TensorType(ir.DataType.INT64), ir.Shape([])
    for value in tape.initializers:
        graph.register_initializer(value)
    graph.extend(tape.nodes)
    graph.outputs.append(output)


class _Tape(Tape):
    """Records operations on scalars and shapes, int64, that every version of ONNX has."""

    def __init__(self, taken: set[str]) -> None:
        super().__init__()
        self._taken = taken

    def constant(self, number: int) -> ir.Value:
        return self.initializer(ir.tensor(np.int64(number), name=unique_name(f"{FLOPS}.{number}", self._taken)))

    def size(self, value: ir.Value | None) -> ir.Value:
        return self.op("Size", [value])

    def dimension(self, value: ir.Value | None, axis: int) -> ir.Value:
        return self.op("Gather", [self.op("Shape", [value]), self.constant(axis)])

    def name_values(self) -> None:
        for node in self.nodes:
            node.outputs[0].name = unique_name(f"{FLOPS}.{node.op_type}", self._taken)


def _convolution(tape: _Tape, node: ir.Node) -> ir.Value:
    per_position = tape.op("Div", [tape.size(node.inputs[1]), tape.dimension(node.inputs[1], 0)])
    return tape.op("Mul", [tape.size(node.outputs[0] if node.op_type == "Conv" else node.inputs[0]), per_position])


def _product(tape: _Tape, node: ir.Node) -> ir.Value:
    transposed = node.op_type == "Gemm" and "transA" in node.attributes and node.attributes["transA"].value
    return tape.op("Mul", [tape.size(node.outputs[0]), tape.dimension(node.inputs[0], 0 if transposed else -1)])


def _attention(tape: _Tape, node: ir.Node) -> ir.Value:
    """Q K^T and the product with V: every element of Q, and of the output, takes part in one MAC per key."""
    both = tape.op("Add", [tape.size(node.inputs[_QUERY]), tape.size(node.outputs[0])])
    keys = tape.dimension(node.inputs[_KEY], -2)
    if len(node.inputs) > _PAST_KEY and node.inputs[_PAST_KEY] is not None:
        keys = tape.op("Add", [keys, tape.dimension(node.inputs[_PAST_KEY], -2)])
    return tape.op("Mul", [both, keys])


_COUNTS: dict[str, Callable[[_Tape, ir.Node], ir.Value]] = {
    "Conv": _convolution,
    "ConvTranspose": _convolution,
    "MatMul": _product,
    "Gemm": _product,
    "Attention": _attention,
}
