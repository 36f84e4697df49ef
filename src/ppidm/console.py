"""Beside results, on stderr: errors, warnings, and progress if that is a terminal."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.progress import TaskID


def print_error(message: str) -> None:
    """One line on stderr, red on a terminal. Some libraries' messages have several."""
    _print_line(f"ppidm: {' '.join(line.strip() for line in message.splitlines())}", "red")


@contextmanager
def warnings_on_stderr() -> Iterator[None]:
    """Within the block, a Python warning is one line for a user, not a place in our code. Not thread-safe."""
    before = warnings.showwarning
    warnings.showwarning = _show_warning
    try:
        yield
    finally:
        warnings.showwarning = before


def _show_warning(message: Warning | str, *_where: object, **_how: object) -> None:
    _print_line(f"ppidm: warning: {message}", "yellow")


def _print_line(text: str, style: str) -> None:
    """`text` may quote a hostile file: markup in it stays text."""
    Console(stderr=True).print(text, style=style, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def stage_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Yields a function (stage, steps done, steps in all): one bar per stage, complete when the next one begins."""
    with _progress() as progress:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                for task in progress.tasks:
                    progress.update(task.id, completed=task.total)
                tasks[stage] = progress.add_task(stage)
            progress.update(tasks[stage], completed=done, total=total)

        yield report


@contextmanager
def step_progress(description: str) -> Iterator[Callable[[int, int], None]]:
    """Yields a function (steps done, steps in all) that moves one bar."""
    with stage_progress() as report:
        yield lambda done, total: report(description, done, total)


def _progress() -> Progress:
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
