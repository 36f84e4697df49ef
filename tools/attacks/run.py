"""`make attacks`: play every numbered attack at full size; exit 1 if one went otherwise than its file expects.

python tools/attacks/run.py [--size small] [--output FILE.json] [NUMBER ...]
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from verdict import PROVES_NOTHING, Size, Verdict

FOLDER = Path(__file__).resolve().parent
FILES = sorted(FOLDER.glob("[0-9][0-9]_*.py"))


@dataclass(frozen=True)
class Line:
    """One attack and how it went."""

    attack: str
    expected: str
    got: str
    number: str
    seconds: float

    @property
    def surprising(self) -> bool:
        """Whether the file expects something else."""
        return self.got != self.expected


def play(file: Path, size: Size) -> Line:
    """Play one attack."""
    start = perf_counter()
    module = import_module(file.stem)  # their names begin with digits, so a statement cannot
    verdict: Verdict = module.run(size)
    return Line(file.stem, module.EXPECTED, verdict.outcome, verdict.number, round(perf_counter() - start, 1))


def table_of(lines: list[Line]) -> Table:
    """For people."""
    table = Table("attack", "expected", "got", "number", "s", title="attacks on ppidm")
    for line in lines:
        style = "bold red" if line.surprising else ("yellow" if line.got != "fails" else "green")
        table.add_row(line.attack, line.expected, f"[{style}]{line.got}[/]", line.number, f"{line.seconds}")
    return table


def main(
    numbers: Annotated[list[str] | None, typer.Argument(help="Only these, such as 04.")] = None,
    size: Annotated[Size, typer.Option(help="How often each is tried.")] = Size.FULL,
    output: Annotated[Path | None, typer.Option(help="JSON to write.")] = None,
) -> None:
    """Play the attacks and print the table."""
    chosen = [file for file in FILES if not numbers or file.stem[:2] in numbers]
    console, lines = Console(), []
    for index, file in enumerate(chosen):
        with console.status(f"{index + 1}/{len(chosen)} {file.stem}"):
            lines.append(play(file, size))
    console.print(table_of(lines))
    if output is not None:
        output.write_text(
            json.dumps({"size": size.value, "attacks": [asdict(line) for line in lines]}, indent=1) + "\n"
        )
    if surprises := [line for line in lines if line.surprising]:
        nothing = any(line.got == PROVES_NOTHING for line in surprises)
        console.print(
            f"[bold red]{len(surprises)} surprises[/]{' (an attack that fails everywhere is badly made)' if nothing else ''}"
        )
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
