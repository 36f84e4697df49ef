"""The stages of training: what each reads and leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from tools.train import denoiser
from tools.train import vae as autoencoder
from tools.train.checkpoint import Checkpoint, Schedule
from tools.train.examples import Example, split, training_set
from tools.train.latents import encode_examples
from tools.train.models import (
    VOCABULARY,
    Pipeline,
    load_pipeline,
    new_scheduler,
    new_text_encoder,
    new_tokenizer,
    new_unet,
    new_vae,
)  # fmt: skip
from tools.train.packages import fetch as fetch_packages
from tools.train.pictures import Picture, load_pictures
from tools.train.publish import Card, publish
from tools.train.sheet import COMMON, COMPOSED, STYLED, draw_sheet, sheet_of
from tools.train.vocabulary import learn_vocabulary, save_vocabulary

from ppidm.protocol.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Progress = Callable[[str, int, int], None]

VAE_RATE, FINE_RATE = 1e-3, 3e-4
UNET_RATE = 3e-4
_VAE_HELD_OUT = 97


@dataclass(frozen=True)
class Places:
    """data: the npm packages. state: checkpoints and encoded pictures."""

    data: Path
    state: Path


@dataclass(frozen=True)
class Outcome:
    """updates: made in all. quality: PSNR in dB, or the error of the predicted noise."""

    updates: int
    quality: float


def fetch(data: Path, progress: Progress) -> None:
    """Packages, and the pictures decoded from them."""
    fetch_packages(data, progress)
    progress("decoding pictures", 0, 1)
    load_pictures(data)


def vae(places: Places, init: Path | None, updates: int, minutes: float | None, progress: Progress) -> Outcome:
    """Train the autoencoder, or with `init` its decoder."""
    learned, held = split(load_pictures(places.data))
    pipeline = load_pipeline(init) if init else _new_pipeline(places)
    examples = training_set(learned)

    def draw(update: int) -> list[NDArray[np.uint8]]:
        rng = np.random.default_rng([update, len(examples)])
        return [examples[index].pixels() for index in rng.choice(len(examples), autoencoder.BATCH)]

    made = autoencoder.train_vae(
        pipeline.vae,
        draw,
        Schedule(updates, FINE_RATE if init else VAE_RATE, _seconds(minutes)),
        _vae_checkpoint(places.state),
        lambda done, total: progress("training the autoencoder", done, total),
        decoder_only=init is not None,
    )
    return Outcome(made, autoencoder.psnr_db(pipeline.vae, [Example((p,)).pixels() for p in held[:_VAE_HELD_OUT]]))


def unet(
    places: Places, init: Path | None, updates: int, minutes: float | None, cooldown: float, progress: Progress
) -> Outcome:
    """Train U-Net and text encoder."""
    pictures = load_pictures(places.data)
    learned, held = split(pictures)
    pipeline = _pipeline_for_unet(places, init, pictures)
    examples = training_set(learned)
    made = denoiser.train_denoiser(
        pipeline,
        denoiser.TrainingSet(examples, encode_examples(pipeline.vae, examples, places.state, progress)),
        Schedule(updates, UNET_RATE, _seconds(minutes), cooldown),
        _unet_checkpoint(places.state),
        lambda done, total: progress("training the U-Net", done, total),
    )
    return Outcome(made, _held_out_error(pipeline, held, places, progress))


def _held_out_error(pipeline: Pipeline, held: list[Picture], places: Places, progress: Progress) -> float:
    examples = [Example((picture,)) for picture in held]
    latents = encode_examples(pipeline.vae, examples, places.state, progress)
    return denoiser.held_out_error(pipeline, denoiser.TrainingSet(examples, latents))


def sample(state: Path, init: Path | None, output: Path, progress: Progress) -> None:
    """The sampling sheet, of the averaged parameters."""
    pipeline = trained_pipeline(state, init)
    drawings = [*sheet_of(COMMON, (0, 1, 2)), *sheet_of(STYLED, (0,)), *sheet_of(COMPOSED, (0,))]
    draw_sheet(pipeline, drawings, progress).save(output)


def export(places: Places, init: Path | None, folder: Path, history: str, progress: Progress) -> None:
    """Float16, card, samples, traced. `history` tells in the card how the weights of `init` came to be."""
    pipeline = trained_pipeline(places.state, init)
    _, held = split(load_pictures(places.data))
    pixels = [Example((picture,)).pixels() for picture in held[:_VAE_HELD_OUT]]
    card = Card(
        vae_updates=_updates(_vae_checkpoint(places.state)),
        unet_updates=_updates(_unet_checkpoint(places.state)),
        began_with="the weights of an earlier model" if init else "random weights",
        vae_psnr_db=autoencoder.psnr_db(pipeline.vae, pixels),
        held_out=len(held),
        held_out_error=_held_out_error(pipeline, held, places, progress),
        init_held_out_error=_held_out_error(load_pipeline(init), held, places, progress) if init else None,
        history=history,
    )
    publish(pipeline, card, folder, progress)


def trained_pipeline(state: Path, init: Path | None) -> Pipeline:
    """What the checkpoints hold, over `init` or over nothing.

    Raises:
        InputError: the U-Net was not trained yet.
    """
    content = _unet_checkpoint(state).load()
    if content is None:
        raise InputError(f"{state} holds no trained U-Net; run `python -m tools.train unet` first")
    pipeline = load_pipeline(init) if init else _empty_pipeline(state)
    _restore_vae(pipeline, state)
    pipeline.denoiser().load_state_dict(content["average"])
    pipeline.denoiser().eval()
    return pipeline


def _new_pipeline(places: Places) -> Pipeline:
    pictures = load_pictures(places.data)
    save_vocabulary(
        learn_vocabulary((picture.prompt for picture in pictures), VOCABULARY), _tokenizer_folder(places.state)
    )
    return _empty_pipeline(places.state)


def _empty_pipeline(state: Path) -> Pipeline:
    tokenizer = new_tokenizer(_tokenizer_folder(state) / "tokenizer.json")
    return Pipeline(new_vae(), new_text_encoder(), tokenizer, new_unet(), new_scheduler())


def _pipeline_for_unet(places: Places, init: Path | None, pictures: list[Picture]) -> Pipeline:
    """With its latents of unit variance: their factor belongs to the autoencoder, and is kept with it."""
    if init:
        return load_pipeline(init)
    pipeline = _new_pipeline(places)
    content = _vae_checkpoint(places.state).load()
    if content is None:
        raise InputError(f"{places.state} holds no trained autoencoder; run `python -m tools.train vae` first")
    if "scaling_factor" not in content:
        _restore_vae(pipeline, places.state)
        chosen = np.random.default_rng(0).choice(len(pictures), min(256, len(pictures)), replace=False)
        factor = autoencoder.scaling_factor(pipeline.vae, [Example((pictures[index],)).pixels() for index in chosen])
        _vae_checkpoint(places.state).save(content | {"scaling_factor": factor})
    _restore_vae(pipeline, places.state)
    return pipeline


def _restore_vae(pipeline: Pipeline, state: Path) -> None:
    content = _vae_checkpoint(state).load()
    if content is not None:
        pipeline.vae.load_state_dict(content["vae"])
        if "scaling_factor" in content:
            pipeline.vae.register_to_config(scaling_factor=content["scaling_factor"])
    pipeline.vae.eval()


def _updates(checkpoint: Checkpoint) -> int:
    content = checkpoint.load()
    return int(content["update"]) if content else 0


def _seconds(minutes: float | None) -> float:
    return float("inf") if minutes is None else 60 * minutes


def _vae_checkpoint(state: Path) -> Checkpoint:
    return Checkpoint(state / "vae.pt")


def _unet_checkpoint(state: Path) -> Checkpoint:
    return Checkpoint(state / "unet.pt")


def _tokenizer_folder(state: Path) -> Path:
    return state / "tokenizer"
