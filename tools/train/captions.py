"""What a picture may be called: prompts as a person would write them, drawn at random for training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.train.pictures import PEOPLE

if TYPE_CHECKING:
    from numpy.random import Generator
    from tools.train.pictures import Picture

SYMBOLS, SMILEYS = 8, 0  # groups of emojibase-data
SHARE_NAMED_3D = 0.5  # of the pictures in the 3D style whose caption says so: a prompt without a style means this one
SHARE_WITH_ARTICLE = 0.6
_WEIGHTS = {PEOPLE: 0.15, SYMBOLS: 0.1, SMILEYS: 0.6}
EVERYDAY_NAMES = {
    "automobile": ("car", "red car"), "slightly smiling face": ("smiling face", "smiley"), "dog face": ("dog",),
    "cat face": ("cat",), "mouse face": ("mouse",), "cow face": ("cow",), "pig face": ("pig",), "tiger face": ("tiger",),
    "rabbit face": ("rabbit",), "monkey face": ("monkey",), "horse face": ("horse",), "dragon face": ("dragon",),
    "red apple": ("apple",), "birthday cake": ("cake",), "soccer ball": ("football", "ball"), "pile of poo": ("poo",),
    "hot beverage": ("cup of coffee", "coffee"), "beer mug": ("beer",), "wrapped gift": ("gift", "present"),
    "evergreen tree": ("fir tree",), "deciduous tree": ("tree",), "red heart": ("heart",), "light bulb": ("bulb",),
    "mobile phone": ("phone",), "jack-o-lantern": ("pumpkin",), "honeybee": ("bee",), "doughnut": ("donut",),
    "sailboat": ("boat",), "lady beetle": ("ladybug",), "spiral shell": ("shell",), "ear of corn": ("corn",),
    "french fries": ("fries",), "soft ice cream": ("ice cream cone",), "key": ("golden key",), "house": ("small house",),
}  # fmt: skip
"""What people say instead of the official name."""


def weight(picture: Picture) -> float:
    """How often a picture is drawn: things that people ask for, before signs and variants of persons."""
    often = 3.0 if picture.concept in EVERYDAY_NAMES else _WEIGHTS.get(picture.group, 1.0)
    return often * (2.0 if picture.style == "3d" else 1.0)


def name(picture: Picture, rng: Generator) -> str:
    """The official name or an everyday one."""
    names = (picture.concept, *EVERYDAY_NAMES.get(picture.concept, ()))
    return names[rng.integers(len(names))]


def with_article(text: str) -> str:
    """`an apple`, `a dog`."""
    return f"{'an' if text[0] in 'aeiou' else 'a'} {text}"


def caption(picture: Picture, rng: Generator) -> str:
    """One prompt for a picture by itself."""
    text = name(picture, rng)
    return in_style(with_article(text) if rng.random() < SHARE_WITH_ARTICLE else text, picture, rng)


def caption_on(picture: Picture, colour: str, rng: Generator) -> str:
    """One prompt for a picture on a coloured background."""
    return in_style(f"{with_article(name(picture, rng))} on {with_article(colour)} background", picture, rng)


def caption_of_pair(left: Picture, right: Picture, rng: Generator) -> str:
    """One prompt for two pictures of one style, side by side."""
    return in_style(f"{with_article(name(left, rng))} and {with_article(name(right, rng))}", left, rng)


def in_style(text: str, picture: Picture, rng: Generator) -> str:
    """Append the style, which may be left out for the 3D one."""
    return f"{text}, {picture.style} style" if picture.style != "3d" or rng.random() < SHARE_NAMED_3D else text
