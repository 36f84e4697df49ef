"""Prompts, and the pictures of the data that they describe.

The data are the files that `python -m tools.train fetch` brings from the npm registry; see the model's card for licences.
"""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Pictures = NDArray[np.float32]

PIXELS = 64
STYLE = "3d style"
COMMON = (  # these come first, so that they are in the gallery; `red apple` is reconstructed
    "red apple", "pizza", "automobile", "grinning face", "dog face", "rocket", "rose", "octopus", "guitar", "soccer ball",
    "birthday cake", "sailboat",
)  # fmt: skip
_PICTURES, _CAPTIONS = "*fluent-emoji-3d-*.tgz", "emojibase-data-*.tgz"


class DataError(Exception):
    """The data are not there."""


@dataclass(frozen=True)
class Reference:
    """A picture of the data: RGB on white, float32 (PIXELS, PIXELS, 3) in [0, 1]."""

    prompt: str
    picture: Pictures


def choose(found: list[Reference], count: int) -> list[Reference]:
    """`count` of them, one per prompt: the common ones first, then a fixed random choice.

    Raises:
        DataError: there are fewer.
    """
    by_prompt = {reference.prompt: reference for reference in found}
    if len(by_prompt) < count:
        raise DataError(f"{len(by_prompt)} prompts in the data; expected at least {count}")
    first = [f"{concept}, {STYLE}" for concept in COMMON if f"{concept}, {STYLE}" in by_prompt]
    others = sorted(by_prompt.keys() - set(first))
    np.random.default_rng(0).shuffle(others)
    return [by_prompt[prompt] for prompt in [*first, *others][:count]]


def reference_pictures(folder: Path) -> list[Reference]:
    """All pictures in the 3D style, without flags and skin tones.

    Args:
        folder: where `python -m tools.train fetch` put the archives, or a folder above.

    Raises:
        DataError: they are not there.
    """
    with tarfile.open(_archive(folder, _CAPTIONS)) as archive:
        labels = _labels(json.load(_member(archive, "package/en/compact.json")))
    with tarfile.open(_archive(folder, _PICTURES)) as archive:
        files = {member.name.split("/")[-1].removesuffix(".webp"): member for member in archive.getmembers()}
        known = [(labels[code], member) for code, member in files.items() if code in labels]
        return [Reference(f"{label}, {STYLE}", _picture(archive, member)) for label, member in known]


def _archive(folder: Path, pattern: str) -> Path:
    found = sorted(folder.rglob(pattern))
    if not found:
        raise DataError(f"{folder}: no {pattern}; run `python -m tools.train fetch`, or name its folder with --data")
    return found[-1]


def _labels(entries: list[dict[str, object]]) -> dict[str, str]:
    """Code points -> caption."""
    drawable = [entry for entry in entries if "group" in entry and not str(entry["label"]).startswith("flag")]
    return {str(entry["hexcode"]).lower(): str(entry["label"]).lower() for entry in drawable}


def _member(archive: tarfile.TarFile, name: str | tarfile.TarInfo) -> io.BytesIO:
    file = archive.extractfile(name)
    assert file is not None
    return io.BytesIO(file.read())


def _picture(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Pictures:
    image = Image.open(_member(archive, member)).convert("RGBA")
    on_white = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return np.asarray(on_white.resize((PIXELS, PIXELS), Image.Resampling.LANCZOS), np.float32) / np.float32(255)
