"""A graph with `Offload` nodes -> programs: DAGs of client segments and slices.

Work that depends on the prompt only, or on the timestep only, becomes a program of its own and runs once. Within a
program every node gets a *level*: how many offloads lie before it, at most. Slices run as early as they can, client
nodes as late as they may without delaying one; the client nodes of one level that touch each other form one segment. So
the number of rounds is that of the longest chain of offloads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import onnx_ir as ir

from ppidm.export.flops import count_flops
from ppidm.export.graph import activations_of, reads_of
from ppidm.export.offload import OFFLOAD
from ppidm.export.phases import assign_phases
from ppidm.protocol.errors import UnsupportedError
from ppidm.protocol.records import Offload, Program, Segment

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ppidm.export.phases import Phases

    Values = dict[ir.Value, None]  # an ordered set


@dataclass
class Partition:
    """Programs by phase, and the ONNX model of every segment by its file name. Weights are still on disk."""

    programs: dict[str, Program] = field(default_factory=dict)
    segments: dict[str, ir.Model] = field(default_factory=dict)


def partition_graph(model: ir.Model, phases: Phases) -> Partition:
    """Partition `model`.

    Args:
        model: the graph after `load_graph` and `cut_offloaded`; gets copies of nodes that two phases need.
        phases: name -> graph inputs, in the order in which they run. The last phase has them all.

    Returns:
        A program per phase. What later phases read is among the outputs of the earlier one, graph inputs too; the
        outputs of the last one are those of the graph.

    Raises:
        UnsupportedError: the graph reads other inputs, or has values without a type or outputs without an input.
    """
    phase_of = assign_phases(model.graph, phases)
    activations = activations_of(model.graph)
    programs: list[_Program] = []
    outputs: Values = dict.fromkeys(model.graph.outputs)
    wanted: Values = {}
    for phase in reversed(list(phases)):
        nodes = [node for node in model.graph if phase_of.get(node) == phase]
        if programs:
            outputs = {value: None for value in wanted if _owner(value, phase_of, phases) == phase}
        programs.append(_Program(phase, model, nodes, activations, outputs))
        wanted |= programs[-1].inputs()
    result = Partition()
    for program in reversed(programs):
        program.write(result)
    return result


def _owner(value: ir.Value, phase_of: dict[ir.Node, str], phases: Phases) -> str:
    if node := value.producer():
        return phase_of[node]
    return next(phase for phase, inputs in phases.items() if value.name in inputs)


class _Program:
    """The nodes of one program, in topological order, and the values that it must give."""

    def __init__(
        self, name: str, model: ir.Model, nodes: list[ir.Node], activations: set[ir.Value], outputs: Values
    ) -> None:
        self.name, self.model, self.nodes, self.activations, self.outputs = name, model, nodes, activations, outputs
        members = set(nodes)
        self.before = {
            node: [producer for value in reads_of(node) if (producer := value.producer()) in members] for node in nodes
        }
        self.level = self._levels()

    def inputs(self) -> Values:
        """What the caller or other programs give."""
        made = {output for node in self.nodes for output in node.outputs}
        return {value: None for value in self._reads(self.nodes) | self.outputs if value not in made}

    def write(self, result: Partition) -> None:
        components = self._components()
        reads = [self._reads(component) for component in components]
        offloads = [node for node in self.nodes if node.op_type == OFFLOAD]
        shared = set(self.outputs).union(self._reads(offloads), *reads)
        steps: list[tuple[int, Offload | Segment]] = [(self.level[node], _offload_step(node)) for node in offloads]
        for count, (component, needed) in enumerate(zip(components, reads, strict=True)):
            file = f"segments/{self.name}-{count:03}.onnx"
            writes = [output for node in component for output in node.outputs if output in shared]
            result.segments[file] = self._segment(file, list(needed), writes)
            steps.append((self.level[component[0]], Segment(file=file, reads=_names(needed), writes=_names(writes))))
        steps.sort(key=lambda step: (step[0], step[1].kind == "offload"))
        result.programs[self.name] = Program(
            inputs=_names(self.inputs()), outputs=_names(self.outputs), steps=tuple(step for _, step in steps)
        )

    def _levels(self) -> dict[ir.Node, int]:
        earliest: dict[ir.Node, int] = {}
        for node in self.nodes:
            earliest[node] = max((earliest[p] + (p.op_type == OFFLOAD) for p in self.before[node]), default=0)
        latest: dict[ir.Node, int] = {}
        for node in reversed(self.nodes):
            level = earliest[node] if node.op_type == OFFLOAD else latest.get(node, earliest[node])
            latest[node] = level
            for producer in self.before[node]:
                latest[producer] = min(level, latest.get(producer, level))
        return latest

    def _components(self) -> list[list[ir.Node]]:
        """Client nodes that are connected within one level, in topological order."""
        client = [node for node in self.nodes if node.op_type != OFFLOAD]
        parent: dict[ir.Node, ir.Node] = {}

        def root(node: ir.Node) -> ir.Node:
            while node in parent:
                parent[node] = parent.get(parent[node], parent[node])  # halves the way for the next one
                node = parent[node]
            return node

        for node in client:
            for producer in self.before[node]:
                same = producer.op_type != OFFLOAD and self.level[producer] == self.level[node]
                if same and (other := root(producer)) is not node:
                    parent[other] = node
        components: dict[ir.Node, list[ir.Node]] = {}
        for node in client:
            components.setdefault(root(node), []).append(node)
        return sorted(components.values(), key=lambda members: self.level[members[0]])

    def _reads(self, nodes: Iterable[ir.Node]) -> Values:
        """Activations that `nodes` need from outside."""
        made = {output for node in nodes for output in node.outputs}
        needed = [value for node in nodes for value in reads_of(node)]
        return {value: None for value in needed if value in self.activations and value not in made}

    def _segment(self, name: str, reads: list[ir.Value], writes: list[ir.Value]) -> ir.Model:
        if untyped := [value for value in [*reads, *writes] if value.type is None]:
            raise UnsupportedError(f"{untyped[0].name}: a value without a type; infer the shapes of the graph first")
        graph = ir.convenience.extract(self.model.graph, reads, writes)
        graph.name = name
        initializers = sorted(graph.initializers.items())  # `extract` gives them in a random order
        graph.initializers.clear()
        graph.initializers.update(initializers)
        count_flops(graph)
        return ir.Model(graph, ir_version=self.model.ir_version, producer_name="ppidm")


def _names(values: Iterable[ir.Value]) -> tuple[str, ...]:
    return tuple(str(value.name) for value in values)


def _offload_step(node: ir.Node) -> Offload:
    reads, writes = (str(node.inputs[0].name),), _names(node.outputs)  # type: ignore[union-attr]
    return Offload(slice=node.attributes["slice"].as_string(), reads=reads, writes=writes)
