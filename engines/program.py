"""The executor of a partitioned graph: client segments on ONNX Runtime, slices through an `offload` callable.

Used by the client, whose `offload` asks servers, and by export, whose `offload` computes on the spot.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from graphlib import TopologicalSorter
from time import perf_counter
from typing import TYPE_CHECKING, Any

from ppidm.engines.onnxruntime import open_graph
from ppidm.protocol.errors import PackageError
from ppidm.protocol.records import Offload, Program, Segment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Executor
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[Any]
    OffloadCallable = Callable[[str, NDArray[np.float32]], Sequence[Array]]

FLOPS = "flops"  # the last output of every segment: what it computed, 2 per multiply-accumulate


@dataclass(frozen=True)
class ProgramResult:
    """What a run gave.

    Attributes:
        outputs: the program's outputs by name.
        flops: what the client's segments computed; 2 per multiply-accumulate.
        rounds: offloads that had to wait for one another: the longest chain.
        segment_seconds: time in segments, summed over threads.
    """

    outputs: dict[str, Array]
    flops: int
    rounds: int
    segment_seconds: float


class ProgramRunner:
    """A loaded program. Safe to run from several threads at once.

    Args:
        directory: of the package that holds the segments.
        program: the DAG.
        threads: intra-op threads of every segment; 0 means one per core.

    Raises:
        PackageError: a segment cannot be loaded, or the DAG reads a value that nothing writes, writes one twice, or has
            a cycle.
    """

    def __init__(self, directory: Path, program: Program, threads: int = 0) -> None:
        self.program = program
        self._before = _dependencies(program)
        segments = [step for step in program.steps if isinstance(step, Segment)]
        self._sessions = {
            step.file: open_graph(directory / step.file, step.reads, [*step.writes, FLOPS], threads)
            for step in segments
        }
        self._uses = Counter(name for step in program.steps for name in step.reads)

    def run(self, inputs: Mapping[str, Array], offload: OffloadCallable, pool: Executor) -> ProgramResult:
        """Run every step as soon as what it reads is there.

        Args:
            inputs: the program's inputs by name; others are ignored.
            offload: (slice name, activation) -> the float32 result of every layer of the slice; may block.
            pool: where steps run. Its size bounds how many slices are in flight.

        An exception of a step ends the run: steps that have not started never do, those that have are waited for.
        """
        return _Run(self, inputs, offload).finish(pool)


class _Run:
    def __init__(self, runner: ProgramRunner, inputs: Mapping[str, Array], offload: OffloadCallable) -> None:
        self.runner, self.offload = runner, offload
        self.values = {name: inputs[name] for name in runner.program.inputs}
        self.depth = dict.fromkeys(self.values, 0)
        self.uses = runner._uses.copy()  # noqa: SLF001
        self.flops, self.segment_seconds = 0, 0.0

    def finish(self, pool: Executor) -> ProgramResult:
        running: dict[Future[tuple[Sequence[Array], float]], int] = {}
        try:
            self.run_steps(pool, running)
        finally:  # after an error: no step of this run outlives it
            for future in running:
                future.cancel()
            wait(running)
        outputs = {name: self.values[name] for name in self.runner.program.outputs}
        return ProgramResult(outputs, self.flops, max(self.depth.values(), default=0), self.segment_seconds)

    def run_steps(self, pool: Executor, running: dict[Future[tuple[Sequence[Array], float]], int]) -> None:
        steps = self.runner.program.steps
        order = TopologicalSorter(self.runner._before)  # noqa: SLF001
        order.prepare()
        while order.is_active():
            for index in order.get_ready():
                running[pool.submit(self.execute, steps[index])] = index
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                index = running.pop(future)
                self.store(steps[index], *future.result())
                order.done(index)

    def execute(self, step: Segment | Offload) -> tuple[Sequence[Array], float]:
        if isinstance(step, Offload):
            return self.offload(step.slice, self.values[step.reads[0]]), 0.0
        start = perf_counter()
        feeds = {name: self.values[name] for name in step.reads}
        results = self.runner._sessions[step.file].run([*step.writes, FLOPS], feeds)  # noqa: SLF001
        return results, perf_counter() - start

    def store(self, step: Segment | Offload, results: Sequence[Array], seconds: float) -> None:
        depth = max((self.depth[name] for name in step.reads), default=0)
        if isinstance(step, Segment):
            *results, flops = results
            self.flops += int(flops)
            self.segment_seconds += seconds
        else:
            depth += 1
        self.values.update(zip(step.writes, results, strict=True))
        self.depth.update(dict.fromkeys(step.writes, depth))
        self.forget(step)

    def forget(self, step: Segment | Offload) -> None:
        """Drop what no later step reads: the activations of a whole U-Net do not fit a small laptop."""
        for name in step.reads:
            self.uses[name] -= 1
            if not self.uses[name] and name not in self.runner.program.outputs:
                del self.values[name]


def _dependencies(program: Program) -> dict[int, set[int]]:
    """The steps that every step waits for."""
    written = Counter([*program.inputs, *(name for step in program.steps for name in step.writes)])
    if twice := [name for name, count in written.items() if count > 1]:
        raise PackageError(f"the program writes {twice[0]!r} twice; export the package again")
    writer = {name: index for index, step in enumerate(program.steps) for name in step.writes}
    known = {*writer, *program.inputs}
    missing = {*program.outputs, *(name for step in program.steps for name in step.reads)} - known
    if missing:
        raise PackageError(f"the program reads {min(missing)!r}, which no step writes; export the package again")
    graph = {index: {writer[name] for name in step.reads if name in writer} for index, step in enumerate(program.steps)}
    try:
        TopologicalSorter(graph).prepare()
    except ValueError as error:
        raise PackageError(f"the program has a cycle ({error}); export the package again") from error
    return graph
