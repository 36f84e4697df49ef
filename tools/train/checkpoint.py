"""Training that can be interrupted at any update and goes on where it was."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ppidm.protocol.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Checkpoint:
    """One file, replaced in one go."""

    path: Path

    def save(self, content: Mapping[str, Any]) -> None:
        """Write; an interruption leaves the earlier one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        torch.save(dict(content), partial)
        partial.replace(self.path)

    def load(self) -> dict[str, Any] | None:
        """What was saved last; None if nothing was.

        Raises:
            InputError: the file is not a checkpoint.
        """
        if not self.path.exists():
            return None
        try:
            content: dict[str, Any] = torch.load(self.path, weights_only=True)
        except Exception as error:
            raise InputError(
                f"{self.path} cannot be read as a checkpoint: {error}; delete it to begin again"
            ) from error
        return content


class Ema:
    """Exponential moving average of parameters: what is sampled and published."""

    def __init__(self, module: torch.nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: value.detach().clone() for name, value in module.state_dict().items()}

    def update(self, module: torch.nn.Module) -> None:
        """Move towards the current values."""
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                self.values[name].lerp_(value.detach(), 1 - self.decay)


@dataclass(frozen=True)
class Schedule:
    """How long to train, and how often to save.

    updates: in all, earlier runs included.
    seconds: of this run; it stops after them and can be continued.
    cooldown: the share of updates at the end in which the learning rate falls to zero.
    """

    updates: int
    learning_rate: float
    seconds: float = float("inf")
    cooldown: float = 0.3
    warmup: int = 100
    save_every: float = 120.0

    def rate(self, update: int) -> float:
        """The learning rate: linear warm-up, constant, linear cool-down."""
        falling = (self.updates - update) / max(1.0, self.updates * self.cooldown)
        return self.learning_rate * min(1.0, (update + 1) / self.warmup, falling)

    def run(self, start: int, save: Callable[[int], None], progress: Callable[[int, int], None]) -> Iterator[int]:
        """Yields each update's number; saves now and then, at the end, and when it is interrupted."""
        began = saved = time.monotonic()
        update = start
        try:
            while update < self.updates and time.monotonic() - began < self.seconds:
                yield update
                update += 1
                progress(update, self.updates)
                if time.monotonic() - saved > self.save_every:
                    save(update)
                    saved = time.monotonic()
        finally:
            save(update)
