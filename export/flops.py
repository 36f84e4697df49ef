"""A graph that counts its own work: one more output, `flops`, computed from the shapes of the run.

2 x MAC of every Conv, ConvTranspose, MatMul, Gemm and Attention, exact for whatever sizes the client runs, at the cost of a
few Shape nodes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from onnx_ir.tape import Tape

if TYPE_CHECKING:
    from collections.abc import Callable

FLOPS = "flops"


def count_flops(graph: ir.Graph) -> None:
    """Add the output `flops`, a scalar int64, to `graph`."""
    tape = Tape()
    total = tape.initializer(ir.tensor(np.int64(0), name="flops_of_nothing"))
    for node in list(graph):
        if (count := _COUNTS.get(node.op_type)) and node.domain == "":
            macs = count(tape, node)
            total = tape.op("Add", [total, tape.op("Add", [macs, macs])])
    output = tape.op("Identity", [total])
    output.name, output.type, output.shape = FLOPS, ir.TensorType(ir.DataType.INT64), ir.Shape([])
    for value in tape.initializers:
        graph.register_initializer(value)
    graph.extend(tape.nodes)
    graph.outputs.append(output)


def _size(tape: Tape, value: Any) -> ir.Value:  # noqa: ANN401
    return tape.op("Size", [value])


def _dimension(tape: Tape, value: Any, axis: int) -> ir.Value:  # noqa: ANN401
    until = {} if axis == -1 else {"end": axis + 1}
    return tape.op("ReduceProd", [tape.op("Shape", [value], {"start": axis, **until})], {"keepdims": 0})


def _convolution(tape: Tape, node: ir.Node) -> ir.Value:
    per_output = tape.op("Div", [_size(tape, node.inputs[1]), _dimension(tape, node.inputs[1], 0)])
    counted = node.outputs[0] if node.op_type == "Conv" else node.inputs[0]
    return tape.op("Mul", [_size(tape, counted), per_output])


def _product(tape: Tape, node: ir.Node) -> ir.Value:
    transposed = node.op_type == "Gemm" and "transA" in node.attributes and node.attributes["transA"].value
    return tape.op("Mul", [_size(tape, node.outputs[0]), _dimension(tape, node.inputs[0], 0 if transposed else -1)])


def _attention(tape: Tape, node: ir.Node) -> ir.Value:
    both = tape.op("Add", [_size(tape, node.inputs[0]), _size(tape, node.outputs[0])])
    return tape.op("Mul", [both, _dimension(tape, node.inputs[1], -2)])


_COUNTS: dict[str, Callable[[Tape, ir.Node], ir.Value]] = {
    "Conv": _convolution,
    "ConvTranspose": _convolution,
    "MatMul": _product,
    "Gemm": _product,
    "Attention": _attention,
}
