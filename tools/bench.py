"""`make bench`: a private picture and the same picture computed locally, in turn, in one run.

Locally means ONNX Runtime float32 on the same cores with the traced U-Net. Both servers of the private picture run on this
machine too, so the three share its cores: read ratios, and bytes.
"""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from local_servers import local_servers
from rich.console import Console
from rich.table import Table

from ppidm.client import PrivateStableDiffusionPipeline
from ppidm.client.conditions import TextEncoder
from ppidm.client.package import load_package
from ppidm.client.pictures import ImageDecoder
from ppidm.client.pipeline import SAMPLERS
from ppidm.client.sampler import Sampler
from ppidm.console import stage_progress
from ppidm.engines.onnxruntime import open_session
from ppidm.engines.unet import PROMPT, SAMPLE, TIMESTEP
from ppidm.export.package import export_package
from ppidm.export.settings import ExportSettings

if TYPE_CHECKING:
    from ppidm.client.report import Report

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "models" / "default"
TEXT, GUIDANCE = "red apple, 3d style", 4.0


class Local:
    """Plain Stable Diffusion on this machine, with the parts of the client package and the traced U-Net."""

    def __init__(self, client: Path) -> None:
        package = load_package(client, verify=False)
        self._manifest, self._samplers = package.manifest, client / SAMPLERS
        self._text_encoder = TextEncoder(client, self._manifest.max_tokens, ["last_hidden_state"])
        self._decoder = ImageDecoder(client, self._manifest)
        self._unet = open_session(MODEL / "unet" / "model.onnx", policy=None)

    def draw(self, steps: int) -> None:
        """One picture, guided."""
        [hidden], _ = self._text_encoder(["", TEXT])
        sampler = Sampler.load(self._samplers, self._manifest.scheduler, steps)
        state = sampler.start(np.random.default_rng(0).standard_normal((1, 4, 16, 16), np.float32))
        for timestep in sampler.timesteps:
            sample = np.repeat(state.model_input(), 2, axis=0)
            feeds = {SAMPLE: sample, TIMESTEP: np.full(2, timestep, np.float32), PROMPT: hidden}
            without, under = np.split(self._unet.run(None, feeds)[0], 2)
            state.step(without + np.float32(GUIDANCE) * (under - without))
        self._decoder(state.latents)


def measure(pictures: int, steps: int) -> tuple[list[float], list[Report]]:
    """Seconds of the local pictures, and the reports of the private ones."""
    local_seconds, reports = [], []
    with TemporaryDirectory() as folder, stage_progress() as progress:
        package = Path(folder) / "package"
        export_package(ExportSettings(str(MODEL), package), progress)
        local = Local(package / "client")
        with (
            local_servers(package) as (evaluator, dealer),
            PrivateStableDiffusionPipeline.from_package(
                package / "client", evaluator=evaluator, dealers=[dealer]
            ) as pipe,
        ):
            for done in range(pictures + 1):  # the first pair warms up
                progress("drawing pairs of pictures", done, pictures + 1)
                start = perf_counter()
                local.draw(steps)
                local_seconds.append(perf_counter() - start)
                output = pipe(TEXT, num_inference_steps=steps, guidance_scale=GUIDANCE, generator=0)
                reports.append(output.report)  # type: ignore[union-attr]
    return local_seconds[1:], reports[1:]


def main(
    pictures: Annotated[int, typer.Option(min=1, help="Pairs to time, after one that warms up.")] = 5,
    steps: Annotated[int, typer.Option(min=1, help="Of the model's own scheduler.")] = 25,
    output: Annotated[Path | None, typer.Option(help="JSON to write.")] = None,
) -> None:
    """Time private pictures against local ones."""
    local, reports = measure(pictures, steps)
    private = [report.seconds.total for report in reports]
    ratio = median(p / q for p, q in zip(private, local, strict=True))
    last = reports[-1]
    table = Table("", "locally", "privately", title=f"one picture, {steps} steps, guidance; median of {pictures}")
    table.add_row("seconds", f"{median(local):.2f}", f"{median(private):.2f} ({ratio:.1f}x)")
    for name in ("client_segments", "mask", "open", "wait"):
        table.add_row(f"  {name}, over threads", "", f"{median(getattr(r.seconds, name) for r in reports):.2f}")
    sent = [last.traffic.evaluator, *last.traffic.dealers]
    table.add_row("MB sent", "0", " + ".join(f"{t.sent / 1e6:.1f}" for t in sent))
    table.add_row("MB received", "0", " + ".join(f"{t.received / 1e6:.1f}" for t in sent))
    table.add_row("rounds", "0", str(last.rounds))
    table.add_row("U-Net offloaded", "0 %", f"{last.offload.unet_fraction:.1%}")
    Console().print(table)
    if output is not None:
        machine = {"machine": platform.machine(), "cores": os.cpu_count(), "steps": steps}
        content = {**machine, "local_seconds": local, "private_seconds": private, "report": last.model_dump()}
        output.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
