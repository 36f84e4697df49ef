"""What `ppidm generate` runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL.PngImagePlugin import PngInfo

from ppidm.client.base_pipeline import PrivateStableDiffusionOutput
from ppidm.client.files import check_writable, load_array, load_picture, write_whole
from ppidm.client.img2img import PrivateStableDiffusionImg2ImgPipeline
from ppidm.client.pipeline import PrivateStableDiffusionPipeline
from ppidm.protocol.errors import InputError
from ppidm.protocol.sampler_begins import skipped_steps

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

    from ppidm.client.connected import Connection


@dataclass(frozen=True)
class GenerateSettings:
    """The options of `ppidm generate`; see its `--help`.

    Security:
        `repr` would show the prompt; never log it.
    """

    connection: Connection
    prompt: str
    negative_prompt: str | None = None
    num_inference_steps: int = 50
    guidance_scale: float = 7.5
    num_images_per_prompt: int = 1
    scheduler: str | None = None
    seed: int | None = None
    latents: Path | None = None
    image: Path | None = None
    strength: float = 0.8
    height: int | None = None
    width: int | None = None
    output: Path = Path("picture.png")
    metadata: bool = False
    report: Path | None = None

    def __repr__(self) -> str:
        return f"GenerateSettings(connection={self.connection})"


def generate(
    settings: GenerateSettings, progress: Callable[[int, int], None] = lambda _done, _total: None
) -> list[Path]:
    """Draw, and write pictures and report.

    Args:
        settings: what to draw, and with whom.
        progress: called after every evaluation with the number done and the number in all.

    Returns:
        The pictures written.

    Raises:
        InputError: a setting is wrong; before anything is computed where possible.
        PpidmError: see `PrivateStableDiffusionPipeline`. Nothing is written then.
        OSError: a file cannot be written.
    """
    _check_settings(settings)
    kind, arguments = _call(settings)

    def on_step(pipe: Any, step: int, _timestep: float, tensors: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401
        progress(step + 1, pipe.num_evaluations)
        return tensors

    with settings.connection.open(kind) as pipe:
        result = pipe(
            settings.prompt,
            num_inference_steps=settings.num_inference_steps,
            guidance_scale=settings.guidance_scale,
            negative_prompt=settings.negative_prompt,
            num_images_per_prompt=settings.num_images_per_prompt,
            generator=settings.seed,
            scheduler=settings.scheduler,
            callback_on_step_end=on_step,
            **arguments,
        )
    assert isinstance(result, PrivateStableDiffusionOutput)  # return_dict is on
    paths = _paths(settings.output, len(result.images))
    for path, image in zip(paths, result.images, strict=True):
        write_whole(path, _png(image, settings))
    if settings.report is not None:
        write_whole(settings.report, (result.report.model_dump_json(indent=1) + "\n").encode())
    return paths


def _call(
    settings: GenerateSettings,
) -> tuple[type[PrivateStableDiffusionPipeline | PrivateStableDiffusionImg2ImgPipeline], dict[str, Any]]:
    """The pipeline, and the arguments that are its own."""
    size = settings.height, settings.width
    if settings.image is not None:
        picture = load_picture("--image", settings.image, *size)
        return PrivateStableDiffusionImg2ImgPipeline, {"image": picture, "strength": settings.strength}
    latents = None if settings.latents is None else load_array("--latents", settings.latents)
    return PrivateStableDiffusionPipeline, {"height": size[0], "width": size[1], "latents": latents}


def _check_settings(settings: GenerateSettings) -> None:
    """What the pipeline does not see, before minutes of work are lost."""
    if settings.seed is not None and settings.latents is not None:
        raise InputError("--seed and --latents are both given; expected one of them: either draws the initial noise")
    if settings.image is not None and settings.latents is not None:
        raise InputError(
            "--image and --latents are both given; expected one of them: either is what the steps begin with"
        )
    if settings.image is not None:
        skipped_steps(settings.strength, settings.num_inference_steps)
    if settings.seed is not None and settings.seed < 0:
        raise InputError(f"--seed is {settings.seed}; expected 0 or more")
    settings.connection.require_valid()
    if settings.output.suffix.lower() != ".png":
        raise InputError(f"--output is {settings.output}; expected a name that ends in .png")
    paths = _paths(settings.output, settings.num_images_per_prompt)
    check_writable("--output", *paths)
    if settings.report is not None:
        check_writable("--report", settings.report)
        if settings.report.resolve() in [path.resolve() for path in paths]:
            raise InputError(f"--report and --output are both {settings.report}; expected two files")


def _paths(output: Path, count: int) -> list[Path]:
    return [output] if count <= 1 else [output.with_stem(f"{output.stem}-{index}") for index in range(count)]


def _png(image: Image.Image, settings: GenerateSettings) -> bytes:
    """Without metadata unless asked: a prompt in a picture is a leak that travels."""
    content = BytesIO()
    image.save(content, format="PNG", pnginfo=_png_text(settings) if settings.metadata else None)
    return content.getvalue()


def _png_text(settings: GenerateSettings) -> PngInfo:
    """Under the PNG specification's keywords: the prompt as Description, what draws it again as Comment (JSON)."""
    again = ("negative_prompt", "num_inference_steps", "guidance_scale", "scheduler", "seed")
    text = PngInfo()
    text.add_itxt("Software", "ppidm")
    text.add_itxt("Description", settings.prompt)
    text.add_itxt("Comment", json.dumps({name: getattr(settings, name) for name in again}))
    return text
