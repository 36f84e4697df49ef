"""Seeded random weights for a module of torch, written tensor by tensor: no more than one is ever in memory."""

from __future__ import annotations

import json
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

_ALIGNMENT = 8  # bytes; of the header, as the format's own writer does


def shapes_of(kind: Any, config: Any) -> torch.nn.Module:  # noqa: ANN401  diffusers and transformers are untyped
    """A module without weights: names and shapes only."""
    with torch.device("meta"):
        module: torch.nn.Module = kind.from_config(config) if hasattr(kind, "from_config") else kind(config)
    return module


def write_zeros(module: torch.nn.Module, path: Path) -> None:
    """Write a file of zeros that takes no room: enough to trace and to partition, which read shapes only."""
    header, end = _header(module)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + end)


def write_weights(module: torch.nn.Module, path: Path, seed: int, progress: Callable[[int, int], None]) -> None:
    """Write random float16 weights for `module`, distributed as torch would initialise its layers.

    Args:
        module: on the meta device.
        path: a safetensors file.
        seed: of the weights.
        progress: called with the bytes written and the bytes in all.
    """
    owners = {f"{prefix}.{name}".lstrip("."): owner for prefix, owner in module.named_modules() for name in _own(owner)}
    (header, end), rng, done = _header(module), np.random.default_rng(seed), 0
    with path.open("wb") as file:
        file.write(header)
        for name, shape in _shapes(module).items():
            done += file.write(_draw(rng, owners[name], name, shape).astype("<f2").tobytes())
            progress(done, end)


def _shapes(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in sorted(module.state_dict().items())}


def _header(module: torch.nn.Module) -> tuple[bytes, int]:
    """Of a safetensors file with all tensors in float16; and how many bytes they have."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in _shapes(module).items():
        start, end = end, end + 2 * prod(shape)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text, end


def _own(module: torch.nn.Module) -> list[str]:
    return [name for name, _ in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))]


def _draw(rng: np.random.Generator, owner: torch.nn.Module, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    weight = getattr(owner, "weight", None)
    if isinstance(owner, torch.nn.Embedding) or weight is None:
        return rng.standard_normal(shape, np.float32) * np.float32(0.02)
    if weight.dim() == 1:  # a normalisation
        offset = np.float32(name.endswith(".weight"))
        return offset + rng.standard_normal(shape, np.float32) * np.float32(0.05)
    bound = np.float32(prod(weight.shape[1:]) ** -0.5)
    return (2 * rng.random(shape, np.float32) - 1) * bound
