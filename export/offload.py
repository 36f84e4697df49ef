"""Choosing what is offloaded, and cutting it out of the graph: linear operators -> `Offload` nodes, one per slice."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_ir as ir

from ppidm.export.graph import activations_of, unique_name, value_names
from ppidm.export.operators import Linear, linear_from_node
from ppidm.export.settings import OffloadChoice
from ppidm.protocol.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterable

DOMAIN = "ppidm"
OFFLOAD = "Offload"
_TO_LAST, _TO_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]
_LONGEST_NAME = 180  # characters; leaves room for a number within the manifest's 200


@dataclass(frozen=True, eq=False)
class Group:
    """Linear operators that share one input: what becomes a slice."""

    name: str
    operators: tuple[Linear, ...]


def cut_offloaded(graph: ir.Graph, choice: OffloadChoice | frozenset[str]) -> list[Group]:
    """Replace every linear operator that goes to the servers.

    Args:
        graph: changed in place.
        choice: what goes; or the names of the slices that do, of those that `OffloadChoice.ALL` makes.

    Post-condition: each group is one node `ppidm::Offload` with the attribute `slice`, whose input and outputs are
    channels last; the Transposes that this needs are part of the graph around it. All other values keep their names.

    Raises:
        UnsupportedError: there is nothing to offload.
    """
    activations = activations_of(graph)
    found = [linear for node in graph if (linear := linear_from_node(node, activations))]
    groups = _group(linear for linear in found if choice is not OffloadChoice.CONV or linear.is_image)
    if not isinstance(choice, OffloadChoice):
        groups = [group for group in groups if group.name in choice]
    if not groups:
        raise UnsupportedError(
            f"{graph.name}: no operator that --offload {choice} sends to servers; expected Conv, MatMul or Gemm in "
            "float32 with constant weights"
        )
    taken = value_names(graph)
    for group in groups:
        _cut(graph, group, taken)
    return groups


def _group(operators: Iterable[Linear]) -> list[Group]:
    by_input: dict[tuple[ir.Value, str, bool], list[Linear]] = {}
    for linear in operators:
        by_input.setdefault((linear.input, linear.layer.kind, linear.is_image), []).append(linear)
    taken: set[str] = set()
    return [Group(_slice_name(members[0].layer.name, taken), tuple(members)) for members in by_input.values()]


def _slice_name(name: str, taken: set[str]) -> str:
    """A name that is a file's too: of the manifest's characters, and unique even where file systems ignore case."""
    base = re.sub(r"[^A-Za-z0-9_.-]+", ".", name).strip(".")[:_LONGEST_NAME] or "slice"
    return base + unique_name(base.lower(), taken)[len(base) :]


def _cut(graph: ir.Graph, group: Group, taken: set[str]) -> None:
    first, image = group.operators[0].node, group.operators[0].is_image
    source = first.inputs[0]  # not `operators[0].input`: that may have been cut out before
    new: list[ir.Node] = []
    if image:
        source = _transposed(source, _TO_LAST, unique_name(f"{group.name}.input", taken), new)
    offload = ir.node(OFFLOAD, [source], {"slice": group.name}, domain=DOMAIN, num_outputs=len(group.operators))
    new.append(offload)
    for index, (linear, result) in enumerate(zip(group.operators, offload.outputs, strict=True)):
        answer = result
        if image:
            result.name = unique_name(f"{group.name}.answer_{index}", taken)
            result.type = ir.TensorType(ir.DataType.FLOAT)
            answer = _transposed(result, _TO_FIRST, None, new)
        _replace(linear.node.outputs[0], answer)
    graph.insert_before(first, new)
    graph.remove([linear.node for linear in group.operators], safe=True)


def _transposed(value: ir.Value | None, axes: list[int], name: str | None, new: list[ir.Node]) -> ir.Value:
    new.append(ir.node("Transpose", [value], {"perm": axes}))
    output = new[-1].outputs[0]
    output.name, output.type = name, ir.TensorType(ir.DataType.FLOAT)
    return output


def _replace(old: ir.Value, new: ir.Value) -> None:
    """Put `new` in the place of `old`, under its name."""
    name, new.type, new.shape = old.name, ir.TensorType(ir.DataType.FLOAT), old.shape
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    old.name, new.name = None, name
