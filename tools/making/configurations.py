"""The public configurations of well-known models, and what each becomes at a reduced size."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("configurations.json")
TOKENS = 49408
_VAE = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "scaling_factor": 0.18215,
}
_TEXT = {"max_position_embeddings": 77, "vocab_size": TOKENS, "bos_token_id": TOKENS - 2, "eos_token_id": TOKENS - 1}
_SCHEDULER = {  # of all of them, also where their own scheduler does not read it: others are made from this
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
}
_SMALL_TOKENS, _SMALL_TEXT = 600, 32


@dataclass(frozen=True)
class Configuration:
    """What `make_model` writes.

    Attributes:
        pipeline: diffusers' class.
        components: folder -> configuration of its module.
        scheduler: configuration, with `_class_name`.
        pads: folder of a tokenizer -> what it fills texts up with; None is the end of a text.
        tokens: size of the vocabulary.
    """

    pipeline: str
    components: dict[str, dict[str, Any]]
    scheduler: dict[str, Any]
    pads: dict[str, str | None] = field(default_factory=dict)
    tokens: int = TOKENS


def names() -> list[str]:
    """The models that can be made."""
    return list(json.loads(FILE.read_text()))


def configuration_from_name(name: str, *, small: bool = False) -> Configuration:
    """The configuration of a model at its real size, or at one at which tests run in seconds."""
    entry = json.loads(FILE.read_text())[name]
    components = {
        part: default | entry[part]
        for part, default in (("text_encoder", _TEXT), ("text_encoder_2", _TEXT), ("unet", {}), ("vae", _VAE))
        if part in entry
    }
    pads = {"tokenizer": entry.get("pad")} | ({"tokenizer_2": entry["pad_2"]} if "pad_2" in entry else {})
    tokens = _SMALL_TOKENS if small else TOKENS
    if small:
        components = {part: config | _small(part, config, len(pads)) for part, config in components.items()}
    return Configuration(entry["pipeline"], components, _SCHEDULER | entry["scheduler"], pads, tokens)


def _small(part: str, config: dict[str, Any], encoders: int) -> dict[str, Any]:
    """As many blocks of every kind, but narrow, and one layer where there are several."""
    if part == "vae":
        return {"block_out_channels": [8, 8, 16, 16], "layers_per_block": 1, "norm_num_groups": 4, "sample_size": 64}
    if part == "unet":
        return _small_unet(config, encoders)
    heads, tokens = 4, _SMALL_TOKENS
    return {
        "hidden_size": _SMALL_TEXT,
        "intermediate_size": 2 * _SMALL_TEXT,
        "num_hidden_layers": 2,
        "num_attention_heads": heads,
        "projection_dim": _SMALL_TEXT,
        "vocab_size": tokens,
        "bos_token_id": tokens - 2,
        "eos_token_id": tokens - 1,
    }


def _small_unet(config: dict[str, Any], encoders: int) -> dict[str, Any]:
    blocks = len(config.get("block_out_channels", range(4)))
    small: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": [16, 32, 32, 32][:blocks],
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "cross_attention_dim": encoders * _SMALL_TEXT,
        "attention_head_dim": [2, 4, 4, 4][:blocks] if isinstance(config["attention_head_dim"], list) else 4,
    }
    if "transformer_layers_per_block" in config:
        small["transformer_layers_per_block"] = [1, 1, 2]
    if "time_cond_proj_dim" in config:
        small["time_cond_proj_dim"] = 32
    if "addition_time_embed_dim" in config:
        small |= {"addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": _SMALL_TEXT + 6 * 8}
    return small
