"""A sheet of pictures for eyes: rows of prompts, drawn by diffusers in float32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw
from tools.train.pictures import SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from tools.train.models import Pipeline

COMMON = (
    "a red apple", "a dog", "a pizza", "a car", "a smiling face", "a rocket", "a cat", "a rose", "a guitar",
    "a soccer ball", "a house", "a banana",
)  # fmt: skip
"""What a newcomer tries: the bar is eight of ten recognised."""
STYLED = (
    "red apple, flat style", "dog face, flat style", "pizza, flat style", "automobile, flat style", "rocket, flat style",
    "tiger face, flat style", "red apple, noto style", "dog face, noto style", "pizza, noto style", "automobile, noto style",
    "rocket, noto style", "tiger face, noto style",
)  # fmt: skip
COMPOSED = (
    "a red apple and a banana", "a dog and a cat", "a lemon and a carrot", "a tiger and a pizza", "a strawberry and a lion",
    "a penguin and a donut", "a banana on a blue background", "a cat on a green background", "a rose on a black background",
    "a pizza on a purple background", "an owl on an orange background", "a heart on a yellow background",
)  # fmt: skip
_LABEL = 11  # pixels, under every picture
_PER_ROW = 12
_STEPS, _GUIDANCE = 25, 4.0


@dataclass(frozen=True)
class Drawing:
    """A prompt and the seed of its latents."""

    prompt: str
    seed: int


def sheet_of(prompts: Sequence[str], seeds: Sequence[int]) -> list[Drawing]:
    """One row per seed and twelve prompts."""
    rows = [prompts[start : start + _PER_ROW] for start in range(0, len(prompts), _PER_ROW)]
    return [Drawing(prompt, seed) for row in rows for seed in seeds for prompt in row]


def draw_sheet(
    pipeline: Pipeline, drawings: Sequence[Drawing], progress: Callable[[str, int, int], None]
) -> Image.Image:
    """Twelve pictures a row, each over its prompt."""
    pictures = []
    for start in range(0, len(drawings), _PER_ROW):
        progress("drawing samples", start, len(drawings))
        pictures.extend(draw(pipeline, drawings[start : start + _PER_ROW]))
    return _laid_out(pictures, [drawing.prompt for drawing in drawings])


def draw(pipeline: Pipeline, drawings: Sequence[Drawing]) -> list[NDArray[np.uint8]]:
    """Pictures of one batch, (64, 64, 3) each."""
    pipe = pipeline.diffusers()
    pipe.set_progress_bar_config(disable=True)
    noise = np.stack([np.random.default_rng(d.seed).standard_normal((4, 16, 16), np.float32) for d in drawings])
    images = pipe(
        [drawing.prompt for drawing in drawings],
        num_inference_steps=_STEPS,
        guidance_scale=_GUIDANCE,
        latents=torch.from_numpy(noise),
        output_type="np",
    ).images
    return list((images * 255).round().astype(np.uint8))


def _laid_out(pictures: Sequence[NDArray[np.uint8]], labels: Sequence[str]) -> Image.Image:
    rows = -(-len(pictures) // _PER_ROW)
    sheet = Image.new("RGB", (_PER_ROW * (SIZE * 2 + 4), rows * (SIZE * 2 + 4 + _LABEL)), "white")
    pen = ImageDraw.Draw(sheet)
    for index, (pixels, label) in enumerate(zip(pictures, labels, strict=True)):
        x, y = index % _PER_ROW * (SIZE * 2 + 4), index // _PER_ROW * (SIZE * 2 + 4 + _LABEL)
        sheet.paste(Image.fromarray(pixels).resize((SIZE * 2, SIZE * 2), Image.Resampling.BICUBIC), (x, y))
        pen.text((x + 2, y + SIZE * 2), label.removesuffix(" background"), fill="black", font_size=_LABEL - 2)
    return sheet
