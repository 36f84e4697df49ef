"""Progress, warnings and errors on the screen."""

import warnings
from functools import partial
from io import StringIO

import pytest
from rich.console import Console

from ppidm import console


@pytest.fixture(params=[True, False], ids=["terminal", "pipe"])
def screen(request, monkeypatch):
    """What is shown; empty but for messages if it is no terminal."""
    shown = StringIO()
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(
        console, "Console", lambda **_: partial(Console, force_terminal=request.param, file=shown, width=300)()
    )
    shown.is_terminal = request.param
    return shown


def test_progress_by_stages(screen):
    with console.stage_progress() as report:
        report("tracing", 0, 1)
        report("writing slices", 0, 96)
        report("writing slices", 95, 96)
    shown = screen.getvalue()
    if screen.is_terminal:
        assert "tracing" in shown
        assert "1/1" in shown  # complete, since another stage has begun
        assert "writing slices" in shown
        assert "95/96" in shown
    else:
        assert shown == ""


def test_progress_by_steps(screen):
    with console.step_progress("drawing") as report:
        report(3, 50)
    assert ("3/50" in screen.getvalue()) is screen.is_terminal
    assert ("drawing" in screen.getvalue()) is screen.is_terminal


def test_an_error_is_one_line_and_no_markup(screen):
    console.print_error("[red]file[/red]: first\n  second " + "x" * 400)
    assert "ppidm: [red]file[/red]: first second xxx" in screen.getvalue()
    assert len(screen.getvalue().splitlines()) == 1
    assert ("\x1b" in screen.getvalue()) is screen.is_terminal


def test_warnings_are_messages_within_the_block_only(screen):
    before = warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with console.warnings_on_stderr():
            warnings.warn("a prompt was truncated", stacklevel=1)
        assert warnings.showwarning is before
    assert "ppidm: warning: a prompt was truncated" in screen.getvalue()
    assert "test_console" not in screen.getvalue()
