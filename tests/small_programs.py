"""Small programs: segments that add, slices that count up, and an executor for them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper, save

from ppidm.engines.program import ProgramResult, ProgramRunner
from ppidm.protocol.records import Offload, Program, Segment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

FLOPS = 5  # of every segment here
ONE = np.ones((2, 3), np.float32)


def offload(reads: str, *writes: str) -> Offload:
    """A slice that is named after what it writes."""
    return Offload(slice="to_" + writes[0], reads=(reads,), writes=writes)


def segment(reads: Sequence[str], write: str) -> Segment:
    """Twice the sum of what it reads."""
    return Segment(file=f"{write}.onnx", reads=tuple(reads), writes=(write,))


def load_program(
    folder: Path, steps: Sequence[Offload | Segment], outputs: Sequence[str], inputs: Sequence[str] = ("x",)
) -> ProgramRunner:
    """Write the segments, and load the program."""
    for step in steps:
        if isinstance(step, Segment):
            _save_sum(folder / step.file, step.reads, *step.writes)
    return ProgramRunner(folder, Program(inputs=inputs, outputs=outputs, steps=steps), threads=1)


def _save_sum(path: Path, reads: Sequence[str], write: str) -> None:
    nodes = [
        helper.make_node("Sum", list(reads), ["sum"]),
        helper.make_node("Add", ["sum", "sum"], [write]),
        helper.make_node("Constant", [], ["flops"], value_int=FLOPS),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None]) for name in dict.fromkeys(reads)]
    outputs = [helper.make_tensor_value_info(write, TensorProto.FLOAT, [None, None])]
    outputs.append(helper.make_tensor_value_info("flops", TensorProto.INT64, []))
    graph = helper.make_graph(nodes, "sum", inputs, outputs)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)


def count_up(name: str, x: Any) -> list[Any]:
    """A slice: x + 1; one of two layers: x + 1, x + 2."""
    return [x + 1, x + 2] if name.startswith("to_pair") else [x + 1]


def run(runner: ProgramRunner, offload: Callable[..., Any] = count_up, workers: int = 4) -> ProgramResult:
    """Run a program for x = 1 with a pool of its own."""
    with ThreadPoolExecutor(workers) as pool:
        return runner.run({"x": ONE}, offload, pool)
