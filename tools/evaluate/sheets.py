"""Sheets of pictures with captions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

_SIDE, _GAP, _CAPTION, _FONT = 128, 8, 40, 12  # pixels


def sheet(rows: Sequence[Sequence[tuple[Floats, str]]]) -> Image.Image:
    """Rows of (picture, caption); a caption may have several lines."""
    width = max(len(row) for row in rows) * (_SIDE + _GAP) + _GAP
    page = Image.new("RGB", (width, len(rows) * (_SIDE + _CAPTION + _GAP) + _GAP), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(_FONT)
    for j, row in enumerate(rows):
        for i, (picture, caption) in enumerate(row):
            left, top = _GAP + i * (_SIDE + _GAP), _GAP + j * (_SIDE + _CAPTION + _GAP)
            page.paste(_enlarged(picture), (left, top))
            pen.rectangle((left - 1, top - 1, left + _SIDE, top + _SIDE), outline="#cccccc")
            pen.multiline_text((left, top + _SIDE + 4), caption, "black", font)
    return page


def _enlarged(picture: Floats) -> Image.Image:
    content = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    return Image.fromarray(content).resize((_SIDE, _SIDE), Image.Resampling.NEAREST)


def gallery(prompts: Sequence[str], plain: Floats, private: Floats, columns: int = 6) -> Image.Image:
    """Pairs: plain above, private below, with its PSNR to be found in quality.json."""
    rows: list[list[tuple[Floats, str]]] = []
    for start in range(0, len(prompts), columns):
        chosen = range(start, min(start + columns, len(prompts)))
        rows.append([(plain[i], prompts[i].replace(", ", ",\n")) for i in chosen])
        rows.append([(private[i], "privately") for i in chosen])
    return sheet(rows)
