"""What the autoencoder makes of the training pictures: made once, kept on disk."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import torch
from tools.train.vae import floats_from_pixels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from diffusers import AutoencoderKL
    from tools.train.examples import Example

_BATCH = 64


def encode_examples(
    vae: AutoencoderKL, examples: Sequence[Example], folder: Path, progress: Callable[[str, int, int], None]
) -> torch.Tensor:
    """(examples, 4, 16, 16), float32, scaled to unit variance. Kept in `folder` under a digest of autoencoder and examples."""
    kept = folder / f"latents-{_digest(vae, examples)}.npy"
    if not kept.exists():
        batches = [examples[start : start + _BATCH] for start in range(0, len(examples), _BATCH)]
        encoded = []
        for done, batch in enumerate(batches):
            progress("encoding pictures", done, len(batches))
            encoded.append(encode(vae, batch).numpy())
        partial = kept.with_suffix(".partial.npy")
        partial.parent.mkdir(parents=True, exist_ok=True)
        np.save(partial, np.concatenate(encoded))
        partial.replace(kept)
    return torch.from_numpy(np.load(kept))


@torch.no_grad()
def encode(vae: AutoencoderKL, examples: Sequence[Example]) -> torch.Tensor:
    """Scaled means, without noise."""
    latents: torch.Tensor = vae.encode(floats_from_pixels([example.pixels() for example in examples])).latent_dist.mean
    return latents * float(vae.config.scaling_factor)


def _digest(vae: AutoencoderKL, examples: Sequence[Example]) -> str:
    digest = hashlib.sha256()
    for value in (*vae.encoder.state_dict().values(), *vae.quant_conv.state_dict().values()):
        digest.update(value.contiguous().numpy().tobytes())
    for example in examples:
        digest.update(repr([(p.concept, p.style) for p in example.parts] + [example.colour]).encode())
    return digest.hexdigest()[:16]
