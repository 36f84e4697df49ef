"""Reading a traced ONNX graph: constants, activations, and what depends on which input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from onnx import helper
from onnx.reference import ReferenceEvaluator
from onnx_ir.passes import common

from ppidm.protocol.errors import InputError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

_RETRACE = "trace the pipeline again with --retrace"


def load_graph(path: Path) -> ir.Model:
    """Load an ONNX file, weights left on disk, in the form that the partition expects.

    Post-conditions: nodes in topological order, none of them dead or a call of a function; no input with a default
    value; equal subexpressions merged (diffusers' U-Net applies the same activation to the time embedding once per
    residual block; merged, all the projections that follow share one input, and so one upload); types inferred where
    the file does not tell them.

    Raises:
        InputError: the file is missing or is no ONNX model.
    """
    try:
        model = ir.load(path)
        if not model.graph.outputs:
            raise ValueError("a graph without outputs")  # noqa: TRY301
        for tidy in (
            common.InlinePass(),
            common.RemoveInitializersFromInputsPass(),
            common.TopologicalSortPass(),
            common.CommonSubexpressionEliminationPass(),
            common.RemoveUnusedNodesPass(),
            common.RemoveUnusedOpsetsPass(),
        ):
            tidy(model)
        if any(output.dtype is None for node in model.graph for output in node.outputs):
            common.ShapeInferencePass(strict_mode=False)(model)
    except Exception as error:
        raise InputError(f"{path}: cannot be read as ONNX ({error}); {_RETRACE}") from error
    return model


def reads_of(node: ir.Node) -> list[ir.Value]:
    """The values of its graph that `node` reads, each once: its inputs, and what its subgraphs capture."""
    subgraphs = [graph for attribute in node.attributes.values() for graph in _graphs(attribute)]
    bodies = [inner for graph in subgraphs for inner in ir.traversal.RecursiveGraphIterator(graph)]
    captured = [value for inner in bodies for value in inner.inputs if value is not None and value.graph is node.graph]
    return list(dict.fromkeys([*(value for value in node.inputs if value is not None), *captured]))


def _graphs(attribute: ir.Attr) -> Iterator[ir.Graph]:
    if attribute.type == ir.AttributeType.GRAPH:
        yield attribute.as_graph()
    elif attribute.type == ir.AttributeType.GRAPHS:
        yield from attribute.as_graphs()


def graph_inputs_of(graph: ir.Graph) -> dict[ir.Value, frozenset[str]]:
    """For every value that is not constant, the names of the graph inputs that it depends on, through any operator."""
    found = {value: frozenset({str(value.name)}) for value in graph.inputs}
    for node in graph:
        if names := frozenset[str]().union(*(found[value] for value in reads_of(node) if value in found)):
            found.update(dict.fromkeys(node.outputs, names))
    return found


def activations_of(graph: ir.Graph) -> set[ir.Value]:
    """Every value that depends on a graph input; all others are constants."""
    return set(graph_inputs_of(graph))


def constant_from_value(value: ir.Value) -> NDArray[Any]:
    """Fold what leads to a constant value: a weight is Cast, and sometimes Transposed, where it is used.

    Evaluated anew on each call, so that no second copy of the weights stays in memory.

    Raises:
        InputError: the file of the weights is missing, truncated or outside of the model's folder.
        UnsupportedError: an operator on the way that is not ONNX's own.
    """
    if value.const_value is not None:
        try:
            values = np.array(value.const_value.numpy())
        except (OSError, ValueError) as error:
            raise InputError(f"weights {value.name}: {error}; {_RETRACE}") from error
        if isinstance(value.const_value, ir.ExternalTensor):
            value.const_value.release()  # pages of a mapped file count as memory of ours
        return values
    node = value.producer()
    assert node is not None, f"{value.name} is not constant"
    assert node.graph is not None
    if node.domain:
        raise UnsupportedError(f"weights {value.name} come from {node.domain}.{node.op_type}; {_RETRACE}")
    operands = {str(operand.name): constant_from_value(operand) for operand in reads_of(node)}
    opsets = [helper.make_opsetid(domain, version) for domain, version in node.graph.opset_imports.items()]
    # a function, since a node alone would be run in the newest version of its operator
    function = helper.make_function("", "fold", [*operands], [str(value.name)], [ir.to_proto(node)], opsets)
    results: Any = ReferenceEvaluator(function).run(None, operands, attributes={})
    return np.asarray(results[0])


def value_names(graph: ir.Graph) -> set[str]:
    """The names of all values of `graph`, and of its subgraphs, which share one scope with it."""
    used = [value for node in graph.all_nodes() for value in (*node.inputs, *node.outputs) if value is not None]
    return {str(value.name) for value in (*used, *graph.inputs, *graph.initializers.values())}


def unique_name(stem: str, taken: set[str]) -> str:
    """`stem`, or `stem-2` and so on if it is in `taken`; the result is put there."""
    name, count = stem, 1
    while name in taken:
        count += 1
        name = f"{stem}-{count}"
    taken.add(name)
    return name
