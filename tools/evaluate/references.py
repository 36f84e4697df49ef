"""Prompts, and the pictures of the data that they describe: the emoji that the shipped model was trained on, in 3D."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from tools.train.compose import on_background
from tools.train.pictures import SIZE, load_pictures

from ppidm.protocol.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Pictures = NDArray[np.float32]

PIXELS = SIZE
STYLE = "3d style"
COMMON = (  # these come first, so that they are in the gallery; `red apple` is reconstructed
    "red apple", "pizza", "automobile", "slightly smiling face", "dog face", "rocket", "rose", "octopus", "guitar",
    "soccer ball", "birthday cake", "sailboat",
)  # fmt: skip


@dataclass(frozen=True)
class Reference:
    """A picture of the data: RGB on white, float32 (PIXELS, PIXELS, 3) in [0, 1]."""

    prompt: str
    picture: Pictures


def choose(found: list[Reference], count: int) -> list[Reference]:
    """`count` of them, one per prompt: the common ones first, then a fixed random choice.

    Raises:
        InputError: there are fewer.
    """
    by_prompt = {reference.prompt: reference for reference in found}
    if len(by_prompt) < count:
        raise InputError(f"{len(by_prompt)} prompts in the data; expected at least {count}")
    first = [f"{concept}, {STYLE}" for concept in COMMON if f"{concept}, {STYLE}" in by_prompt]
    others = sorted(by_prompt.keys() - set(first))
    np.random.default_rng(0).shuffle(others)
    return [by_prompt[prompt] for prompt in [*first, *others][:count]]


def reference_pictures(folder: Path) -> list[Reference]:
    """All pictures in the 3D style.

    Args:
        folder: where `python -m tools.train fetch` put the packages.

    Raises:
        InputError: they are not there, or not what was published.
    """
    return [
        Reference(picture.prompt, on_background(picture).astype(np.float32) / np.float32(255))
        for picture in load_pictures(folder)
        if picture.prompt.endswith(STYLE)
    ]
