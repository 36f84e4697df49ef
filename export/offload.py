"""Choosing what is offloaded, and cutting it out of the graph: linear operators -> `Offload` nodes, one per slice."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import onnx_ir as ir

from ppidm.export.graph import activations_of
from ppidm.export.operators import Linear, linear_from_node

if TYPE_CHECKING:
    from collections.abc import Iterable

DOMAIN = "ppidm"
OFFLOAD = "Offload"
_TO_LAST, _TO_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


class OffloadChoice(str, Enum):
    """What `--offload` takes."""

    ALL = "all"
    CONV = "conv"


@dataclass(frozen=True, eq=False)
class Group:
    """Linear operators that share one input: what becomes a slice."""

    name: str
    operators: tuple[Linear, ...]


def cut_offloaded(graph: ir.Graph, choice: OffloadChoice) -> list[Group]:
    """Replace every linear operator that goes to the servers.

    Post-condition: each group is one node `ppidm::Offload` with the attribute `slice`, whose input and outputs are channels
    last; the Transposes that this needs are part of the graph around it.
    """
    activations = activations_of(graph)
    found = [linear for node in graph if (linear := linear_from_node(node, activations))]
    groups = _group(linear for linear in found if _chosen(linear, choice))
    for group in groups:
        _cut(graph, group)
    return groups


def _chosen(linear: Linear, choice: OffloadChoice) -> bool:
    return choice is OffloadChoice.ALL or linear.is_image


def _group(operators: Iterable[Linear]) -> list[Group]:
    by_input: dict[tuple[ir.Value, str, bool], list[Linear]] = {}
    for linear in operators:
        by_input.setdefault((linear.input, linear.layer.kind, linear.is_image), []).append(linear)
    taken: set[str] = set()
    return [Group(_unique(members[0].layer.name, taken), tuple(members)) for members in by_input.values()]


def _unique(name: str, taken: set[str]) -> str:
    base = re.sub(r"[^A-Za-z0-9_.-]+", ".", name).strip(".")[:180] or "slice"
    candidate, count = base, 1
    while candidate in taken:
        count += 1
        candidate = f"{base}-{count}"
    taken.add(candidate)
    return candidate


def _cut(graph: ir.Graph, group: Group) -> None:
    first, image = group.operators[0].node, group.operators[0].is_image
    source = first.inputs[0]  # not `operators[0].input`: that may have been cut out before
    new: list[ir.Node] = []
    if image:
        new.append(ir.node("Transpose", [source], {"perm": _TO_LAST}))
        source = _name_output(new[-1], f"{group.name}.input")
    offload = ir.node(OFFLOAD, [source], {"slice": group.name}, domain=DOMAIN, num_outputs=len(group.operators))
    new.append(offload)
    for index, (linear, result) in enumerate(zip(group.operators, offload.outputs, strict=True)):
        result.name = f"{group.name}.answer_{index}"
        result.type = ir.TensorType(ir.DataType.FLOAT)
        if image:
            new.append(ir.node("Transpose", [result], {"perm": _TO_FIRST}))
        _replace(graph, linear.node, new[-1].outputs[0] if image else result)
    graph.insert_before(first, new)
    graph.remove([linear.node for linear in group.operators], safe=True)


def _name_output(node: ir.Node, name: str) -> ir.Value:
    output = node.outputs[0]
    output.name, output.type = name, ir.TensorType(ir.DataType.FLOAT)
    return output


def _replace(graph: ir.Graph, node: ir.Node, new: ir.Value) -> None:
    old = node.outputs[0]
    new.type = old.type
    is_output = old in graph.outputs
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    if is_output:
        old.name, new.name = None, old.name
