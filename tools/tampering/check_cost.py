"""What the check costs: its share of the client's own time for a picture.

Client time is what the client computes: text encoder, client segments, masking, opening with the check, decoder. Waiting is not.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from time import thread_time
from typing import TYPE_CHECKING, Any

sys.path.append(str(Path(__file__).resolve().parents[1]))

from local_servers import local_servers

from ppidm.client import PrivateStableDiffusionPipeline
from ppidm.protocol import run

if TYPE_CHECKING:
    from collections.abc import Iterator

STEPS, PICTURES = 10, 3


@contextmanager
def timed_check() -> Iterator[list[float]]:
    """Within the block, seconds of processor time in the check are added up."""
    check, total, lock = run.wrong_rows, [0.0], Lock()

    def timed(*arguments: Any) -> int:  # noqa: ANN401
        start = thread_time()
        wrong = check(*arguments)
        with lock:
            total[0] += thread_time() - start
        return wrong

    run.wrong_rows = timed
    try:
        yield total
    finally:
        run.wrong_rows = check


def share_of_check(package: Path) -> dict[str, float]:
    """Draw pictures; seconds per picture of the check and of the client, and their ratio."""
    best = {"check_seconds": 0.0, "client_seconds": float("inf"), "share": 0.0}
    with (
        local_servers(package) as (evaluator, dealer),
        PrivateStableDiffusionPipeline.from_package(
            package / "client", evaluator=evaluator, dealers=[dealer], threads=1
        ) as pipe,
    ):
        for _ in range(PICTURES):
            with timed_check() as total:
                seconds = pipe("red apple, 3d style", num_inference_steps=STEPS, generator=0).report.seconds
            client = seconds.text_encoder + seconds.client_segments + seconds.mask + seconds.open + seconds.vae_decoder
            if client < best["client_seconds"]:
                best = {"check_seconds": total[0], "client_seconds": client, "share": total[0] / client}
    return {"steps": STEPS, **{name: round(value, 4) for name, value in best.items()}}
