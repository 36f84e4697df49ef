"""Finding the linear operators of a graph: Conv, MatMul and Gemm with constant weights."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from pydantic import ValidationError

from ppidm.export.graph import constant_from_value
from ppidm.protocol.linear import Layer

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Shape = tuple[int, ...]

MATRIX_RANK, IMAGE_RANK = 2, 4
_WEIGHTS, _BIAS = 1, 2  # operands


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear operator, in the form in which a server runs it.

    Attributes:
        node: the ONNX node.
        layer: its geometry (bounds are filled in when the weights are quantised).
        operands: activation, weights and, where there is one, bias; `node` loses them when it is cut out of its graph.
    """

    node: ir.Node
    layer: Layer
    operands: tuple[ir.Value, ...]

    @property
    def input(self) -> ir.Value:
        """The activation."""
        return self.operands[0]

    @property
    def is_image(self) -> bool:
        """Whether ONNX holds the activation channels first."""
        return self.node.op_type == "Conv"

    def weights(self) -> Floats:
        """Float32, (C_out, C_in / groups, kernel height, kernel width); read from disk on each call."""
        weights: Floats = constant_from_value(self.operands[_WEIGHTS]).astype(np.float32)
        if self.is_image:
            return weights
        weights = weights * np.float32(_attribute(self.node, "alpha", 1.0))
        return np.ascontiguousarray(weights if _attribute(self.node, "transB", 0) else weights.T)[:, :, None, None]

    def bias(self) -> Floats:
        """Float32, (C_out,); zeros where the operator has none."""
        if len(self.operands) <= _BIAS:
            return np.zeros(self.layer.out_channels, np.float32)
        bias = constant_from_value(self.operands[_BIAS]).astype(np.float32)
        bias = bias * np.float32(_attribute(self.node, "beta", 1.0))
        return np.broadcast_to(bias.reshape(-1), self.layer.out_channels).copy()


def linear_from_node(node: ir.Node, activations: AbstractSet[ir.Value]) -> Linear | None:
    """The linear operator that `node` is, or None: then it stays on the client.

    Args:
        node: any node.
        activations: `graph.activations_of` its graph.
    """
    if node.domain or node.op_type not in {"Conv", "MatMul", "Gemm"}:
        return None
    if node.outputs[0].dtype not in {None, ir.DataType.FLOAT}:
        return None
    if [value in activations for value in node.inputs] != [True] + [False] * (len(node.inputs) - 1):
        return None
    operands = tuple(value for value in node.inputs if value is not None)
    try:
        layer = _layer(node, *(_shape(constant) for constant in operands[1:]))
    except ValidationError:  # what a Layer cannot say, such as negative padding
        return None
    return None if layer is None else Linear(node, layer, operands)


def _layer(node: ir.Node, weights: Shape, bias: Shape = ()) -> Layer | None:
    return _convolution(node, weights) if node.op_type == "Conv" else _product(node, weights, bias)


def _convolution(node: ir.Node, shape: Shape) -> Layer | None:
    if len(shape) != IMAGE_RANK or _attribute(node, "auto_pad", "NOTSET") != "NOTSET":
        return None
    geometry = {
        "kernel": shape[2:],
        "strides": tuple(_attribute(node, "strides", (1, 1))),
        "pads": tuple(_attribute(node, "pads", (0, 0, 0, 0))),
        "dilations": tuple(_attribute(node, "dilations", (1, 1))),
        "groups": _attribute(node, "group", 1),
    }
    pointwise = geometry == {"kernel": (1, 1), "strides": (1, 1), "pads": (0,) * 4, "dilations": (1, 1), "groups": 1}
    channels = {"in_channels": shape[1] * geometry["groups"], "out_channels": shape[0]}
    if pointwise:
        return Layer(name=_name(node), kind="product", **channels)
    return Layer(name=_name(node), kind="convolution", **channels, **geometry)


def _product(node: ir.Node, shape: Shape, bias: Shape) -> Layer | None:
    if len(shape) != MATRIX_RANK or _attribute(node, "transA", 0):
        return None
    if _attribute(node, "transB", 0):
        shape = shape[::-1]
    if prod(bias[:-1]) != 1 or (bias and bias[-1] not in {1, shape[1]}):  # a bias per row: Gemm broadcasts any C
        return None
    return Layer(name=_name(node), kind="product", in_channels=shape[0], out_channels=shape[1])


def _shape(value: ir.Value) -> Shape:
    if value.shape is not None and all(isinstance(size, int) for size in value.shape):
        return tuple(int(size) for size in value.shape)  # type: ignore[arg-type]
    return constant_from_value(value).shape


def _attribute(node: ir.Node, name: str, default: Any) -> Any:  # noqa: ANN401
    """The attribute, which MatMul and Conv do not have where Gemm does."""
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.value


def _name(node: ir.Node) -> str:
    return node.name or str(node.outputs[0].name)
