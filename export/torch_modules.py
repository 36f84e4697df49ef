"""The torch side of tracing: diffusers' modules in float32, what goes in and out of them, and their raw ONNX graphs.

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

import onnx_ir as ir
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from torch import Tensor, nn
from transformers import CLIPTextModel
from transformers.utils import logging as transformers_logging

from ppidm.export.external import weight_files
from ppidm.export.tidy import Dims
from ppidm.protocol.errors import InputError, UnsupportedError

OPSET = 23
"""The first opset with Attention."""

ROOT = "model."
"""Prefix of all names in the wrappers below."""

_MAX_BATCH = 63  # from 64 on, diffusers' upsampling copies its input first; the graph itself has no limit
_EXTRA_INPUTS = ("addition_embed_type", "class_embed_type", "encoder_hid_dim_type", "time_cond_proj_dim")


class _TextEncoder(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Tensor:
        hidden: Tensor = self.model(input_ids=input_ids).last_hidden_state
        return hidden


class _UNet(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        out: Tensor = self.model(sample, timestep, encoder_hidden_states, return_dict=False)[0]
        return out


class _Decoder(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, latent_sample: Tensor) -> Tensor:
        model: Any = self.model
        image: Tensor = model.decode(latent_sample, return_dict=False)[0]
        return image


@dataclass(frozen=True)
class Component:
    """A module of the pipeline and its interface.

    Attributes:
        module: float32, in evaluation mode.
        inputs: name -> shape.
        output: name of the only output.
        token_ids: how many there are, if the input is token ids.
        multiple: what latent height and width must be a multiple of.
    """

    module: nn.Module
    inputs: Mapping[str, Dims]
    output: str
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
        if name == "timestep":
            return 1000 * torch.rand(shape, generator=generator)
        return torch.randn(shape, generator=generator)


def _sized(shape: Dims, sizes: Mapping[str, int]) -> list[int]:
    return [sizes[dim] if isinstance(dim, str) else dim for dim in shape]


def load_text_encoder(folder: Path, tokens: int) -> Component:
    """Load a CLIP text encoder that always sees `tokens` tokens."""
    model = _load(CLIPTextModel, folder)
    tokens = min(tokens, model.config.max_position_embeddings)
    inputs = {"input_ids": ("batch", tokens)}
    return Component(_TextEncoder(model), inputs, "last_hidden_state", token_ids=model.config.vocab_size)


def load_unet(folder: Path) -> Component:
    """Load a U-Net whose only inputs are sample, timestep and text.

    Raises:
        UnsupportedError: it has more inputs, as those of SDXL, LCM, IP-Adapter and inpainting have.
    """
    model = _load(UNet2DConditionModel, folder, low_cpu_mem_usage=False)
    extra = [name for name in _EXTRA_INPUTS if model.config.get(name) is not None]
    if extra or model.config.in_channels != model.config.out_channels:
        raise UnsupportedError(
            f"{folder}: ppidm passes this U-Net latents, timestep and text only; it also wants"
            f" {', '.join(extra) or 'more channels than it returns'}."
        )
    inputs = {
        "sample": ("batch", model.config.in_channels, "height", "width"),
        "timestep": ("batch",),
        "encoder_hidden_states": ("batch", "tokens", model.config.cross_attention_dim),
    }
    halvings = len(model.config.block_out_channels) - 1
    return Component(_UNet(model), inputs, "out_sample", multiple=2**halvings)


def load_decoder(folder: Path) -> Component:
    """Load the decoder of a VAE; its input is what the VAE's encoder gives, without scaling factor."""
    model = _load(AutoencoderKL, folder, low_cpu_mem_usage=False)
    inputs = {"latent_sample": ("batch", model.config.latent_channels, "height", "width")}
    return Component(_Decoder(model), inputs, "sample")


def _load(kind: Any, folder: Path, **options: object) -> Any:  # noqa: ANN401  diffusers and transformers are untyped
    variant = "fp16" if ".fp16" in weight_files(folder)[0].name else None
    try:
        with _quiet():
            model = kind.from_pretrained(
                folder, variant=variant, use_safetensors=True, local_files_only=True, **options
            )
    except Exception as error:
        raise InputError(f"{folder} cannot be loaded as {kind.__name__}: {error}") from error
    return model.float().eval()


def raw_onnx(component: Component, sizes: Mapping[str, int]) -> ir.Model:
    """Run torch's exporter; initialisers have their torch names and are still in memory.

    Raises:
        UnsupportedError: torch cannot trace the module.
    """
    try:
        with _quiet():
            program = _export(component, component.example(sizes))
    except Exception as error:
        raise UnsupportedError(f"torch cannot trace {component.output}: {error.__cause__ or error}") from error
    assert program is not None
    return program.model


def _export(component: Component, example: dict[str, Tensor]) -> torch.onnx.ONNXProgram | None:
    return torch.onnx.export(
        component.module,
        kwargs=example,
        input_names=list(example),
        output_names=[component.output],
        dynamic_shapes=_dynamic_shapes(component),
        opset_version=OPSET,
        dynamo=True,
        optimize=False,
        verbose=False,
    )


def _dynamic_shapes(component: Component) -> dict[str, dict[int, Any]]:
    dims = {"batch": torch.export.Dim("batch", max=_MAX_BATCH), "tokens": torch.export.Dim("tokens")}
    return {
        name: {
            index: dims.get(dim, torch.export.Dim.DYNAMIC) for index, dim in enumerate(shape) if isinstance(dim, str)
        }
        for name, shape in component.inputs.items()
    }


def run(component: Component, inputs: Mapping[str, Tensor]) -> Tensor:
    """Run the module itself, in float32."""
    with torch.inference_mode():
        out: Tensor = component.module(**inputs)
    return out


@contextmanager
def _quiet() -> Iterator[None]:
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
