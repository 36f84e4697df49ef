"""`make tamper`: 100,000 tampered answers and 1,000,000 honest ones, over all slices of the shipped model; and in other modes.

An answer is what one server returns to one request for one slice: the results of all its layers. A tampered one counts as
caught if the client rejects the sum (`open_answers`), and its liar as named if the dispute (`ppidm.protocol.dispute.judge`, over
the limb products of evaluator and dealer) names that server and no other; a dispute about honest answers names nobody. Requests are
small (4 x 4 positions; one position for most honest answers), with the layers and weights of the model; answers come from the
engine of `ppidm serve`. Then the cost of the check, as a share of client time.

In relay mode, and about truncated answers, 10,000 more lies are told to ppidm's own client, by an evaluator or one of two dealers;
a liar counts as named if the client's error names that server and no other. Writes docs/measurements/tamper.json.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

sys.path.append(str(Path(__file__).resolve().parent / "tampering"))

from check_cost import share_of_check
from lies import KINDS, Lie
from relayed import PLAYED, RelayCounts, tell_all
from session import Disputed, Model

from ppidm.export.package import export_package
from ppidm.export.settings import ExportSettings
from ppidm.protocol.precision import Precision

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.progress import TaskID

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "docs" / "measurements" / "tamper.json"
DIRECT, MODES = "direct", "modes"
PER_REQUEST = 24  # lies about one honest request, so that most of the time goes into checks


@dataclass
class Counts:
    """What was told and what became of it."""

    tampered: int = 0
    caught: int = 0
    named: int = 0
    honest_answers: int = 0
    honest_layers: int = 0
    honest_rows: int = 0
    honest_disputes: int = 0
    false_alarms: int = 0

    def add_honest(self, model: Model, disputed: Disputed) -> None:
        """Check the honest answers of evaluator and dealer."""
        self.honest_answers += 2
        self.honest_layers += 2 * len(disputed.layers)
        self.honest_rows += 2 * disputed.rows
        self.false_alarms += disputed.is_rejected(model.checks(disputed.name))

    def add_honest_dispute(self, model: Model, disputed: Disputed) -> None:
        """Judge both servers, though nobody lied."""
        self.honest_disputes += 1
        self.false_alarms += bool(disputed.named(model))

    def add_lie(self, model: Model, disputed: Disputed, lie: Lie) -> None:
        """Replace one answer, check the sum, and hold the dispute."""
        self.tampered += 1
        with disputed.answering(lie.liar, lie.answer):
            self.caught += disputed.is_rejected(model.checks(disputed.name))
            self.named += disputed.named(model, lie.liar, lie.products) == {lie.liar}


@dataclass(frozen=True)
class Goal:
    """How many of each."""

    tampered: int
    honest_answers: int


def play(model: Model, goal: Goal, progress: Callable[[Counts], None]) -> tuple[Counts, Counter[str]]:
    """Go over all slices again and again until all numbers are reached."""
    rng, counts, kinds = np.random.default_rng(), Counts(), Counter[str]()
    while counts.tampered < goal.tampered:
        for name in model.names:
            disputed, other = model.ask(name, rng), model.ask(name, rng)
            for each in (disputed, other):
                counts.add_honest(model, each)
                counts.add_honest_dispute(model, each)
            for _ in range(PER_REQUEST):
                kind = list(KINDS)[kinds.total() % len(KINDS)]
                counts.add_lie(model, disputed, KINDS[kind](rng, model, disputed, other))
                kinds[kind] += 1
            progress(counts)
    while counts.honest_answers < goal.honest_answers:
        for name in model.names:
            counts.add_honest(model, model.ask(name, rng, side=1))
            progress(counts)
    return counts, kinds


def measure_direct(goal: Goal, bars: Progress) -> dict[str, Any]:
    """Whole answers in direct mode, and the cost of the check."""
    tasks = {name: bars.add_task(name, total=total) for name, total in vars(goal).items()}

    def report(counts: Counts) -> None:
        for name, task in tasks.items():
            bars.update(task, completed=getattr(counts, name))

    started = perf_counter()
    with TemporaryDirectory() as folder:
        model = Model(exported(Path(folder), Precision.EXACT))
        counts, kinds = play(model, goal, report)
        cost = share_of_check(Path(folder) / Precision.EXACT)
    seconds = round(perf_counter() - started)
    return {**vars(counts), "slices": len(model.names), "kinds": dict(kinds), "seconds": seconds, "check": cost}


def measure_modes(count: int, bars: Progress) -> dict[str, Any]:
    """Relay mode, and truncated answers."""
    task: TaskID = bars.add_task("in other modes", total=count * len(PLAYED))
    with TemporaryDirectory() as folder:
        exact, fast = (Model(exported(Path(folder), precision)) for precision in (Precision.EXACT, Precision.FAST))
        models = {Precision.EXACT: exact, Precision.BALANCED: exact, Precision.FAST: fast}
        told = tell_all(models, count, np.random.default_rng(), lambda done: bars.update(task, completed=done))
    return {MODES: {name: vars(counts) for name, counts in told.items()}}


def exported(folder: Path, precision: Precision) -> Path:
    """The shipped model."""
    export_package(ExportSettings(str(ROOT / "models" / "default"), folder / precision, precision=precision))
    return folder / precision


def is_clean(result: dict[str, Any]) -> bool:
    """Whether every lie was caught, every liar named, and nobody else."""
    modes = [RelayCounts(**counts) for counts in result.get(MODES, {}).values()]
    caught = min(result.get("caught", 0), result.get("named", 0)) >= result.get("tampered", 0)
    return caught and not result.get("false_alarms") and all(counts.is_clean for counts in modes)


def main(
    tampered: Annotated[int, typer.Option(min=1, help="Tampered answers.")] = 100_000,
    honest: Annotated[int, typer.Option(min=2, help="Honest answers.")] = 1_000_000,
    relayed: Annotated[int, typer.Option(min=1, help="Lies in each of the other modes.")] = 2_000,
    output: Annotated[Path, typer.Option(help="JSON to write.")] = RESULT,
    only: Annotated[str, typer.Option(help=f"{DIRECT} or {MODES}: only this part; the other stays as it is.")] = "",
) -> None:
    """Tell lies, and count those that pass; exit 1 if one does, or an honest server is blamed."""
    if only not in ("", DIRECT, MODES):
        raise typer.BadParameter(f"--only is {only!a}; expected {DIRECT} or {MODES}")
    os.nice(10)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console()
    result = json.loads(output.read_text()) if only and output.exists() else {}
    with Progress(*columns, console=console) as bars:
        result |= measure_direct(Goal(tampered, honest), bars) if only != MODES else {}
        result |= measure_modes(relayed, bars) if only != DIRECT else {}
    console.print_json(json.dumps(result))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=1) + "\n")
    if not is_clean(result):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
