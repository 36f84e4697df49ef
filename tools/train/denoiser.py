"""Trains the U-Net and the text encoder together, to predict the noise in latents from a prompt.

Reference: Ho et al., NeurIPS 2020 (objective); Ho and Salimans 2022 (prompts left out, for guidance); Hang et al., ICCV 2023,
section 3.4 (weights over timesteps, min-SNR).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from tools.train.checkpoint import Checkpoint, Ema, Schedule
from tools.train.devices import autocast, device

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tools.train.examples import Example
    from tools.train.models import Pipeline

BATCH = 32
UNPROMPTED = 0.1  # share of examples without their prompt
GAMMA = 5.0  # min-SNR
EMA_DECAY = 0.998
_HELD_OUT_SEED = 7


@dataclass(frozen=True)
class TrainingSet:
    """Examples and their latents, (examples, 4, 16, 16)."""

    examples: Sequence[Example]
    latents: torch.Tensor

    def batch(self, update: int, size: int = BATCH) -> tuple[torch.Tensor, list[str], torch.Tensor, torch.Tensor]:
        """(latents, prompts, noise, timesteps) of one update: a function of its number alone."""
        rng = np.random.default_rng([update, len(self.examples)])
        weights = np.array([example.weight for example in self.examples])
        chosen = rng.choice(len(weights), size, p=weights / weights.sum())
        prompts = ["" if rng.random() < UNPROMPTED else self.examples[index].caption(rng) for index in chosen]
        noise = torch.from_numpy(rng.standard_normal((size, *self.latents.shape[1:]), np.float32))
        timesteps = torch.from_numpy(rng.integers(0, 1000, size))
        return self.latents[torch.from_numpy(chosen)], prompts, noise, timesteps


def train_denoiser(
    pipeline: Pipeline,
    data: TrainingSet,
    schedule: Schedule,
    checkpoint: Checkpoint,
    progress: Callable[[int, int], None],
    batch: int = BATCH,
) -> int:
    """Train in place, and leave the averaged parameters; returns the updates made so far."""
    model = pipeline.denoiser().to(device()).train()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01, betas=(0.9, 0.99))
    average = Ema(model, EMA_DECAY)
    done = _resume(model, optimizer, average, checkpoint)

    def save(update: int) -> None:
        content = {"model": model.state_dict(), "average": average.values, "optimizer": optimizer.state_dict()}
        checkpoint.save({**content, "update": update})

    for update in schedule.run(done, save, progress):
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(update)
        loss = denoising_loss(pipeline, *data.batch(update, batch)).mean()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(model)
        done = update + 1
    model.load_state_dict(average.values)
    model.to("cpu").eval()
    return done


def _resume(model: torch.nn.Module, optimizer: torch.optim.Optimizer, average: Ema, checkpoint: Checkpoint) -> int:
    content = checkpoint.load()
    if content is None:
        return 0
    model.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    average.values = {name: value.to(device()) for name, value in content["average"].items()}
    return int(content["update"])


def denoising_loss(
    pipeline: Pipeline, latents: torch.Tensor, prompts: Sequence[str], noise: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    """Weighted squared error of each example, shape (batch,)."""
    latents, noise, timesteps = latents.to(device()), noise.to(device()), timesteps.to(device())
    noisy = pipeline.scheduler.add_noise(latents, noise, timesteps)
    with autocast():
        states = pipeline.text_encoder(pipeline.token_ids(prompts).to(device()))[0]
        predicted = pipeline.unet(noisy, timesteps, states).sample
    error: torch.Tensor = (predicted.float() - noise).square().mean(dim=(1, 2, 3))
    kept = pipeline.scheduler.alphas_cumprod.to(device())[timesteps]
    snr = kept / (1 - kept)
    weights: torch.Tensor = snr.clamp(max=GAMMA) / snr
    return error * weights


@torch.no_grad()
def held_out_error(pipeline: Pipeline, data: TrainingSet, repeats: int = 8) -> float:
    """Mean squared error of the predicted noise, the same noise and timesteps every time, each example `repeats` times."""
    rng = np.random.default_rng(_HELD_OUT_SEED)
    errors = []
    for _ in range(repeats):
        prompts = [example.parts[0].prompt for example in data.examples]
        noise = torch.from_numpy(rng.standard_normal(data.latents.shape, np.float32))
        timesteps = torch.from_numpy(rng.integers(0, 1000, len(prompts)))
        noisy = pipeline.scheduler.add_noise(data.latents, noise, timesteps)
        predicted = pipeline.unet(noisy, timesteps, pipeline.text_encoder(pipeline.token_ids(prompts))[0]).sample
        errors.append(float((predicted - noise).square().mean()))
    return float(np.mean(errors))
