"""What `ppidm generate` runs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

import numpy as np

from ppidm.client.pipeline import PrivateStableDiffusionPipeline
from ppidm.protocol.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from PIL import Image


@dataclass(frozen=True)
class GenerateSettings:
    """The options of `ppidm generate`; see its `--help`.

    Security:
        `repr` would show the prompt; never log it.
    """

    package: Path
    prompt: str
    evaluator: str
    dealers: tuple[str, ...]
    negative_prompt: str | None = None
    num_inference_steps: int = 50
    guidance_scale: float = 7.5
    num_images_per_prompt: int = 1
    scheduler: str | None = None
    seed: int | None = None
    latents: Path | None = None
    height: int | None = None
    width: int | None = None
    output: Path = Path("picture.png")
    report: Path | None = None
    check: Path | None = None
    verify: bool = True
    timeout: float = 60.0

    def __repr__(self) -> str:
        return f"GenerateSettings(package={self.package}, evaluator={self.evaluator}, dealers={self.dealers})"


def generate(settings: GenerateSettings, progress: Callable[[int, int], None] = lambda _done, _total: None) -> list[Path]:
    """Draw, and write pictures and report.

    Args:
        settings: what to draw, and with whom.
        progress: called after every evaluation with the number done and the number in all.

    Returns:
        The pictures written.

    Raises:
        PpidmError: see `PrivateStableDiffusionPipeline.__call__`.
    """
    _check_settings(settings)
    latents = None if settings.latents is None else _load_latents(settings.latents)

    def on_step(pipe: Any, step: int, _timestep: float, tensors: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401
        progress(step + 1, pipe.num_evaluations)
        return tensors

    with PrivateStableDiffusionPipeline.from_package(
        settings.package,
        evaluator=settings.evaluator,
        dealers=settings.dealers,
        check=settings.check,
        verify=settings.verify,
        timeout=settings.timeout,
    ) as pipe:
        result = pipe(
            settings.prompt,
            settings.height,
            settings.width,
            settings.num_inference_steps,
            settings.guidance_scale,
            settings.negative_prompt,
            settings.num_images_per_prompt,
            generator=settings.seed,
            latents=latents,
            scheduler=settings.scheduler,
            callback_on_step_end=on_step,
        )
    paths = _paths(settings.output, len(result.images))
    for path, image in zip(paths, result.images, strict=True):
        _write_png(path, image)
    if settings.report is not None:
        _replace(settings.report, (result.report.model_dump_json(indent=1) + "\n").encode())
    return paths


def _check_settings(settings: GenerateSettings) -> None:
    if settings.seed is not None and settings.latents is not None:
        raise InputError("--seed and --latents are both given; expected one of them: either draws the initial noise")
    if settings.seed is not None and settings.seed < 0:
        raise InputError(f"--seed is {settings.seed}; expected 0 or more")
    if settings.output.suffix.lower() != ".png":
        raise InputError(f"--output is {settings.output}; expected a name that ends in .png")
    for path in (settings.output, settings.report):
        if path is not None and not path.absolute().parent.is_dir():
            raise InputError(f"{path.absolute().parent} is no folder; make it first, or write elsewhere")


def _load_latents(path: Path) -> NDArray[np.float32]:
    try:
        latents = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"--latents {path}: {error}; expected a .npy file, float32, (N, C, h, w)") from error
    if not isinstance(latents, np.ndarray):
        raise InputError(f"--latents {path}: an archive of arrays; expected one array in a .npy file")
    return latents


def _paths(output: Path, count: int) -> list[Path]:
    return [output] if count == 1 else [output.with_stem(f"{output.stem}-{index}") for index in range(count)]


def _write_png(path: Path, image: Image.Image) -> None:
    """Without metadata: a prompt in a picture is a leak that travels."""
    with NamedTemporaryFile(dir=path.absolute().parent, suffix=".png", delete=False) as file:
        image.save(file, format="PNG")
    _publish(Path(file.name), path)


def _replace(path: Path, content: bytes) -> None:
    with NamedTemporaryFile(dir=path.absolute().parent, delete=False) as file:
        file.write(content)
    _publish(Path(file.name), path)


def _publish(temporary: Path, path: Path) -> None:
    temporary.chmod(0o644)
    os.replace(temporary, path)
