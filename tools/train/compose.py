"""Pictures made of the emoji: one on a background, two side by side. All are RGB of 64x64."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from tools.train.pictures import SIZE

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tools.train.pictures import Picture

WHITE = (255, 255, 255)
COLOURS = {
    "red": (214, 60, 60), "orange": (245, 150, 60), "yellow": (250, 215, 90), "green": (90, 175, 95),
    "blue": (75, 130, 215), "purple": (150, 95, 190), "pink": (245, 165, 195), "grey": (150, 150, 150),
    "black": (25, 25, 25), "brown": (130, 90, 60),
}  # fmt: skip
HALF = 36  # pixels: of each of two objects side by side, which overlap a little


def on_background(picture: Picture, colour: tuple[int, int, int] = WHITE) -> NDArray[np.uint8]:
    """(64, 64, 3)."""
    sheet = Image.new("RGB", (SIZE, SIZE), colour)
    _paste(sheet, picture, SIZE, (0, 0))
    return np.asarray(sheet)


def side_by_side(left: Picture, right: Picture) -> NDArray[np.uint8]:
    """(64, 64, 3): two objects on white."""
    sheet = Image.new("RGB", (SIZE, SIZE), WHITE)
    top = (SIZE - HALF) // 2
    _paste(sheet, left, HALF, (0, top))
    _paste(sheet, right, HALF, (SIZE - HALF, top))
    return np.asarray(sheet)


def _paste(sheet: Image.Image, picture: Picture, size: int, where: tuple[int, int]) -> None:
    image = Image.fromarray(picture.rgba)
    if size != SIZE:
        image = image.convert("RGBa").resize((size, size), Image.Resampling.LANCZOS).convert("RGBA")
    sheet.paste(image, where, image)
