"""The training pictures: emoji of three styles as RGBA of 64x64, each with the name of its concept."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from tools.train.packages import CAPTIONS, FLUENT_3D, FLUENT_FLAT, NOTO, Package, read_members

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

SIZE = 64  # pixels
STYLES = ("3d", "flat", "noto")
FLAGS, PEOPLE = 9, 1  # groups of emojibase-data
_SKIN_TONES = {f"{tone:x}" for tone in range(0x1F3FB, 0x1F400)}
_VARIATION_SELECTOR = "fe0f"


@dataclass(frozen=True)
class Picture:
    """One emoji in one style.

    concept: its name in English, lower case ("red apple").
    group: of emojibase-data: 0 smileys, 1 people, 3 animals and nature, 4 food, 5 travel, 6 activities, 7 objects, 8 symbols.
    rgba: (64, 64, 4), uint8, alpha not premultiplied.
    """

    concept: str
    group: int
    style: str
    rgba: NDArray[np.uint8]

    @property
    def prompt(self) -> str:
        """The plainest prompt for this picture."""
        return f"{self.concept}, {self.style} style"


def load_pictures(folder: Path) -> list[Picture]:
    """Every picture of the packages in `folder`, without flags and skin tones, in a fixed order.

    The decoded pictures are kept beside the packages, since rendering 1,600 SVG files takes a while.

    Raises:
        InputError: a package is missing or is not what was published.
    """
    kept = folder / "pictures.npz"
    if not kept.exists():
        found = sorted(_decode(folder), key=lambda picture: (picture.style, picture.concept))
        partial = kept.with_suffix(".partial.npz")
        np.savez(
            partial,
            rgba=np.stack([picture.rgba for picture in found]),
            facts=np.array([json.dumps([picture.concept, picture.group, picture.style]) for picture in found]),
        )
        partial.rename(kept)
    with np.load(kept) as content:
        return [_picture(facts, rgba) for facts, rgba in zip(content["facts"], content["rgba"], strict=True)]


def _picture(facts: str, rgba: NDArray[np.uint8]) -> Picture:
    concept, group, style = json.loads(facts)
    return Picture(concept, group, style, rgba)


def _decode(folder: Path) -> Iterator[Picture]:
    concepts = _concepts(folder)
    for style, read in (("3d", _fluent_3d), ("flat", _fluent_flat), ("noto", _noto)):
        seen = set()
        for code, image in read(folder):
            concept, group = concepts.get(code, ("", FLAGS))
            if group != FLAGS and concept not in seen:
                seen.add(concept)
                yield Picture(concept, group, style, rgba_of_size(image))


def _concepts(folder: Path) -> Mapping[str, tuple[str, int]]:
    """From code points to (name, group)."""
    ((_, content),) = read_members(CAPTIONS, folder, lambda path: path == "en/data.json")
    entries = [entry for entry in json.loads(content) if "group" in entry]
    return {_code(entry["hexcode"]): (entry["label"].lower(), entry["group"]) for entry in entries}


def _code(text: str) -> str:
    """Code points in one spelling: `0023-FE0F-20E3` -> `23-20e3`."""
    return "-".join(part.lstrip("0") for part in text.lower().split("-") if part != _VARIATION_SELECTOR)


def _fluent_3d(folder: Path) -> Iterator[tuple[str, Image.Image]]:
    return _images(FLUENT_3D, folder, lambda path: path.endswith(".webp"))


def _noto(folder: Path) -> Iterator[tuple[str, Image.Image]]:
    return _images(NOTO, folder, lambda path: path.startswith("img/google/64/"))


def _images(package: Package, folder: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, Image.Image]]:
    for path, content in read_members(package, folder, wanted):
        code = _code(path.rpartition("/")[2].rpartition(".")[0])
        if not _SKIN_TONES & set(code.split("-")):
            yield code, Image.open(io.BytesIO(content))


def _fluent_flat(folder: Path) -> Iterator[tuple[str, Image.Image]]:
    import resvg_py  # noqa: PLC0415 - of the extra `train`, and not needed where pictures.npz is there

    files = dict(read_members(FLUENT_FLAT, folder, lambda path: path in {"icons.json", "chars.json"}))
    icons = json.loads(files["icons.json"])
    for code, name in sorted(json.loads(files["chars.json"]).items()):
        if name in icons["icons"] and not _SKIN_TONES & set(code.split("-")):
            box = f"0 0 {icons['width']} {icons['height']}"
            svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}">{icons["icons"][name]["body"]}</svg>'
            png = resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE, skip_system_fonts=True)
            yield _code(code), Image.open(io.BytesIO(bytes(png)))


def rgba_of_size(image: Image.Image, size: int = SIZE) -> NDArray[np.uint8]:
    """(size, size, 4) of any picture; colours do not bleed from where it is transparent."""
    premultiplied = image.convert("RGBA").convert("RGBa").resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(premultiplied.convert("RGBA"))
