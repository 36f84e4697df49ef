"""Progress on the screen: on stderr, and only if that is a terminal."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def _progress() -> Progress:
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def stage_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Yields a function (stage, steps done, steps in all): one bar per stage."""
    with _progress() as progress:
        tasks: dict[str, object] = {}

        def report(stage: str, done: int, total: int) -> None:
            task = tasks.setdefault(stage, progress.add_task(stage, total=total) if stage not in tasks else None)
            progress.update(task, completed=done, total=total)  # type: ignore[arg-type]

        yield report


@contextmanager
def step_progress(description: str) -> Iterator[Callable[[int, int], None]]:
    """Yields a function (steps done, steps in all) that moves one bar."""
    with stage_progress() as report:
        yield lambda done, total: report(description, done, total)
