"""quality.json: are private pictures the pictures that plain Stable Diffusion draws?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from tools.evaluate.distances import frechet_distance, kernel_distance
from tools.evaluate.similarity import psnr_db, ssim

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from tools.evaluate.collection import Collection

    Progress = Callable[[str, int, int], None]

PAIRS = {  # of sets of N pictures each
    "private_plain": ("private", "plain"),
    "floor": ("plain", "plain_again"),  # the same prompts, other latents
    "private_data": ("private", "data"),
    "plain_data": ("plain", "data"),
}


def measure_quality(collection: Collection, progress: Progress) -> dict[str, Any]:
    """Everything but the circumstances."""
    private, plain = collection.private(), collection.plain()
    psnr, similarity = psnr_db(private, plain), ssim(private, plain)
    return {
        "pictures": len(private),
        "psnr": {
            "min": float(psnr.min()),
            "mean": float(psnr.mean()),
            "each": [round(float(each), 2) for each in psnr],
        },
        "ssim": {"mean": float(similarity.mean()), "min": float(similarity.min())},
        "offload": {"fraction": offloaded(collection)},
        **_distances(_features(collection, progress)),
    }


def offloaded(collection: Collection) -> dict[str, float]:
    """Share of the FLOPs that servers computed, by component, and of everything: 2 x MAC, as in the report of a picture."""
    unet, everything = collection.cache.stack(collection.pictures, "offload").mean(axis=0)
    return {"text_encoder": 0.0, "unet": float(unet), "vae_decoder": 0.0, "all": float(everything)}


def _features(collection: Collection, progress: Progress) -> dict[str, NDArray[np.float64]]:
    from tools.evaluate.features import effnet_features  # noqa: PLC0415  (needs a package of the extra `evaluate`)

    sets = {
        "private": collection.private(),
        "plain": collection.plain(),
        "plain_again": collection.plain(again=True),
        "data": np.stack([reference.picture for reference in collection.references]),
    }
    for done, (name, pictures) in enumerate(sets.items()):
        progress("EffNet features", done, len(sets))
        collection.cache.get(f"features/{name}", lambda pictures=pictures: {"features": effnet_features(pictures)})  # type: ignore[misc]
    return {name: collection.cache.load(f"features/{name}")["features"] for name in sets}


def _distances(features: dict[str, NDArray[np.float64]]) -> dict[str, dict[str, float]]:
    measures = {"effnet_kid": kernel_distance, "effnet_frechet_distance": frechet_distance}
    return {
        name: {pair: measure(features[a], features[b]) for pair, (a, b) in PAIRS.items()}
        for name, measure in measures.items()
    }
