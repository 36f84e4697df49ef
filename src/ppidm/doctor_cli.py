"""`ppidm doctor`: prints what `engines.doctor` finds."""

from __future__ import annotations

import typer

from ppidm.options import Cache, import_late


def doctor(cache: Cache = None) -> None:
    """Tell what this machine has, and which engines run on it.

    [cyan]ppidm doctor[/]

    For each engine of `ppidm serve --engine`: whether it runs here, and if not,
    why, and what to install.
    """
    found = import_late("ppidm.engines.doctor", "").examine(cache)
    for name, value in found.parts.items():
        typer.echo(f"{name:<16} {value}")
    typer.echo()
    for verdict in found.verdicts:
        state = "runs" if verdict.runs else "compiles only" if verdict.compiles else "does not run"
        typer.echo(f"{verdict.engine:<16} {state}: {verdict.told}")
