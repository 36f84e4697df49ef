"""The U-Net under classifier-free guidance: both halves at the same time, each on the servers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from ppidm.engines.unet import GUIDANCE, PROMPT, select_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ppidm.client.account import Account
    from ppidm.client.arguments import Request
    from ppidm.client.offload import Offloader
    from ppidm.engines.program import ProgramResult
    from ppidm.engines.unet import Hoisted, PartitionedUNet

    Floats = NDArray[np.float32]


class Denoiser:
    """Predictions for the pictures of one request.

    Args:
        unet: the partitioned U-Net.
        offload: of this call.
        account: of this call.
        request: prompts, pictures per prompt, guidance.
    """

    def __init__(self, unet: PartitionedUNet, offload: Offloader, account: Account, request: Request) -> None:
        self._unet, self._offload, self._account, self._request = unet, offload, account, request
        self._halves: list[Hoisted] = []
        self._timesteps: Hoisted = {}

    def prepare(self, conditions: Hoisted, timesteps: NDArray[np.float64]) -> None:
        """Compute once what depends on the prompts only, and on the timesteps only.

        Args:
            conditions: of `request.texts`, by name, a row per text; `GUIDANCE` has one row for all.
            timesteps: of every evaluation.
        """
        prompts = self._unet.hoist_prompts(conditions, self._offload)
        guidance = {name: np.repeat(conditions[name], len(timesteps), axis=0) for name in {GUIDANCE} & set(conditions)}
        steps = self._unet.hoist_timesteps(timesteps, self._offload, guidance)
        self._account.add_side_by_side([prompts])
        self._account.add_side_by_side([steps])
        rows = np.repeat(np.arange(len(conditions[PROMPT])), self._request.pictures)
        halves = np.split(rows, 2) if self._request.guided else [rows]
        self._halves = [select_rows(prompts.outputs, half.tolist()) for half in halves]
        self._timesteps = steps.outputs

    def __call__(self, sample: Floats, step: int) -> Floats:
        """The prediction for `sample`, (N, C, h, w), at evaluation number `step`."""
        timestep = select_rows(self._timesteps, [step] * len(sample))

        def evaluate(half: Hoisted) -> ProgramResult:
            return self._unet.evaluate(sample, half, timestep, self._offload)

        with ThreadPoolExecutor(len(self._halves), "ppidm-half") as pool:
            try:
                results = list(pool.map(evaluate, self._halves))
            except BaseException:  # Ctrl-C too: leaving the block waits for both halves
                self._offload.abandon()
                raise
        self._account.add_side_by_side(results, evaluations=len(sample) * len(results))
        predictions = [prediction for result in results for prediction in result.outputs.values()]
        if not self._request.guided:
            return predictions[0]
        unconditional, conditional = predictions
        return unconditional + np.float32(self._request.guidance_scale) * (conditional - unconditional)
