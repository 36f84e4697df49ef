"""Which program a node belongs to: what depends on the prompt only, or on the timestep only, runs once.

A value that one program hands to a later one must have a row per prompt, or per timestep, because the client picks
rows. What has none, a size or a tensor with the attention heads folded into its first axis, is computed again where it
is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from ppidm.export.graph import graph_inputs_of, reads_of, unique_name, value_names
from ppidm.export.offload import OFFLOAD
from ppidm.protocol.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    Phases = Mapping[str, frozenset[str]]

_BODIES = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


def assign_phases(graph: ir.Graph, phases: Phases) -> dict[ir.Node, str]:
    """The phase of every node that is not constant and leads to an output of `graph`.

    A node belongs to the first phase that has all the graph inputs that it depends on. Adds nodes to `graph`: the
    copies of what is computed again.

    Raises:
        UnsupportedError: a node depends on inputs that no phase has, or an output on none.
    """
    depends = graph_inputs_of(graph)
    if constant := [value for value in graph.outputs if value not in depends]:
        raise UnsupportedError(f"{graph.name}: output {constant[0].name} depends on no input; remove it from the graph")
    phase_of = {
        node: _first_with(depends[node.outputs[0]], phases, graph) for node in graph if node.outputs[0] in depends
    }
    _Copies(graph, phase_of).make()
    live = _live_nodes(graph)
    return {node: phase for node, phase in phase_of.items() if node in live}


def _first_with(names: frozenset[str], phases: Phases, graph: ir.Graph) -> str:
    for phase, inputs in phases.items():
        if names <= inputs:
            return phase
    known = sorted(frozenset[str]().union(*phases.values()))
    raise UnsupportedError(f"{graph.name}: reads inputs {sorted(names)}; this U-Net is not supported, expected {known}")


def _live_nodes(graph: ir.Graph) -> set[ir.Node]:
    values, nodes = set(graph.outputs), set()
    for node in reversed(graph):
        if not values.isdisjoint(node.outputs):
            nodes.add(node)
            values.update(reads_of(node))
    return nodes


class _Copies:
    """Makes copies of nodes whose outputs have no rows, for the later phases that read them."""

    def __init__(self, graph: ir.Graph, phase_of: dict[ir.Node, str]) -> None:
        self.graph, self.phase_of = graph, phase_of
        self.sizes = _sizes(graph, phase_of)
        self.rows = {_rows(value) for value in graph.inputs} - {0} | {None}
        self.taken = value_names(graph)
        self.copies: dict[tuple[ir.Node, str], ir.Node] = {}

    def make(self) -> None:
        for node in list(self.graph):
            if phase := self.phase_of.get(node):
                for index, value in enumerate(node.inputs):
                    node.replace_input_with(index, self.within(phase, value, node))

    def within(self, phase: str, value: ir.Value | None, before: ir.Node) -> ir.Value | None:
        """`value`, or if an earlier phase computes it and it has no rows, a copy; its nodes go before `before`."""
        node = value.producer() if value else None
        if not value or not node or self.phase_of.get(node, phase) == phase or self.has_rows(value):
            return value
        if (node, phase) not in self.copies:
            self.copies[node, phase] = self.copy(node, phase, before)
        return self.copies[node, phase].outputs[value.index() or 0]

    def copy(self, node: ir.Node, phase: str, before: ir.Node) -> ir.Node:
        inputs = [self.within(phase, value, before) for value in node.inputs]
        copy = ir.Node(node.domain, node.op_type, inputs, node.attributes.values(), num_outputs=len(node.outputs))
        for old, new in zip(node.outputs, copy.outputs, strict=True):
            new.type, new.shape = old.type, old.shape
            new.name = unique_name(f"{old.name}.{phase}", self.taken) if old.name else ""
        self.phase_of[copy] = phase
        self.graph.insert_before(before, copy)
        return copy

    def has_rows(self, value: ir.Value) -> bool:
        """Whether a client can pick rows of `value`, as far as its shape is known; True where it cannot be copied."""
        node = value.producer()
        attributes = node.attributes.values() if node else ()
        if node and (node.op_type == OFFLOAD or any(attribute.type in _BODIES for attribute in attributes)):
            return True
        return value not in self.sizes and _rows(value) in self.rows


def _sizes(graph: ir.Graph, nodes: Container[ir.Node]) -> set[ir.Value]:
    """What depends on the shapes of activations only."""
    sizes: set[ir.Value] = set()
    for node in graph:
        if node in nodes:
            reads = [value for value in reads_of(node) if value.is_graph_input() or value.producer() in nodes]
            if node.op_type in {"Shape", "Size"} or sizes.issuperset(reads):
                sizes.update(node.outputs)
    return sizes


def _rows(value: ir.Value) -> int | str | None:
    """Size or name of the first dimension; None where it is not known, 0 where there is none."""
    if value.shape is None:
        return None
    if not value.shape.rank():
        return 0
    first = value.shape[0]
    return first if isinstance(first, int) else first.value
