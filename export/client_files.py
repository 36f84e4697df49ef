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
from ppidm.export.trace import ENCODER
from ppidm.protocol.errors import InputError, PackageError, UnsupportedError
from ppidm.protocol.records import Conditioning, ImageConfig
from ppidm.protocol.sampler_table import FILE as SAMPLERS
from ppidm.protocol.sampler_table import load_table

if TYPE_CHECKING:
    from pathlib import Path


PIPELINES = ("StableDiffusionPipeline", "LatentConsistencyModelPipeline", "StableDiffusionXLPipeline")
DECODER = "latent_sample"  # the decoder's input


@dataclass(frozen=True)
class ModelConfig:
    """What export needs to know of a pipeline folder's JSON files."""

    image: ImageConfig
    max_tokens: int
    vocabulary: int
    encoders: tuple[str, ...]
    scheduler: str
    conditioning: Conditioning

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
    if index.get("_class_name") not in PIPELINES:
        raise UnsupportedError(f"{model}: a {index.get('_class_name')}; expected a {', '.join(PIPELINES)}")
    unet, vae = _json(model / "unet" / "config.json"), _json(model / "vae" / "config.json")
    xl = index["_class_name"] == PIPELINES[-1]
    try:
        return ModelConfig(
            image=_image(unet, vae),
            max_tokens=_json(model / "tokenizer" / "tokenizer_config.json")["model_max_length"],
            vocabulary=_json(model / "text_encoder" / "config.json")["vocab_size"],
            encoders=("text_encoder", "text_encoder_2") if xl else ("text_encoder",),
            scheduler=_json(model / "scheduler" / "scheduler_config.json")["_class_name"],
            conditioning=Conditioning(
                guidance_features=unet.get("time_cond_proj_dim"),
                sizes=unet.get("addition_embed_type") == "text_time",
                empty_is_zero=xl and bool(index.get("force_zeros_for_empty_prompt", True)),
            ),
        )
    except (KeyError, TypeError, ValidationError) as error:
        problem = f"no {error}" if isinstance(error, KeyError) else f"what does not fit ({error})"
        raise InputError(
            f"{model}: the configuration has {problem}; expected that of diffusers' {index['_class_name']}"
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


def copy_components(model: Path, client: Path, config: ModelConfig, *, with_decoder: bool = True) -> None:
    """Write the client's own graphs, tokenizers and samplers."""
    for encoder in config.encoders:
        _copy_graph(model / encoder / "model.onnx", client / f"{encoder}.onnx", TEXT)
        tokenizer = encoder.replace("text_encoder", "tokenizer")
        vocabulary = _json(model / encoder / "config.json").get("vocab_size", 0)
        _tokenizer(model / tokenizer, vocabulary, config.max_tokens).save(str(client / f"{tokenizer}.json"))
    if with_decoder:
        _copy_graph(model / "vae" / "model.onnx", client / "vae_decoder.onnx", SEGMENT)
    if (encoder_graph := model / "vae" / ENCODER).is_file():
        _copy_graph(encoder_graph, client / "vae_encoder.onnx", SEGMENT)
    _check_samplers(model / SAMPLERS, config.scheduler)
    shutil.copyfile(model / SAMPLERS, client / SAMPLERS.name)


def _copy_graph(source: Path, target: Path, policy: Policy) -> None:
    graph = load_graph(source)
    count_flops(graph.graph)
    save_graph(graph, target, policy)


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


def _tokenizer(folder: Path, vocabulary: int, tokens: int) -> Tokenizer:
    """The tokenizer, with truncation and padding to the text encoder's length built in."""
    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises Exception itself
        raise InputError(f"{path}: not a tokenizer ({error}); trace the pipeline again with --retrace") from error
    pad = _pad_token(folder)
    pad_id = tokenizer.token_to_id(pad)
    if pad_id is None or tokenizer.get_vocab_size() > vocabulary:
        raise InputError(
            f"{path}: {tokenizer.get_vocab_size()} tokens, padding {pad!r}; the text encoder has "
            f"{vocabulary}. The tokenizer is of another model"
        )
    tokenizer.enable_truncation(tokens)
    tokenizer.enable_padding(length=tokens, pad_id=pad_id, pad_token=pad)
    return tokenizer


def _pad_token(folder: Path) -> str:
    pad = _json(folder / "tokenizer_config.json").get("pad_token")
    if pad is None:
        raise InputError(f"{folder.parent}: the configuration has no 'pad_token'; expected that of a CLIP tokenizer")
    return str(pad["content"] if isinstance(pad, dict) else pad)
