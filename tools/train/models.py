"""The parts of the small pipeline: Stable Diffusion's, narrower. 8.8 M + 2.6 M + 1.1 M parameters."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tools.train.vocabulary import END, START
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, PreTrainedTokenizerFast

from ppidm.protocol.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TOKENS = 32
TEXT_WIDTH = 160
VOCABULARY = 2048
_LEAST_VOCABULARY = 300  # transformers' CLIPTokenizer(vocab_file=...) silently makes one of 2


@dataclass
class Pipeline:
    """What is trained and published."""

    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: Any
    unet: UNet2DConditionModel
    scheduler: DDIMScheduler

    def denoiser(self) -> torch.nn.ModuleDict:
        """The two parts that learn together."""
        return torch.nn.ModuleDict({"text_encoder": self.text_encoder, "unet": self.unet})

    def token_ids(self, prompts: Sequence[str]) -> torch.Tensor:
        """(batch, 32), int64."""
        ids: torch.Tensor = self.tokenizer(
            list(prompts), padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt"
        ).input_ids
        return ids

    def diffusers(self) -> StableDiffusionPipeline:
        """As diffusers' pipeline."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it has no safety checker, and says so at length
            return StableDiffusionPipeline(
                vae=self.vae, text_encoder=self.text_encoder, tokenizer=self.tokenizer, unet=self.unet,
                scheduler=self.scheduler, safety_checker=None, feature_extractor=None, requires_safety_checker=False,
            )  # fmt: skip


def new_vae(widths: tuple[int, ...] = (32, 64, 128)) -> AutoencoderKL:
    """4x, 64x64x3 -> 16x16x4."""
    return AutoencoderKL(
        block_out_channels=widths,
        down_block_types=["DownEncoderBlock2D"] * len(widths),
        up_block_types=["UpDecoderBlock2D"] * len(widths),
        norm_num_groups=16,
        mid_block_add_attention=False,
        sample_size=64,
    )


def new_unet(widths: tuple[int, int, int] = (64, 128, 192)) -> UNet2DConditionModel:
    """Cross-attention at 16x16 and 8x8."""
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=widths,
        layers_per_block=1,
        attention_head_dim=4,
        cross_attention_dim=TEXT_WIDTH,
        down_block_types=["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        up_block_types=["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    )


def new_text_encoder(layers: int = 3) -> CLIPTextModel:
    """Narrow: the captions are short."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=VOCABULARY, hidden_size=TEXT_WIDTH, intermediate_size=3 * TEXT_WIDTH, num_hidden_layers=layers,
            num_attention_heads=5, max_position_embeddings=TOKENS, bos_token_id=0, eos_token_id=1, pad_token_id=1,
        )
    )  # fmt: skip


def new_scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise schedule."""
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip


def new_tokenizer(file: Path) -> PreTrainedTokenizerFast:
    """CLIP's conventions over a vocabulary of our own.

    Raises:
        InputError: the vocabulary is far too small.
    """
    tokenizer = CLIPTokenizer.from_pretrained(
        str(file.parent), bos_token=START, eos_token=END, pad_token=END, unk_token=END,
        model_max_length=TOKENS, local_files_only=True,
    )  # fmt: skip
    if len(tokenizer) < _LEAST_VOCABULARY:
        raise InputError(f"{file}: a vocabulary of {len(tokenizer)} tokens; expected at least {_LEAST_VOCABULARY}")
    return tokenizer


def load_pipeline(folder: Path) -> Pipeline:
    """Read a pipeline in float32.

    Raises:
        InputError: `folder` holds none, or its vocabulary is far too small.
    """
    if not (folder / "model_index.json").is_file():
        raise InputError(f"{folder} holds no pipeline of diffusers (model_index.json is not there)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = StableDiffusionPipeline.from_pretrained(str(folder), torch_dtype=torch.float32, local_files_only=True)
    if len(pipe.tokenizer) < _LEAST_VOCABULARY:
        raise InputError(f"{folder}/tokenizer: a vocabulary of {len(pipe.tokenizer)} tokens")
    return Pipeline(
        pipe.vae, pipe.text_encoder, pipe.tokenizer, pipe.unet, DDIMScheduler.from_config(pipe.scheduler.config)
    )
