"""Trains the autoencoder: pictures of 64x64 to latents of 16x16x4 and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from tools.train.devices import autocast, device
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from diffusers import AutoencoderKL
    from numpy.typing import NDArray
    from tools.train.checkpoint import Checkpoint, Schedule

BATCH = 32
KL_WEIGHT = 1e-6
EDGE_WEIGHT = 0.5  # of the differences between neighbouring pixels: keeps outlines


def floats_from_pixels(pixels: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
    """(batch, 3, height, width) in [-1, 1]."""
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1


def reconstruction_loss(got: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """Squared error of the pixels, and absolute error of their differences to the right and below."""
    across = functional.l1_loss(got.diff(dim=3), expected.diff(dim=3))
    down = functional.l1_loss(got.diff(dim=2), expected.diff(dim=2))
    return functional.mse_loss(got, expected) + EDGE_WEIGHT * 0.1 * (across + down)


def train_vae(
    vae: AutoencoderKL,
    draw: Callable[[int], list[NDArray[np.uint8]]],
    schedule: Schedule,
    checkpoint: Checkpoint,
    progress: Callable[[int, int], None],
    *,
    decoder_only: bool = False,
) -> int:
    """Train in place; returns the updates made so far.

    draw: the pictures of an update, a function of its number alone, so that an interrupted run goes on as it would have.
    decoder_only: leave the latents as they are, for a U-Net that knows them.
    """
    vae.to(device()).train()
    trained = [vae.decoder, vae.post_quant_conv] if decoder_only else [vae]
    parameters = [parameter for part in trained for parameter in part.parameters()]
    optimizer = torch.optim.AdamW(parameters, weight_decay=0.0)
    start = _resume(vae, optimizer, checkpoint)
    for update in schedule.run(start, lambda done: _save(vae, optimizer, checkpoint, done), progress):
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(update)
        torch.manual_seed(update)
        loss = _loss(vae, floats_from_pixels(draw(update)).to(device()))
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        start = update + 1
    vae.to("cpu").eval()
    return start


def _loss(vae: AutoencoderKL, pictures: torch.Tensor) -> torch.Tensor:
    with autocast():
        posterior = vae.encode(pictures).latent_dist
        got = vae.decode(posterior.sample()).sample
    surprise: torch.Tensor = posterior.kl().mean()
    return reconstruction_loss(got.float(), pictures) + KL_WEIGHT * surprise


def _resume(vae: AutoencoderKL, optimizer: torch.optim.Optimizer, checkpoint: Checkpoint) -> int:
    content = checkpoint.load()
    if content is None:
        return 0
    vae.load_state_dict(content["vae"])
    optimizer.load_state_dict(content["optimizer"])
    return int(content["update"])


def _save(vae: AutoencoderKL, optimizer: torch.optim.Optimizer, checkpoint: Checkpoint, update: int) -> None:
    checkpoint.save({"vae": vae.state_dict(), "optimizer": optimizer.state_dict(), "update": update})


@torch.no_grad()
def scaling_factor(vae: AutoencoderKL, pictures: Sequence[NDArray[np.uint8]]) -> float:
    """What makes latents of unit variance, as the noise schedule expects."""
    return float(1 / vae.encode(floats_from_pixels(pictures)).latent_dist.mean.std())


@torch.no_grad()
def psnr_db(vae: AutoencoderKL, pictures: Sequence[NDArray[np.uint8]]) -> float:
    """Mean over pictures of what the autoencoder keeps."""
    expected = floats_from_pixels(pictures)
    got = vae.decode(vae.encode(expected).latent_dist.mean).sample.clamp(-1, 1)
    error = ((got - expected) / 2).square().mean(dim=(1, 2, 3))
    return float((-10 * error.log10()).mean())
