"""`make fidelity`: private pictures against diffusers in float32, with the same latents, prompts and schedulers.

Prints PSNR per scheduler and writes docs/measurements/fidelity.json; of a precision that truncates answers, its entry in
docs/measurements/precision.json. PSNR is of pictures in [0, 1]; it is infinite where
two are equal, and then counted as 120 dB.
"""

from __future__ import annotations

import json
import platform
import warnings
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import diffusers
import numpy as np
import torch
import typer
from local_servers import local_servers
from rich.console import Console
from rich.table import Table

from ppidm.client import PrivateStableDiffusionPipeline
from ppidm.console import stage_progress
from ppidm.export.package import export_package
from ppidm.export.settings import ExportSettings
from ppidm.protocol.precision import Precision

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "docs" / "measurements" / "fidelity.json"
TRUNCATED = RESULT.with_name("precision.json")
LEAST_DB = {Precision.EXACT: 50.0, Precision.BALANCED: 48.0, Precision.FAST: 36.9}  # the last is the paper's
SCHEDULERS = ("DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler")
CONCEPTS = (
    "red apple", "dog face", "pizza", "automobile", "grinning face", "rocket", "octopus", "rose", "pumpkin", "guitar",
    "soccer ball", "sailboat", "cat face", "house", "banana", "bicycle", "snowman", "cactus", "birthday cake", "umbrella",
)  # fmt: skip
BEST_DB = 120.0


@dataclass(frozen=True)
class Case:
    """One picture, drawn twice."""

    prompt: str
    scheduler: str
    steps: int
    guidance: float
    latents: NDArray[np.float32]


def cases(steps: int, guidance: float, prompts: int, schedulers: tuple[str, ...] = SCHEDULERS) -> list[Case]:
    """Every prompt under every scheduler; the latents belong to the prompt."""
    return [
        Case(f"{concept}, 3d style", scheduler, steps, guidance, noise(index))
        for index, concept in enumerate(CONCEPTS[:prompts])
        for scheduler in schedulers
    ]


def noise(seed: int) -> NDArray[np.float32]:
    """Initial latents."""
    return np.random.default_rng(seed).standard_normal((1, 4, 16, 16), np.float32)


class Oracle:
    """diffusers' StableDiffusionPipeline in float32."""

    def __init__(self, model: Path) -> None:
        self._pipe = diffusers.StableDiffusionPipeline.from_pretrained(str(model), torch_dtype=torch.float32)
        self._pipe.set_progress_bar_config(disable=True)

    def draw(self, case: Case) -> NDArray[np.float32]:
        """(1, height, width, 3) in [0, 1]."""
        self._pipe.scheduler = getattr(diffusers, case.scheduler).from_config(self._pipe.scheduler.config)
        images: NDArray[np.float32] = self._pipe(
            case.prompt,
            num_inference_steps=case.steps,
            guidance_scale=case.guidance,
            latents=torch.from_numpy(case.latents),
            output_type="np",
        ).images
        return images


def draw_privately(pipe: PrivateStableDiffusionPipeline, case: Case) -> NDArray[np.float32]:
    """The same picture through the servers."""
    output = pipe(
        case.prompt,
        num_inference_steps=case.steps,
        guidance_scale=case.guidance,
        latents=case.latents,
        scheduler=case.scheduler,
        output_type="np",
    )
    return output.images  # type: ignore[union-attr, return-value]


def psnr_db(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Peak signal-to-noise ratio of pictures in [0, 1]."""
    error = float(np.square(a.astype(np.float64) - b).mean())
    return BEST_DB if error == 0 else min(BEST_DB, -10 * float(np.log10(error)))


def measure(chosen: list[Case], precision: Precision) -> dict[str, list[float]]:
    """PSNR of every case, by scheduler."""
    oracle = Oracle(ROOT / "models" / "default")
    results: dict[str, list[float]] = {case.scheduler: [] for case in chosen}
    with TemporaryDirectory() as folder, stage_progress() as progress:
        package = Path(folder) / "package"
        export_package(ExportSettings(str(ROOT / "models" / "default"), package, precision=precision), progress)
        with (
            local_servers(package) as (evaluator, dealer),
            PrivateStableDiffusionPipeline.from_package(
                package / "client", evaluator=evaluator, dealers=[dealer]
            ) as pipe,
        ):
            for done, case in enumerate(chosen):
                progress("comparing pictures", done, len(chosen))
                results[case.scheduler].append(psnr_db(draw_privately(pipe, case), oracle.draw(case)))
    return results


def write(content: dict[str, Any], precision: Precision) -> None:
    """Into the file of exact packages, or beside the other precisions."""
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    if precision is Precision.EXACT:
        RESULT.write_text(json.dumps(content, indent=1) + "\n")
        return
    others = json.loads(TRUNCATED.read_text()) if TRUNCATED.exists() else {}
    TRUNCATED.write_text(json.dumps(others | {precision.value: content}, indent=1) + "\n")


def main(
    steps: Annotated[int, typer.Option(help="Of every scheduler.")] = 25,
    guidance: Annotated[float, typer.Option(help="Guidance scale.")] = 4.0,
    prompts: Annotated[int, typer.Option(min=1, max=len(CONCEPTS), help="How many.")] = len(CONCEPTS),
    minimum: Annotated[
        float | None, typer.Option(help="Least PSNR in dB; below it the exit status is 1; by default the precision's.")
    ] = None,
    precision: Annotated[Precision, typer.Option(help="Of the package.")] = Precision.EXACT,
    scheduler: Annotated[list[str] | None, typer.Option(help="Repeatable; three by default.")] = None,
) -> None:
    """Compare private pictures with diffusers' in float32."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)  # torch's threads spin, and would fight those of the servers
    chosen = cases(steps, guidance, prompts, tuple(scheduler or SCHEDULERS))
    results, minimum = measure(chosen, precision), LEAST_DB[precision] if minimum is None else minimum
    table = Table("scheduler", "pictures", "PSNR min", "median", "mean")
    summary: dict[str, Any] = {}
    for name, values in results.items():
        summary[name] = {"min": min(values), "median": median(values), "mean": mean(values), "pictures": len(values)}
        table.add_row(name, str(len(values)), *(f"{summary[name][key]:.1f} dB" for key in ("min", "median", "mean")))
    Console().print(table)
    least = min(min(values) for values in results.values())
    content = {
        "machine": platform.processor() or platform.machine(),
        "steps": steps,
        "guidance": guidance,
        "psnr_db": summary,
    }
    write(content, precision)
    if least < minimum:
        raise SystemExit(f"the least PSNR is {least:.1f} dB; expected at least {minimum:.0f} dB")


if __name__ == "__main__":
    typer.run(main)
