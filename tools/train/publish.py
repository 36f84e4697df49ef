"""Writes a trained pipeline for users: float16 safetensors, a card, samples, and the traced graphs."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tools.train.packages import PACKAGES
from tools.train.sheet import COMMON, COMPOSED, STYLED, draw_sheet, sheet_of

from ppidm.export.trace import trace
from ppidm.protocol.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tools.train.models import Pipeline

LARGEST_BYTES = 40_000_000
_TEMPLATE = Path(__file__).with_name("card.md")


@dataclass(frozen=True)
class Card:
    """What the model card states. PSNR in dB; errors are of the predicted noise, mean squared."""

    vae_updates: int
    unet_updates: int
    began_with: str
    vae_psnr_db: float
    held_out: int
    held_out_error: float
    init_held_out_error: float | None
    history: str = ""

    def text(self, parameters: str) -> str:
        """The card as Markdown."""
        before = self.init_held_out_error
        return _TEMPLATE.read_text().format(
            **{name: f"{value:.3f}" if isinstance(value, float) else value for name, value in vars(self).items()}
            | {"vae_psnr_db": f"{self.vae_psnr_db:.1f}"},
            compared="" if before is None else f" (the weights it began with: {before:.3f})",
            packages="\n".join(f"| `{p.name}` | {p.version} | {p.licence} | {p.holds} |" for p in PACKAGES),
            parameters=parameters,
        )


def publish(pipeline: Pipeline, card: Card, folder: Path, progress: Callable[[str, int, int], None]) -> None:
    """Replace `folder` by the finished model; it is untouched if anything fails.

    Raises:
        InputError: the model is larger than what the project ships.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        made = Path(temporary) / folder.name
        drawings = [*sheet_of(COMMON, (0, 1, 2)), *sheet_of(STYLED, (0,)), *sheet_of(COMPOSED, (0,))]
        samples = draw_sheet(pipeline, drawings, progress)
        progress("writing float16 weights", 0, 1)
        pipeline.diffusers().to(dtype=torch.float16).save_pretrained(str(made))
        _forget_origin(made)
        (made / "README.md").write_text(card.text(_parameters(pipeline)))
        samples.save(made / "samples.png", optimize=True)
        trace(made, progress=lambda part: progress(part, 0, 1))
        _check_size(made)
        if folder.exists():
            shutil.rmtree(folder)
        made.rename(folder)


def _forget_origin(folder: Path) -> None:
    """Diffusers notes where a part was read from: a path of this machine."""
    for path in folder.glob("*/config.json"):
        content = json.loads(path.read_text())
        content.pop("_name_or_path", None)
        path.write_text(json.dumps(content, indent=2) + "\n")


def _parameters(pipeline: Pipeline) -> str:
    parts = {"U-Net": pipeline.unet, "autoencoder": pipeline.vae, "text encoder": pipeline.text_encoder}
    counts = {name: sum(value.numel() for value in part.parameters()) for name, part in parts.items()}
    return ", ".join(f"{name} {count / 1e6:.1f} M" for name, count in counts.items())


def _check_size(folder: Path) -> None:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size > LARGEST_BYTES:
        raise InputError(f"the model has {size / 1e6:.0f} MB; the project ships at most {LARGEST_BYTES / 1e6:.0f} MB")
