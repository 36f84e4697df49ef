"""Where training runs: one GPU if there is one, else the CPU; bfloat16 where operands may be short."""

from __future__ import annotations

import torch


def device() -> torch.device:
    """The first GPU, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast() -> torch.autocast:
    """Products in bfloat16, everything else in float32."""
    return torch.autocast(device().type, torch.bfloat16)
