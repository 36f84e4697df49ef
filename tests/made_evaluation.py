"""Parts of a small evaluation on made-up pictures: its unprotected view leaks them, the view of ours is noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from tools.evaluate.attacks import blocks_from_pictures
from tools.evaluate.cache import Cache
from tools.evaluate.collection import RELAYED, TOLD_APART, Collection
from tools.evaluate.references import Reference
from tools.evaluate.views import BROKEN, RELAY_VIEWS, VIEWS

if TYPE_CHECKING:
    from tools.evaluate.settings import Settings

SIDE, PIXELS = 4, 16
WIDTHS = {"first": 3, "second": 5}


def made_pictures(rng: np.random.Generator, count: int) -> np.ndarray:
    """Blocks of random colours: (count, PIXELS, PIXELS, 3)."""
    colours = rng.uniform(0.2, 0.8, (count, SIDE, SIDE, 3)).astype(np.float32)
    return colours.repeat(PIXELS // SIDE, axis=1).repeat(PIXELS // SIDE, axis=2)


def made_views(rng: np.random.Generator, picture: np.ndarray, label: int) -> dict[str, np.ndarray]:
    """Broken builds leak; the others hold noise."""
    blocks = blocks_from_pictures(picture[None], SIDE)[0][..., :3].transpose(2, 0, 1)
    arrays: dict[str, np.ndarray] = {}
    for view in (*VIEWS, *RELAY_VIEWS):
        leak = view in BROKEN
        noise = rng.standard_normal((3, SIDE, SIDE))
        arrays[f"{view}.maps"] = (blocks if leak else noise).astype(np.float32)
        pooled = rng.standard_normal(sum(WIDTHS.values())) + 9 * label * leak
        arrays[f"{view}.pooled"] = pooled.astype(np.float32)
    return arrays | {"picture": picture, "sizes": np.float32([4, 8]), "offload": np.array([0.9, 0.8])}


def made_collection(folder: Any, settings: Settings) -> Collection:
    rng, cache = np.random.default_rng(1), Cache(folder)
    pictures = made_pictures(rng, settings.pictures)
    prompts = [*TOLD_APART, *(f"thing {index}, 3d style" for index in range(settings.pictures))]
    references = [Reference(prompt, picture) for prompt, picture in zip(prompts, pictures, strict=False)]
    collection = Collection(cache, settings, references)
    for name, picture in zip(collection.pictures, pictures, strict=True):
        for place in ("", f"{RELAYED}/"):
            cache.store(f"{place}{name}", made_views(rng, picture, 0))
    for index, name in enumerate(collection.transcripts):
        for place in ("", f"{RELAYED}/"):
            cache.store(f"{place}{name}", made_views(rng, pictures[index], index % 2))
    for layout in ("layout", *(f"{RELAYED}/{view}" for view in RELAY_VIEWS)):
        cache.store(layout, {name: np.array(width) for name, width in WIDTHS.items()})
    private = rng.standard_normal((settings.pictures, 6))
    features = {"private": private, "plain": private + 1e-3, "plain_again": private[::-1] + 2, "data": private * 2}
    for name, values in features.items():
        cache.store(f"features/{name}", {"features": values})
    cache.store("plain", {"pictures": (pictures + np.float32(1e-4)).astype(np.float32)})
    cache.store("plain_again", {"pictures": pictures[::-1]})
    return collection
