"""The training set: pictures with captions, and the (concept, style) pairs that are held out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from tools.train.captions import EVERYDAY_NAMES, caption, caption_of_pair, caption_on, weight
from tools.train.compose import COLOURS, on_background, side_by_side
from tools.train.pictures import STYLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.random import Generator
    from numpy.typing import NDArray
    from tools.train.pictures import Picture

HELD_OUT = 100  # (concept, style) pairs: the concept is known from its other styles
SEED = 64
ON_COLOUR, PAIRS = 4000, 6000  # composed pictures
_COMPOSED_GROUPS = (3, 4)  # animals and food go beside each other, and so does everything with an everyday name


@dataclass(frozen=True)
class Example:
    """One picture to learn.

    parts: one emoji, or two of which the first is on the left.
    colour: of the background; white if it is empty.
    weight: how often it is drawn, relative to others.
    """

    parts: tuple[Picture, ...]
    colour: str = ""
    weight: float = 1.0

    def pixels(self) -> NDArray[np.uint8]:
        """(64, 64, 3)."""
        if len(self.parts) > 1:
            return side_by_side(self.parts[0], self.parts[1])
        return on_background(self.parts[0], COLOURS[self.colour]) if self.colour else on_background(self.parts[0])

    def caption(self, rng: Generator) -> str:
        """A prompt for it, another one each time."""
        if len(self.parts) > 1:
            return caption_of_pair(self.parts[0], self.parts[1], rng)
        return caption_on(self.parts[0], self.colour, rng) if self.colour else caption(self.parts[0], rng)


def split(pictures: Sequence[Picture]) -> tuple[list[Picture], list[Picture]]:
    """(to learn, held out): a held-out concept has all three styles, and two of them are learned."""
    styles: dict[str, set[str]] = {}
    for picture in pictures:
        styles.setdefault(picture.concept, set()).add(picture.style)
    known = sorted(concept for concept, found in styles.items() if len(found) == len(STYLES))
    rng = np.random.default_rng(SEED)
    chosen = rng.choice(len(known), min(HELD_OUT, len(known)), replace=False)
    held = {(known[index], STYLES[rng.integers(len(STYLES))]) for index in chosen if known[index] not in EVERYDAY_NAMES}
    return (
        [picture for picture in pictures if (picture.concept, picture.style) not in held],
        [picture for picture in pictures if (picture.concept, picture.style) in held],
    )


def training_set(pictures: Sequence[Picture], on_colour: int = ON_COLOUR, pairs: int = PAIRS) -> list[Example]:
    """Every picture on white, and composed ones. The same list every time.

    Two of three draws are of pictures by themselves; composed ones share the rest.
    """
    rng = np.random.default_rng(SEED)
    single = [Example((picture,), weight=weight(picture)) for picture in pictures]
    total = sum(example.weight for example in single)
    of_composed = [p for p in pictures if p.group in _COMPOSED_GROUPS or p.concept in EVERYDAY_NAMES]
    return [
        *single,
        *_on_colours(of_composed, on_colour, total / 6, rng),
        *_pairs([p for p in of_composed if p.style == "3d"], pairs, total / 3, rng),
    ]


def _on_colours(pictures: Sequence[Picture], count: int, total: float, rng: Generator) -> list[Example]:
    colours = sorted(COLOURS)
    return [
        Example((drawn,), colours[rng.integers(len(colours))], total / count) for drawn in _draw(pictures, count, rng)
    ]


def _pairs(pictures: Sequence[Picture], count: int, total: float, rng: Generator) -> list[Example]:
    both = zip(_draw(pictures, count, rng), _draw(pictures, count, rng), strict=True)
    return [Example((left, right), weight=total / count) for left, right in both]


def _draw(pictures: Sequence[Picture], count: int, rng: Generator) -> list[Picture]:
    weights = np.array([weight(picture) for picture in pictures])
    return [pictures[index] for index in rng.choice(len(pictures), count, p=weights / weights.sum())]
