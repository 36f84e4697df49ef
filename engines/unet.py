"""A partitioned U-Net: three programs that give what the whole one gives.

What depends on the prompt only, or on the timestep only, is computed once: for all prompts, and for all timesteps of a
picture, as one batch. Both are dictionaries of arrays whose first axis is the prompt, or the timestep.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from ppidm.engines.program import ProgramResult, ProgramRunner

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Executor
    from pathlib import Path

    from numpy.typing import NDArray

    from ppidm.engines.program import OffloadCallable
    from ppidm.protocol.manifest import Programs

    Floats = NDArray[np.float32]
    Hoisted = Mapping[str, Floats]

SAMPLE, TIMESTEP, PROMPT = "sample", "timestep", "encoder_hidden_states"


class PartitionedUNet:
    """The U-Net of a package.

    Args:
        directory: `OUT/client`.
        programs: of its manifest.
        offload: asks the servers for a slice.
        pool: where steps run; not the pool that calls this object.
        threads: intra-op threads of the client's segments; 0 means one per core.

    Attributes:
        flops: what the client's segments have computed so far.
        segment_seconds: time in segments so far, summed over threads.
    """

    def __init__(
        self, directory: Path, programs: Programs, offload: OffloadCallable, pool: Executor, threads: int = 0
    ) -> None:
        self._prompt = ProgramRunner(directory, programs.prompt, threads)
        self._timestep = ProgramRunner(directory, programs.timestep, threads)
        self._sample = ProgramRunner(directory, programs.sample, threads)
        self._offload, self._pool, self._lock = offload, pool, Lock()
        self.flops, self.segment_seconds = 0, 0.0

    def hoist_prompts(self, encoder_hidden_states: Floats) -> ProgramResult:
        """What depends on the prompts only; `encoder_hidden_states` is (prompts, tokens, features)."""
        return self._run(self._prompt, {PROMPT: encoder_hidden_states})

    def hoist_timesteps(self, timesteps: NDArray[np.float64]) -> ProgramResult:
        """What depends on the timesteps only; `timesteps` is (steps,)."""
        return self._run(self._timestep, {TIMESTEP: timesteps.astype(np.float32)})

    def evaluate(self, sample: Floats, prompt: Hoisted, timestep: Hoisted, rows: tuple[int, int]) -> tuple[Floats, int]:
        """One evaluation of a batch under one prompt at one timestep.

        Args:
            sample: (N, C, h, w), scaled as the scheduler wants it.
            prompt: outputs of `hoist_prompts`.
            timestep: outputs of `hoist_timesteps`.
            rows: which prompt, and which timestep.

        Returns:
            The prediction, of the shape of `sample`, and the rounds that it took.
        """
        inputs: dict[str, Any] = {SAMPLE: sample}
        for hoisted, row in zip((prompt, timestep), rows, strict=True):
            inputs.update({name: np.repeat(values[row : row + 1], len(sample), axis=0) for name, values in hoisted.items()})
        result = self._run(self._sample, inputs)
        (prediction,) = result.outputs.values()
        return prediction, result.rounds

    def _run(self, runner: ProgramRunner, inputs: Mapping[str, Any]) -> ProgramResult:
        result = runner.run(inputs, self._offload, self._pool)
        with self._lock:
            self.flops += result.flops
            self.segment_seconds += result.segment_seconds
        return result
