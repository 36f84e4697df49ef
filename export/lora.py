"""LoRA, merged at export: W + strength alpha / rank up down, in a copy of the weights that the export reads.

After that a merged model is like any other: what a LoRA was is in the quantised weights of the slices. Two ways of naming
are known: kohya's (`lora_unet_..._to_q.lora_down.weight`, with `alpha`) and that of PEFT and diffusers
(`unet. ... .to_q.lora_A.weight`).
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ppidm.export.external import stored_tensors, weight_files
from ppidm.protocol.errors import InputError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx_ir as ir
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

_PARTS = {"unet": "unet", "te": "text_encoder", "te1": "text_encoder", "te2": "text_encoder_2"}
_KOHYA = re.compile(r"lora_(unet|te1|te2|te)_(.+)\.(lora_down\.weight|lora_up\.weight|alpha)")
_PEFT = re.compile(r"(unet|text_encoder|text_encoder_2)\.(.+)\.(lora_A|lora_B|lora\.down|lora\.up)\.weight")
_ROLES = {"lora_down.weight": "down", "lora_up.weight": "up", "alpha": "alpha"}
_PEFT_ROLES = {"lora_A": "down", "lora.down": "down", "lora_B": "up", "lora.up": "up"}


@dataclass(frozen=True)
class Lora:
    """A file, and how strongly it is applied."""

    path: Path
    strength: float = 1.0


def lora_from_text(text: str) -> Lora:
    """Read `--lora FILE.safetensors` or `FILE.safetensors=0.8`.

    Raises:
        InputError: no such file, or no number.
    """
    path, found, strength = text.rpartition("=")
    if not found:
        path, strength = text, "1"
    try:
        lora = Lora(Path(path), float(strength))
    except ValueError:
        lora = Lora(Path(text))
    if not lora.path.is_file() or not np.isfinite(lora.strength):
        raise InputError(f"--lora is {text!r}; expected FILE.safetensors or FILE.safetensors=STRENGTH")
    return lora


def merged_model(model: Path, loras: Sequence[Lora], folder: Path) -> Path:
    """Write a pipeline folder with the merged weights; what no LoRA changes is linked.

    Args:
        model: a traced pipeline.
        loras: applied one after the other.
        folder: does not exist.

    Raises:
        InputError: a file is damaged.
        UnsupportedError: a LoRA changes a layer that the model does not have; names it.
    """
    changes = [(lora, _by_layer(lora.path)) for lora in loras]
    touched = {part for _, layers in changes for part, _ in layers}
    folder.mkdir()
    for entry in model.iterdir():
        if entry.name in touched:
            shutil.copytree(entry, folder / entry.name)
        else:
            (folder / entry.name).symlink_to(entry.resolve())
    for lora, layers in changes:
        stored = {part: _stored(folder, part, lora.path) for part in touched}
        for (part, layer), tensors in layers.items():
            _merge(_weight(stored[part], layer, lora.path), tensors, lora)
    return folder


def _stored(folder: Path, part: str, lora: Path) -> dict[str, ir.ExternalTensor]:
    if not (folder / part).is_dir():
        raise UnsupportedError(f"{lora}: changes {part}, which this model does not have. It was made for another model")
    return stored_tensors(weight_files(folder / part))


def _by_layer(path: Path) -> dict[tuple[str, str], dict[str, Floats]]:
    """(component, layer) -> down, up and, if there is one, alpha."""
    layers: dict[tuple[str, str], dict[str, Floats]] = {}
    for name, tensor in stored_tensors([path]).items():
        if match := _KOHYA.fullmatch(name):
            part, layer, role = _PARTS[match[1]], match[2], _ROLES[match[3]]
        elif match := _PEFT.fullmatch(name):
            part, layer, role = match[1], match[2].replace(".", "_"), _PEFT_ROLES[match[3]]
        else:
            raise UnsupportedError(f"{path}: {name} is no LoRA of kohya's or PEFT's naming; only those can be merged")
        layers.setdefault((part, layer), {})[role] = np.array(tensor.numpy(), np.float32)
    if incomplete := [layer for (_, layer), tensors in layers.items() if not {"down", "up"} <= tensors.keys()]:
        raise UnsupportedError(f"{path}: layer {incomplete[0]} has no pair of matrices; only LoRA's can be merged")
    return layers


def _weight(stored: Mapping[str, ir.ExternalTensor], layer: str, lora: Path) -> ir.ExternalTensor:
    for name, tensor in stored.items():
        if name.endswith(".weight") and layer in {
            known := name.removesuffix(".weight").replace(".", "_"),
            f"text_model_{known}",
            known.removeprefix("text_model_"),
        }:
            return tensor
    raise UnsupportedError(
        f"{lora}: changes layer {layer}, which this model does not have. It was made for another model"
    )


def _merge(weight: ir.ExternalTensor, tensors: Mapping[str, Floats], lora: Lora) -> None:
    down, up = tensors["down"], tensors["up"]
    rank = len(down)
    shape = tuple(int(size) for size in weight.shape)  # type: ignore[arg-type]  # sizes of a file
    if up[0].size != rank or len(up) != shape[0] or down[0].size * len(up) != np.prod(shape):
        raise UnsupportedError(f"{lora.path}: {weight.name} is {shape}, its change {up.shape} x {down.shape}")
    strength = lora.strength * float(tensors.get("alpha", np.float32(rank)).item()) / rank
    change = strength * (up.reshape(len(up), rank) @ down.reshape(rank, -1)).reshape(shape)
    place = np.memmap(weight.path, weight.dtype.numpy(), "r+", weight.offset or 0, shape)
    place[...] = (np.asarray(place, np.float32) + change).astype(place.dtype)
    place.flush()
