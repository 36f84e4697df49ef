"""Tidies the graph that `torch.onnx.export` writes, so that it can be read and cut.

A tidy graph has standard operators only: no sequences, no Identity, no dead nodes, no local functions. Small constants
are folded, weights are untouched. No Reshape takes its target shape from far away. Names come from the module names,
and every value keeps its element type and its shape, written in the names of the dynamic dimensions.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import TypeAlias

import onnx_ir as ir
import sympy  # type: ignore[import-untyped]
from onnx_ir.passes import common
from onnxscript import optimizer, rewriter

FOLD_LIMIT = 256
"""Elements. A larger constant (an attention mask) is computed by the graph instead of being stored in it."""

Dims: TypeAlias = tuple[int | str, ...]
"""A shape; a string is a dynamic dimension."""

_SCOPES = "pkg.torch.onnx.name_scopes"
_ROUNDS = 2  # a rewrite makes new constants
_TINY = 4  # elements: axes and scales
_LAYERS = {"Conv", "Gemm", "MatMul"}


def tidy(
    model: ir.Model, weights: Collection[str], inputs: Mapping[str, Dims], multiples: Mapping[str, int], root: str
) -> None:
    """Tidy `model` in place.

    Args:
        model: what `torch.onnx.export(..., optimize=False)` gave.
        weights: the initialisers that nothing may be folded into, not even a Transpose.
        inputs: name of a graph input -> its shape, in the names that all shapes are to be written in.
        multiples: dynamic dimension -> the number that it is a multiple of, if that is not 1.
        root: the prefix of all module names that is dropped, such as `model.`.
    """
    for _ in range(_ROUNDS):
        fold_constants(model, weights)
        rewriter.rewrite(model)
    _share(model)
    simplify_shapes(model.graph, inputs, multiples)
    simplify_reshapes(model.graph)
    common.RemoveUnusedNodesPass()(model)
    name_after_modules(model.graph, root)
    common.ClearMetadataAndDocStringPass()(model)


def fold_constants(model: ir.Model, weights: Collection[str]) -> None:
    """Compute what depends on small constants only."""
    optimizer.fold_constants(
        model,
        onnx_shape_inference=True,
        input_size_limit=FOLD_LIMIT,
        output_size_limit=FOLD_LIMIT,
        should_fold=lambda node: False if _reads(node, weights) else None,
    )


def _share(model: ir.Model) -> None:
    """Keep one of equal nodes and of equal tiny constants; equal weights (such as new biases) keep their own names."""
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    common.DeduplicateInitializersPass(size_limit=_TINY)(model)
    common.CommonSubexpressionEliminationPass()(model)


def _reads(node: ir.Node, names: Collection[str]) -> bool:
    return any(value is not None and value.name in names for value in node.inputs)


def simplify_shapes(graph: ir.Graph, inputs: Mapping[str, Dims], multiples: Mapping[str, int]) -> None:
    """Write all shapes in the names of `inputs`: `4*(((s30 - 1)//4)) + 4` is `height`, if that is a multiple of 4."""
    units = {dim: sympy.Symbol(f"{dim}_unit", integer=True, positive=True) for dim in _names(inputs)}
    traced: dict[str, sympy.Expr] = {}
    for value in graph.inputs:
        declared = inputs[str(value.name)]
        for dim, name in zip(value.shape or (), declared, strict=True):
            if isinstance(name, str):
                traced |= _solved(str(dim), multiples.get(name, 1) * units[name])
        value.shape = ir.Shape(declared)
    back = {unit: sympy.Symbol(name) / multiples.get(name, 1) for name, unit in units.items()}
    for output in (output for node in graph for output in node.outputs):
        if output.shape is not None:
            output.shape = ir.Shape([_renamed(dim, traced, back) for dim in output.shape])


def _names(inputs: Mapping[str, Dims]) -> set[str]:
    return {dim for shape in inputs.values() for dim in shape if isinstance(dim, str)}


def _solved(dim: str, meaning: sympy.Expr) -> dict[str, sympy.Expr]:
    """What torch's symbol is, if the dimension, which is the symbol or a multiple of it, is `meaning`."""
    expression = sympy.sympify(dim)
    (symbol,) = expression.free_symbols
    return {str(symbol): sympy.solve(expression - meaning, symbol)[0]}


def _renamed(
    dim: int | ir.SymbolicDimProtocol, traced: Mapping[str, sympy.Expr], back: Mapping[sympy.Symbol, sympy.Expr]
) -> int | str | None:
    if isinstance(dim, int) or dim.value is None:
        return dim if isinstance(dim, int) else None
    return str(sympy.sympify(dim.value, locals=traced).factor().subs(back))  # evaluates text, but torch's own


def simplify_reshapes(graph: ir.Graph) -> None:
    """Give each Reshape a constant target, or the shape of the nearest value whose dimensions it restores."""
    seen: dict[str, ir.Value] = {}
    for node in graph:
        if node.op_type == "Reshape" and node.outputs[0].dtype is ir.DataType.FLOAT:
            _simplify_reshape(graph, node, seen)
        seen.update({str(output.shape): output for output in node.outputs if output.shape is not None})


def _simplify_reshape(graph: ir.Graph, node: ir.Node, seen: Mapping[str, ir.Value]) -> None:
    source, output = node.inputs[0], node.outputs[0]
    if source is None or source.shape is None or output.shape is None:
        return
    target = _constant_target(source.shape, output.shape)
    if target.count(-1) <= 1:
        _set_target(node, _constant(graph, target))
    elif str(output.shape) in seen:
        _set_target(node, _shape_of(graph, node, seen[str(output.shape)]))


def _constant_target(source: ir.Shape, output: ir.Shape) -> list[int]:
    """Write a shape for Reshape: 0 copies the dimension of the same index, -1 is what remains."""
    copied = [index < len(source) and source[index] == dim for index, dim in enumerate(output)]
    return [dim if isinstance(dim, int) else 0 if copy else -1 for dim, copy in zip(output, copied, strict=True)]


def _constant(graph: ir.Graph, target: list[int]) -> ir.Value:
    name = "shape_" + "_".join(map(str, target))
    if name not in graph.initializers:
        tensor = ir.tensor(target, dtype=ir.DataType.INT64, name=name)
        kind = ir.TensorType(tensor.dtype)
        graph.register_initializer(ir.Value(name=name, type=kind, shape=ir.Shape([len(target)]), const_value=tensor))
    return graph.initializers[name]


def _shape_of(graph: ir.Graph, before: ir.Node, value: ir.Value) -> ir.Value:
    assert value.shape is not None
    node = ir.node("Shape", [value], metadata_props=dict(before.metadata_props))
    node.outputs[0].dtype, node.outputs[0].shape = ir.DataType.INT64, ir.Shape([len(value.shape)])
    graph.insert_before(before, node)
    return node.outputs[0]


def _set_target(node: ir.Node, target: ir.Value) -> None:
    node.replace_input_with(1, target)
    node.attributes["allowzero"] = ir.AttrInt64("allowzero", 0)


def name_after_modules(graph: ir.Graph, root: str) -> None:
    """Name nodes and their outputs after the torch modules that they come from.

    A layer's operator has the module's name (`mid_block.attentions.0.proj_in`), any other the module's name and its
    operator (`mid_block.attentions.0.Transpose`). Repeated names get a number.
    """
    counts = Counter(graph.initializers.keys())
    for node in graph:
        node.name = _unique(_stem(node, root), counts)
        for index, output in enumerate(node.outputs):
            if not output.is_graph_output():
                output.name = node.name if len(node.outputs) == 1 else f"{node.name}.{index}"


def _unique(stem: str, counts: Counter[str]) -> str:
    counts[stem] += 1
    return stem if counts[stem] == 1 else f"{stem}_{counts[stem]}"


def _stem(node: ir.Node, root: str) -> str:
    module = _module(node, root)
    if module and node.op_type in _LAYERS:
        return module
    return f"{module}.{node.op_type}" if module else node.op_type


def _module(node: ir.Node, root: str) -> str:
    """The innermost module that `node` comes from; torch lists them all, outermost first, and then the operation."""
    scopes = node.metadata_props.get(_SCOPES, "").strip("[]").split(", ")
    modules = [scope.strip("'") for scope in scopes[:-1]]
    return next((name.removeprefix(root) for name in reversed(modules) if name.startswith(root)), "")
