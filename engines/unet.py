"""A partitioned U-Net: three programs that give what the whole one gives.

What depends on the prompt only, or on the timestep only, is computed once: for all prompts, and for all timesteps of a
picture, as one batch. Both are dictionaries of arrays whose first axis is the prompt, or the timestep.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ppidm.engines.program import ProgramResult, ProgramRunner

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from concurrent.futures import Executor
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from ppidm.engines.program import OffloadCallable
    from ppidm.protocol.records import Programs

    Floats = NDArray[np.float32]
    Hoisted = Mapping[str, Floats]

SAMPLE, TIMESTEP, PROMPT = "sample", "timestep", "encoder_hidden_states"
POOLED, SIZES = "text_embeds", "time_ids"  # SDXL: with the prompt
GUIDANCE = "timestep_cond"  # LCM: with the timestep


def select_rows(hoisted: Hoisted, rows: Sequence[int]) -> dict[str, Floats]:
    """One row per image of a batch: which prompt, or which timestep, it is under."""
    return {name: values[list(rows)] for name, values in hoisted.items()}


class PartitionedUNet:
    """The U-Net of a package. Holds no state of a run, so that several can share it.

    Args:
        directory: `OUT/client`.
        programs: of its manifest.
        pool: where steps run; not the pool that calls this object.
        threads: intra-op threads of the client's segments; 0 means one per core.
    """

    def __init__(self, directory: Path, programs: Programs, pool: Executor, threads: int = 0) -> None:
        self._prompt = ProgramRunner(directory, programs.prompt, threads)
        self._timestep = ProgramRunner(directory, programs.timestep, threads)
        self._sample = ProgramRunner(directory, programs.sample, threads)
        self._pool = pool

    def hoist_prompts(self, conditions: Hoisted, offload: OffloadCallable) -> ProgramResult:
        """What depends on the prompts only.

        Args:
            conditions: by name, a row per prompt: `PROMPT` is (prompts, tokens, features); SDXL has more.
            offload: asks the servers for a slice.
        """
        return self._prompt.run(conditions, offload, self._pool)

    def hoist_timesteps(
        self, timesteps: NDArray[np.float64], offload: OffloadCallable, conditions: Hoisted | None = None
    ) -> ProgramResult:
        """What depends on the timesteps only.

        Args:
            timesteps: (steps,).
            offload: asks the servers for a slice.
            conditions: `GUIDANCE`, a row per timestep, where the U-Net reads it.
        """
        feeds = {**(conditions or {}), TIMESTEP: timesteps.astype("float32")}
        return self._timestep.run(feeds, offload, self._pool)

    def evaluate(self, sample: Floats, prompt: Hoisted, timestep: Hoisted, offload: OffloadCallable) -> ProgramResult:
        """One evaluation of a batch; its only output is the prediction, of the shape of `sample`.

        Args:
            sample: (N, C, h, w), scaled as the scheduler wants it.
            prompt: N rows of the outputs of `hoist_prompts`.
            timestep: N rows of the outputs of `hoist_timesteps`.
            offload: asks the servers for a slice.
        """
        return self._sample.run({SAMPLE: sample, **prompt, **timestep}, offload, self._pool)
