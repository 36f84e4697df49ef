"""Running small graphs, whole and partitioned."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from ppidm.engines.program import ProgramResult, ProgramRunner
from ppidm.export.client_files import save_graph
from ppidm.export.graph import load_graph
from ppidm.export.offload import Group, cut_offloaded
from ppidm.export.partition import Partition, partition_graph
from ppidm.export.settings import OffloadChoice
from ppidm.export.stand_ins import FloatOffload

if TYPE_CHECKING:
    from pathlib import Path

    import onnx_ir as ir

ONE_PHASE = {"sample": frozenset({"x", "y"})}
PHASES = {"prompt": frozenset({"p"}), "timestep": frozenset({"t"}), "sample": frozenset({"x", "p", "t"})}
SIZES = {"h": 6, "w": 6, "l": 3}


class RecordingOffload(FloatOffload):
    """Remembers which slices it was asked for."""

    def __init__(self, groups: list[Group]) -> None:
        super().__init__(groups)
        self.asked: set[str] = set()

    def __call__(self, name: str, x: np.ndarray) -> list[np.ndarray]:
        self.asked.add(name)
        return super().__call__(name, x)


@dataclass
class Composed:
    """What running a partitioned graph gave."""

    outputs: dict[str, np.ndarray]
    results: dict[str, ProgramResult]
    partition: Partition
    groups: list[Group]
    offload: RecordingOffload


def inputs_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Random inputs; a named dimension is 2 unless `SIZES` knows better."""
    rng = np.random.default_rng(8)
    named = {tensor.name for tensor in model.graph.initializer}
    inputs = {}
    for value in model.graph.input:
        kind = value.type.tensor_type
        shape = [dim.dim_value or SIZES.get(dim.dim_param, 2) for dim in kind.shape.dim]
        if value.name not in named:
            array = rng.standard_normal(shape).astype(helper.tensor_dtype_to_np_dtype(kind.elem_type))
            inputs[value.name] = array
    return inputs


def run_whole(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What ONNX Runtime makes of the graph as it is."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def load(folder: Path, model: onnx.ModelProto) -> ir.Model:
    """The graph as export reads it."""
    onnx.save(model, folder / "model.onnx")
    return load_graph(folder / "model.onnx")


def compose(
    folder: Path,
    model: onnx.ModelProto,
    inputs: dict[str, np.ndarray],
    phases: dict[str, frozenset[str]] = ONE_PHASE,
    choice: OffloadChoice = OffloadChoice.ALL,
) -> Composed:
    """Partition the graph and run its programs one after the other, slices as float32 products."""
    graph = load(folder, model)
    groups = cut_offloaded(graph.graph, choice)
    partition = partition_graph(graph, phases)
    (folder / "segments").mkdir()
    for file, segment in partition.segments.items():
        save_graph(segment, folder / file)
    offload, values, results = RecordingOffload(groups), dict(inputs), {}
    with ThreadPoolExecutor(2) as pool:
        for name, program in partition.programs.items():
            results[name] = ProgramRunner(folder, program, threads=1).run(values, offload, pool)
            values |= results[name].outputs
    return Composed(results[list(phases)[-1]].outputs, results, partition, groups, offload)
