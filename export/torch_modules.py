"""The torch side of tracing: the modules of a pipeline, and what goes in and out of them.

Importing this module imports torch, diffusers and transformers, which takes seconds and may fail: `ppidm.export.trace`
imports it only when it has to trace.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection
from transformers.utils import logging as transformers_logging

from ppidm.export.external import weight_files
from ppidm.export.tidy import Dims
from ppidm.export.torch_weights import without_weights
from ppidm.protocol.errors import InputError, UnsupportedError

ROOT = "model."
"""Prefix of all names in the wrappers below."""

_OTHER_INPUTS = ("class_embed_type", "encoder_hid_dim_type")
_TIME_IDS = 6  # of SDXL: original size, corner of the crop, size


class _TextEncoder(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Tensor:
        hidden: Tensor = self.model(input_ids=input_ids).last_hidden_state
        return hidden


class _PenultimateLayer(_TextEncoder):
    def forward(self, input_ids: Tensor) -> Tensor:
        hidden: Tensor = self.model(input_ids=input_ids, output_hidden_states=True).hidden_states[-2]
        return hidden


class _PooledText(_TextEncoder):
    def forward(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        output = self.model(input_ids=input_ids, output_hidden_states=True)
        return output.hidden_states[-2], output.text_embeds


class _UNet(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        timestep_cond: Tensor | None = None,
        text_embeds: Tensor | None = None,
        time_ids: Tensor | None = None,
    ) -> Tensor:
        added = None if text_embeds is None else {"text_embeds": text_embeds, "time_ids": time_ids}
        conditions = {"timestep_cond": timestep_cond, "added_cond_kwargs": added}
        out: Tensor = self.model(sample, timestep, encoder_hidden_states, return_dict=False, **conditions)[0]
        return out


class _Decoder(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, latent_sample: Tensor) -> Tensor:
        model: Any = self.model
        image: Tensor = model.decode(latent_sample, return_dict=False)[0]
        return image


class _Encoder(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, sample: Tensor) -> Tensor:
        model: Any = self.model
        parameters: Tensor = model.encode(sample).latent_dist.parameters
        return parameters


@dataclass(frozen=True)
class Component:
    """A module of the pipeline and its interface.

    Attributes:
        module: in evaluation mode; float32, or without weights (`torch_weights.without_weights`).
        inputs: name -> shape.
        outputs: their names.
        token_ids: how many there are, if the input is token ids.
        multiple: what latent height and width must be a multiple of.
    """

    module: nn.Module
    inputs: Mapping[str, Dims]
    outputs: tuple[str, ...]
    token_ids: int = 0
    multiple: int = 1

    def example(self, sizes: Mapping[str, int]) -> dict[str, Tensor]:
        """Draw inputs, always the same, of the given dynamic sizes; height and width count in `multiple`."""
        scaled = {**sizes, "height": sizes["height"] * self.multiple, "width": sizes["width"] * self.multiple}
        generator = torch.Generator().manual_seed(0)
        return {name: self._draw(name, _sized(shape, scaled), generator) for name, shape in self.inputs.items()}

    def _draw(self, name: str, shape: list[int], generator: torch.Generator) -> Tensor:
        if name == "input_ids":
            return torch.randint(self.token_ids, shape, generator=generator)
        if name in {"timestep", "time_ids"}:
            return 1000 * torch.rand(shape, generator=generator)
        return torch.randn(shape, generator=generator)


def _sized(shape: Dims, sizes: Mapping[str, int]) -> list[int]:
    return [sizes[dim] if isinstance(dim, str) else dim for dim in shape]


def load_text_encoder(folder: Path, tokens: int) -> Component:
    """Load a CLIP text encoder that always sees `tokens` tokens; of SDXL's two, each as diffusers uses it."""
    pooled, pair = folder.name == "text_encoder_2", folder.with_name("text_encoder_2").is_dir()
    model = _load(CLIPTextModelWithProjection if pooled else CLIPTextModel, folder)
    inputs = {"input_ids": ("batch", min(tokens, model.config.max_position_embeddings))}
    if not pair:
        return Component(_TextEncoder(model), inputs, ("last_hidden_state",), token_ids=model.config.vocab_size)
    wrapper = _PooledText if pooled else _PenultimateLayer
    outputs = ("hidden_state", "text_embeds")[: 1 + pooled]
    return Component(wrapper(model), inputs, outputs, token_ids=model.config.vocab_size)


def load_unet(folder: Path) -> Component:
    """Load a U-Net, without its weights.

    Raises:
        UnsupportedError: it has inputs that ppidm does not know, as those of IP-Adapter and inpainting have.
    """
    model = _structure(UNet2DConditionModel, folder)
    config = model.config
    extra = [name for name in _OTHER_INPUTS if config.get(name) is not None]
    if config.get("addition_embed_type") not in {None, "text_time"}:
        extra.append(f"addition_embed_type {config.addition_embed_type}")
    if extra or config.in_channels != config.out_channels:
        raise UnsupportedError(
            f"{folder}: ppidm passes a U-Net latents, timestep, guidance scale, text and SDXL's sizes only; it also wants"
            f" {', '.join(extra) or 'more channels than it returns'}. Use the text-to-image version of the model."
        )
    halvings = len(config.block_out_channels) - 1
    return Component(_UNet(model), _unet_inputs(config), ("out_sample",), multiple=2**halvings)


def _unet_inputs(config: Any) -> dict[str, Dims]:  # noqa: ANN401
    inputs: dict[str, Dims] = {
        "sample": ("batch", config.in_channels, "height", "width"),
        "timestep": ("batch",),
        "encoder_hidden_states": ("batch", "tokens", config.cross_attention_dim),
    }
    if config.get("time_cond_proj_dim"):
        inputs["timestep_cond"] = ("batch", config.time_cond_proj_dim)
    if config.get("addition_embed_type"):
        sizes = _TIME_IDS * config.addition_time_embed_dim
        inputs["text_embeds"] = ("batch", config.projection_class_embeddings_input_dim - sizes)
        inputs["time_ids"] = ("batch", _TIME_IDS)
    return inputs


def load_decoder(folder: Path) -> Component:
    """Load the decoder of a VAE, without its weights; its input is what the VAE's encoder gives, without scaling factor."""
    model = _structure(AutoencoderKL, folder)
    inputs = {"latent_sample": ("batch", model.config.latent_channels, "height", "width")}
    return Component(_Decoder(model), inputs, ("sample",))


def load_encoder(folder: Path) -> Component:
    """Load the encoder of a VAE, without its weights; it gives means, and logarithms of variances."""
    model = _structure(AutoencoderKL, folder)
    factor = 2 ** (len(model.config.block_out_channels) - 1)
    inputs = {"sample": ("batch", model.config.in_channels, "height", "width")}
    return Component(_Encoder(model), inputs, ("latent_parameters",), multiple=factor)


def _structure(kind: Any, folder: Path) -> Any:  # noqa: ANN401  diffusers and transformers are untyped
    try:
        with quiet():
            return without_weights(lambda: kind.from_config(kind.load_config(folder, local_files_only=True)))
    except Exception as error:
        raise InputError(f"{folder} cannot be loaded as {kind.__name__}: {error}") from error


def _load(kind: Any, folder: Path) -> Any:  # noqa: ANN401
    variant = "fp16" if ".fp16" in weight_files(folder)[0].name else None
    try:
        with quiet():
            model = kind.from_pretrained(folder, variant=variant, use_safetensors=True, local_files_only=True)
    except Exception as error:
        raise InputError(f"{folder} cannot be loaded as {kind.__name__}: {error}") from error
    return model.float().eval()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what torch and its friends say about themselves: nothing that our user could act on."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    talkers: list[Any] = [lib for lib in (diffusers_logging, transformers_logging) if lib.is_progress_bar_enabled()]
    for library in talkers:
        library.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(level)
        for library in talkers:
            library.enable_progress_bar()
