"""What the client keeps whole: text encoder, VAE decoder, tokenizer, samplers, and the numbers of the model's configuration."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
from pydantic import ValidationError
from tokenizers import Tokenizer

from ppidm.engines.onnx_guard import Policy, require_allowed
from ppidm.engines.onnx_policy import SEGMENT, TEXT
from ppidm.export.flops import count_flops
from ppidm.export.graph import load_graph
from ppidm.protocol.errors import InputError, PackageError, UnsupportedError
from ppidm.protocol.manifest import ImageConfig
from ppidm.protocol.sampler_table import FILE as SAMPLERS
from ppidm.protocol.sampler_table import load_table

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class ModelConfig:
    """What export needs to know of a pipeline folder's JSON files."""

    image: ImageConfig
    max_tokens: int
    vocabulary: int
    pad_token: str
    scheduler: str

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of the latents at the model's own picture size."""
        factor = self.image.vae_scale_factor
        return self.image.latent_channels, self.image.height // factor, self.image.width // factor


def config_from_model(model: Path) -> ModelConfig:
    """Read the configuration of a pipeline folder.

    Raises:
        InputError: a file is missing or has no such key.
        UnsupportedError: the pipeline is not StableDiffusionPipeline's.
    """
    index = _json(model / "model_index.json")
    if index.get("_class_name") != "StableDiffusionPipeline":
        raise UnsupportedError(f"{model}: a {index.get('_class_name')}; expected a StableDiffusionPipeline")
    unet, vae = _json(model / "unet" / "config.json"), _json(model / "vae" / "config.json")
    tokenizer = _json(model / "tokenizer" / "tokenizer_config.json")
    try:
        pad = tokenizer["pad_token"]
        return ModelConfig(
            image=_image(unet, vae),
            max_tokens=tokenizer["model_max_length"],
            vocabulary=_json(model / "text_encoder" / "config.json")["vocab_size"],
            pad_token=pad["content"] if isinstance(pad, dict) else pad,
            scheduler=_json(model / "scheduler" / "scheduler_config.json")["_class_name"],
        )
    except (KeyError, TypeError, ValidationError) as error:
        problem = f"no {error}" if isinstance(error, KeyError) else f"what does not fit ({error})"
        raise InputError(
            f"{model}: the configuration has {problem}; expected that of diffusers' StableDiffusionPipeline"
        ) from error


def _image(unet: dict[str, Any], vae: dict[str, Any]) -> ImageConfig:
    factor = 2 ** (len(vae["block_out_channels"]) - 1)
    size = unet["sample_size"] if isinstance(unet["sample_size"], list) else [unet["sample_size"]] * 2
    return ImageConfig(
        height=size[0] * factor,
        width=size[1] * factor,
        latent_channels=unet["in_channels"],
        vae_scale_factor=factor,
        size_multiple=factor * 2 ** (len(unet["block_out_channels"]) - 1),
        scaling_factor=vae["scaling_factor"],
        shift_factor=vae.get("shift_factor") or 0.0,
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: {error}; expected a folder in the layout of diffusers' StableDiffusionPipeline"
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a JSON object")
    return content


def copy_components(model: Path, client: Path, config: ModelConfig) -> None:
    """Write the client's own graphs, tokenizer and samplers."""
    for component, file, policy in (("text_encoder", "text_encoder.onnx", TEXT), ("vae", "vae_decoder.onnx", SEGMENT)):
        graph = load_graph(model / component / "model.onnx")
        count_flops(graph.graph)
        save_graph(graph, client / file, policy)
    _tokenizer(model, config).save(str(client / "tokenizer.json"))
    _check_samplers(model / SAMPLERS, config.scheduler)
    shutil.copyfile(model / SAMPLERS, client / SAMPLERS.name)


def _check_samplers(path: Path, scheduler: str) -> None:
    if not path.is_file():
        raise InputError(f"{path} is not there; trace the pipeline again with --retrace")
    try:
        load_table(path, scheduler)
    except InputError as error:
        raise InputError(f"{path}: {error}; trace the pipeline again with --retrace") from error


def save_graph(model: ir.Model, path: Path, policy: Policy = SEGMENT) -> None:
    """Save `model` as one file, weights included.

    Raises:
        UnsupportedError: it holds what clients or servers refuse to run.
    """
    ir.save(ir.external_data.load_to_model(model.clone()), path)
    try:
        require_allowed(path, policy)
    except PackageError as error:
        raise UnsupportedError(
            f"{model.graph.name}: {policy.name} would hold what ppidm does not run ({error.__cause__}); export another model"
        ) from error


def _tokenizer(model: Path, config: ModelConfig) -> Tokenizer:
    """The tokenizer, with truncation and padding to the text encoder's length built in."""
    path = model / "tokenizer" / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises Exception itself
        raise InputError(f"{path}: not a tokenizer ({error}); trace the pipeline again with --retrace") from error
    pad_id = tokenizer.token_to_id(config.pad_token)
    if pad_id is None or tokenizer.get_vocab_size() > config.vocabulary:
        raise InputError(
            f"{path}: {tokenizer.get_vocab_size()} tokens, padding {config.pad_token!r}; the text encoder has "
            f"{config.vocabulary}. The tokenizer is of another model"
        )
    tokenizer.enable_truncation(config.max_tokens)
    tokenizer.enable_padding(length=config.max_tokens, pad_id=pad_id, pad_token=config.pad_token)
    return tokenizer
