"""What `ppidm export` takes, and what it tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from ppidm.protocol.errors import InputError
from ppidm.protocol.precision import Precision

if TYPE_CHECKING:
    from pathlib import Path

Progress: TypeAlias = Callable[[str, int, int], None]  # what is being done, steps done, steps in all
UNET, VAE = "unet", "vae"


def silent(_stage: str, _done: int, _total: int) -> None:
    """Report to nobody."""


class OffloadChoice(StrEnum):
    """What `--offload` takes, but for a share."""

    ALL = "all"
    CONV = "conv"


def offload_from_text(text: str) -> OffloadChoice | float:
    """Read `--offload`: all, conv, or a share of the FLOPs.

    Raises:
        InputError: it is something else.
    """
    try:
        return OffloadChoice(text)
    except ValueError:
        pass
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise InputError(f"--offload is {text!r}; expected all, conv, or a share of the FLOPs, above 0 and at most 1")
    return share


@dataclass(frozen=True)
class ExportSettings:
    """The options of `ppidm export`; see its `--help`.

    Attributes:
        components: what is partitioned; the U-Net is always among them.
        input_shapes: of a single graph: NAME=1x3x224x224.
        loras: to merge: FILE.safetensors, or FILE.safetensors=STRENGTH.
    """

    model: str
    out: Path
    servers: int = 2
    offload: OffloadChoice | float = OffloadChoice.ALL
    retrace: bool = False
    force: bool = False
    sign: Path | None = None
    components: tuple[str, ...] = (UNET,)
    input_shapes: tuple[str, ...] = ()
    loras: tuple[str, ...] = ()
    precision: Precision = Precision.EXACT

    def __post_init__(self) -> None:
        if self.servers < 2:  # noqa: PLR2004
            raise InputError(f"--servers is {self.servers}; expected at least 2: an evaluator and a dealer")
        if self.components not in ((UNET,), (UNET, VAE)):
            raise InputError(f"--components is {','.join(self.components)!r}; expected {UNET} or {UNET},{VAE}")


@dataclass(frozen=True)
class ExportResult:
    """What was written and how well it compares.

    Attributes:
        slices: number of slices.
        segments: number of client segments.
        partition_error: largest error of the partition with float32 products, relative to the largest output.
        snr_db: of the quantised graph (of several the worst) against the original.
        share: of the FLOPs of one evaluation that servers compute.
    """

    out: Path
    slices: int
    segments: int
    partition_error: float
    snr_db: float
    share: float = 0.0
