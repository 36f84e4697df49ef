"""A graph with `Offload` nodes -> programs: DAGs of client segments and slices.

Work that depends on the prompt only, or on the timestep only, becomes a program of its own and runs once. Within a program
every node gets a *level*: how many offloads lie before it, at most. Slices run as early as they can, client nodes as late
as they may without delaying one; the client nodes of one level that touch each other form one segment.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import onnx_ir as ir

from ppidm.export.flops import count_flops
from ppidm.export.graph import activations_of, graph_inputs_of
from ppidm.export.offload import OFFLOAD
from ppidm.protocol.manifest import Offload, Program, Segment

if TYPE_CHECKING:
    from collections.abc import Iterable

    Edges = dict[ir.Node, list[ir.Node]]


@dataclass
class Partition:
    """Programs by phase, and the ONNX model of every segment by its file name."""

    programs: dict[str, Program] = field(default_factory=dict)
    segments: dict[str, ir.Model] = field(default_factory=dict)


def partition_graph(model: ir.Model, phases: dict[str, frozenset[str]]) -> Partition:
    """Partition `model`.

    Args:
        model: the graph after `cut_offloaded`.
        phases: name -> graph inputs, in the order in which they run; a node belongs to the first phase that has all the
            inputs that the node depends on. The last phase has them all.

    Returns:
        A program per phase. Values that later phases read are outputs of the earlier one.
    """
    result = Partition()
    depends = graph_inputs_of(model.graph)
    phase_of = {node: next(name for name, inputs in phases.items() if names <= inputs) for node, names in depends.items()}
    for phase in phases:
        nodes = [node for node in model.graph if phase_of.get(node) == phase]
        _Phase(phase, model, nodes).write(result)
    return result


class _Phase:
    """The nodes of one program, in topological order."""

    def __init__(self, name: str, model: ir.Model, nodes: list[ir.Node]) -> None:
        self.name, self.model, self.nodes = name, model, nodes
        self.members = set(nodes)
        self.activations = activations_of(model.graph)
        self.level = self._levels()

    def write(self, result: Partition) -> None:
        steps: list[tuple[int, Offload | Segment]] = []
        for count, component in enumerate(self._components()):
            file = f"segments/{self.name}-{count:03}.onnx"
            reads, writes = self._reads(component), self._writes(component)
            result.segments[file] = self._segment(file, reads, writes)
            steps.append((self.level[component[0]], Segment(file=file, reads=_names(reads), writes=_names(writes))))
        steps += [(self.level[node], _offload_step(node)) for node in self.nodes if node.op_type == OFFLOAD]
        steps.sort(key=lambda step: (step[0], step[1].kind == "offload"))
        result.programs[self.name] = Program(
            inputs=_names(self._reads(self.nodes)),
            outputs=_names(self._writes(self.nodes)),
            steps=tuple(step for _, step in steps),
        )

    def _levels(self) -> dict[ir.Node, int]:
        earliest: dict[ir.Node, int] = {}
        for node in self.nodes:
            before = [producer for producer in _producers(node) if producer in self.members]
            earliest[node] = max((earliest[p] + (p.op_type == OFFLOAD) for p in before), default=0)
        latest = dict(earliest)
        for node in reversed(self.nodes):
            after = [latest[consumer] for consumer in _consumers(node) if consumer in self.members]
            if node.op_type != OFFLOAD and after:
                latest[node] = min(after)
        return latest

    def _components(self) -> list[list[ir.Node]]:
        """Client nodes that are connected within one level, in topological order."""
        component: dict[ir.Node, list[ir.Node]] = {}
        for node in self.nodes:
            if node.op_type == OFFLOAD:
                continue
            merged = [node]
            neighbours = [p for p in _producers(node) if p in component and self.level[p] == self.level[node]]
            for other in {id(component[p]): component[p] for p in neighbours}.values():
                merged = other + merged
            for member in merged:
                component[member] = merged
        unique = {id(members): members for members in component.values()}.values()
        return sorted(unique, key=lambda members: self.level[members[0]])

    def _reads(self, nodes: Iterable[ir.Node]) -> list[ir.Value]:
        """Activations that `nodes` need from outside."""
        made = {output for node in nodes for output in node.outputs}
        needed = dict.fromkeys(value for node in nodes for value in node.inputs if value is not None)
        return [value for value in needed if value in self.activations and value not in made]

    def _writes(self, nodes: Iterable[ir.Node]) -> list[ir.Value]:
        """Values that `nodes` make and others, or the graph, use."""
        inside, outputs = set(nodes), set(self.model.graph.outputs)
        made = [output for node in nodes for output in node.outputs]
        return [value for value in made if value in outputs or any(user not in inside for user in value.consumers())]

    def _segment(self, name: str, reads: list[ir.Value], writes: list[ir.Value]) -> ir.Model:
        graph = ir.convenience.extract(self.model.graph, _names(reads), _names(writes))
        graph.name = name
        for value in graph.initializers.values():
            assert value.const_value is not None
            value.const_value = ir.tensor(value.const_value.numpy().copy(), name=value.name)
        count_flops(graph)
        return ir.Model(graph, ir_version=10, producer_name="ppidm")


def _producers(node: ir.Node) -> list[ir.Node]:
    return [producer for value in node.inputs if value is not None and (producer := value.producer())]


def _consumers(node: ir.Node) -> list[ir.Node]:
    return [consumer for output in node.outputs for consumer in output.consumers()]


def _names(values: Iterable[ir.Value]) -> tuple[str, ...]:
    return tuple(str(value.name) for value in values)


def _offload_step(node: ir.Node) -> Offload:
    reads, writes = (str(node.inputs[0].name),), _names(node.outputs)  # type: ignore[union-attr]
    return Offload(slice=node.attributes["slice"].as_string(), reads=reads, writes=writes)
