"""Reading a traced ONNX graph: constants, activations, and what depends on which input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator
from onnx_ir.passes.common import CommonSubexpressionEliminationPass

from ppidm.protocol.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def load_graph(path: Path) -> ir.Model:
    """Load an ONNX file, weights left on disk, with equal subexpressions merged.

    The U-Net of diffusers applies the same activation to the time embedding once per residual block; merged, all the
    projections that follow share one input, and so one upload.

    Raises:
        InputError: the file is missing or is no ONNX model.
    """
    try:
        model = ir.load(path)
        CommonSubexpressionEliminationPass()(model)
    except Exception as error:
        raise InputError(f"{path}: cannot be read as ONNX ({error}); trace the pipeline again with --retrace") from error
    return model


def activations_of(graph: ir.Graph) -> set[ir.Value]:
    """Every value that depends on a graph input; all others are constants."""
    return {*graph.inputs, *(output for node in graph_inputs_of(graph) for output in node.outputs)}


def constant_from_value(value: ir.Value) -> NDArray[Any]:
    """Fold what leads to a constant value: a weight is Cast, and sometimes Transposed, where it is used.

    Evaluated anew on each call, so that no second copy of the weights stays in memory.
    """
    if value.const_value is not None:
        return np.array(value.const_value.numpy())
    node = value.producer()
    assert node is not None, f"{value.name} is not constant"
    operands = {operand.name: constant_from_value(operand) for operand in node.inputs if operand is not None}
    results = ReferenceEvaluator(ir.to_proto(node)).run(None, operands)
    return np.asarray(results[value.index() or 0])


def graph_inputs_of(graph: ir.Graph) -> dict[ir.Node, frozenset[str]]:
    """For every node that is not constant, the names of the graph inputs that it depends on, through any operator."""
    inputs = set(graph.inputs)
    found: dict[ir.Node, frozenset[str]] = {}
    for node in graph:
        direct = {str(value.name) for value in node.inputs if value in inputs}
        through = [found[p] for value in node.inputs if value is not None and (p := value.producer()) in found]
        if names := frozenset(direct).union(*through):
            found[node] = names
    return found
