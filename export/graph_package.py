"""`ppidm export FILE.onnx`: a graph that nobody here made -> a package. Any names, any operators of the allow-list."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from ppidm.engines.onnx_policy import SEGMENT
from ppidm.export.compare import require_close, require_equal
from ppidm.export.graph import activations_of, load_graph
from ppidm.export.packing import Packing
from ppidm.export.reference import dry_run, program_outputs, run_graph
from ppidm.export.settings import ExportResult, ExportSettings, silent
from ppidm.export.staging import require_free, staged
from ppidm.export.stand_ins import FloatOffload, SliceOffload
from ppidm.protocol.errors import InputError, UnsupportedError
from ppidm.protocol.manifest import GraphManifest
from ppidm.protocol.records import GraphInput
from ppidm.protocol.signatures import load_private_key

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from ppidm.export.settings import Progress
    from ppidm.protocol.linear import Shape

    Feeds = dict[str, NDArray[np.float32]]

PHASE = "graph"


def is_graph(model: str) -> bool:
    """Whether `ppidm export` was given a single ONNX file."""
    return model.endswith(".onnx")


def export_graph(path: Path, settings: ExportSettings, progress: Progress = silent) -> ExportResult:
    """Export the graph at `path`.

    Raises:
        InputError: it cannot be read, a shape is missing, or OUT exists and `force` is off.
        UnsupportedError: it holds what clients do not run, nothing to offload, or a comparison fails; names the node.
    """
    require_free(settings.out, force=settings.force)
    if settings.sign is not None:
        load_private_key(settings.sign)
    with staged(settings.out) as staging:
        return _Export(path, staging, settings, progress).run()


class _Export(Packing):
    def __init__(self, path: Path, staging: Path, settings: ExportSettings, progress: Progress) -> None:
        super().__init__(staging, settings, progress)
        self.path = path
        graph = load_graph(path).graph
        _require_known_operators(graph)
        _require_float_inputs(graph)
        self.shapes = _shapes(graph, settings.input_shapes)
        self.names = frozenset(self.shapes)

    def run(self) -> ExportResult:
        rng = np.random.default_rng(0)
        feeds: Feeds = {name: rng.standard_normal(shape, np.float32) for name, shape in self.shapes.items()}
        self.progress("running the graph", 0, 1)
        expected = run_graph(self.path, feeds)
        part = self.partition(
            self.path,
            {PHASE: self.names},
            lambda programs, groups: dry_run(self.client, programs.values(), groups, feeds),
            self.settings.offload,
        )
        program = part.programs[PHASE]
        got = program_outputs(self.client, program, feeds, FloatOffload(part.groups))
        error = max(require_equal(*pair) for pair in zip(expected, got, strict=True))
        slices = self.write_slices([part])
        self.progress("comparing the slices with the graph", 0, 1)
        offload = SliceOffload(
            self.server, slices.subgraphs, slices.openings, self.ring, self.settings.precision.dropped_bits
        )
        got = program_outputs(self.client, program, feeds, offload)
        snr = min(require_close(*pair, self.settings.precision) for pair in zip(expected, got, strict=True))
        inputs = tuple(GraphInput(name=name, shape=shape) for name, shape in self.shapes.items())
        self.write_manifests(self.path.stem, slices, GraphManifest, program=program, inputs=inputs)
        return ExportResult(self.settings.out, len(part.groups), part.segments, error, snr, part.share)


def _require_known_operators(graph: ir.Graph) -> None:
    """Name the node, which the guard of the finished segment could not."""
    activations = activations_of(graph)
    for node in graph:
        if activations.isdisjoint(node.outputs):
            continue
        if node.domain or node.op_type not in SEGMENT.operators:
            kind = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            raise UnsupportedError(
                f"node {node.name or node.outputs[0].name!r}: operator {kind}, which clients do not run; expected "
                "standard operators without control flow, random numbers or shapes that depend on values"
            )


def _require_float_inputs(graph: ir.Graph) -> None:
    for value in graph.inputs:
        if value.dtype is not ir.DataType.FLOAT:
            raise UnsupportedError(
                f"input {value.name!r} is {value.dtype.name if value.dtype else 'of no type'}; expected FLOAT: indices could "
                "depend on secrets. Make it a constant of the graph, or look it up before"
            )


def _shapes(graph: ir.Graph, given: tuple[str, ...]) -> dict[str, Shape]:
    """The shape of every input: as `--input-shape` says, or its own, with 1 for an unknown first dimension."""
    chosen = dict(_parse_shape(text) for text in given)
    if unknown := chosen.keys() - {str(value.name) for value in graph.inputs}:
        raise InputError(f"--input-shape names {min(unknown)!r}; the graph reads {[v.name for v in graph.inputs]}")
    return {str(value.name): chosen.get(str(value.name)) or _own_shape(value) for value in graph.inputs}


def _parse_shape(text: str) -> tuple[str, Shape]:
    name, _, sizes = text.rpartition("=")
    try:
        shape = tuple(int(size) for size in sizes.split("x"))
    except ValueError:
        shape = ()
    if not name or not shape or min(shape) < 1:
        raise InputError(f"--input-shape is {text!r}; expected NAME=1x3x224x224")
    return name, shape


def _own_shape(value: ir.Value) -> Shape:
    dims = [dim if isinstance(dim, int) else 0 for dim in value.shape or ()]
    if dims and not dims[0]:
        dims[0] = 1
    if value.shape is None or not all(dims):
        raise InputError(f"input {value.name!r} has shape {value.shape}; give --input-shape {value.name}=1x3x224x224")
    return tuple(dims)
