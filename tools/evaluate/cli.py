"""The command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: TC003  (typer reads it at run time)
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markdown import Markdown
from tools.evaluate.settings import DATA, ROOT, Settings, Size, cache_folder, circumstances, settings_of
from tools.evaluate.table import claims_table, read_results, write_block

from ppidm.console import print_error, stage_progress
from ppidm.protocol.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    Progress = Callable[[str, int, int], None]

RESULTS, README = ROOT / "docs" / "evaluation", ROOT / "README.md"
QUICK_RESULTS = ROOT / "build" / "evaluate-quick"
HELP = """Measure quality and leakage of private pictures, and hold them against the claims of the PPIDM paper.

Exports models/default, starts an evaluator and a dealer, draws the pictures privately and by plain diffusers from the
same latents, and lets attackers loose on what each party received: with no protection, with float masks, with a reused
mask, and with ours, in direct mode and in relay mode.

\b
    python -m tools.evaluate --size quick     minutes; into build/evaluate-quick; proves nothing
    python -m tools.evaluate                  40 minutes on 2 cores; docs/evaluation, README.md
    python -m tools.evaluate --table-only     the table of README.md again, from docs/evaluation

The data come from `python -m tools.train fetch`. What was drawn is kept in build/evaluate: stop whenever you like, and go on later.

\b
Exit status:
    0    every claim is met
    1    a claim is not met, and named; results are written all the same
    2    usage, or no data"""

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Evaluation:
    """What to evaluate, and where the results go."""

    size: Size
    settings: Settings
    data: Path
    output: Path

    def run(self, progress: Progress) -> tuple[dict[str, Any], dict[str, Any]]:
        """Draw, measure, attack, write. Returns quality and leakage.

        Raises:
            InputError: the data are not there.
        """
        from tools.evaluate.cache import Cache  # noqa: PLC0415  (torch takes seconds; --help need not wait)
        from tools.evaluate.collection import Collection  # noqa: PLC0415
        from tools.evaluate.leakage import attack_all, measure_leakage  # noqa: PLC0415
        from tools.evaluate.page import write_page, write_pictures, write_results  # noqa: PLC0415
        from tools.evaluate.quality import measure_quality  # noqa: PLC0415
        from tools.evaluate.references import choose, reference_pictures  # noqa: PLC0415

        references = choose(reference_pictures(self.data), self.settings.pictures)
        folder = cache_folder(self.size, self.settings, self.data)
        collection = Collection(Cache(folder), self.settings, references)
        with collection.cache.sitting() as seconds:
            collection.draw(folder, progress)
            quality = measure_quality(collection, progress)
            task, attempts = attack_all(collection, progress)
            leakage = measure_leakage(collection, task, attempts, progress)
            about = circumstances(self.size, self.settings, seconds())
        quality, leakage = about | quality, about | leakage
        write_results(self.output, quality, leakage)
        write_pictures(self.output, collection, task, attempts)
        write_page(self.output, quality, leakage, collection.prompts[task.test[0]])
        return quality, leakage


@app.command(help=HELP)
def evaluate(
    size: Annotated[Size, typer.Option(help="How much to draw.")] = Size.FULL,
    data: Annotated[Path, typer.Option(help="Where `python -m tools.train fetch` put the data.")] = DATA,
    steps: Annotated[int | None, typer.Option(min=2, max=100, help="Of DDIM; by default what the size says.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the results; by default what the size says.")] = None,
    table_only: Annotated[bool, typer.Option("--table-only", help="Only make README.md's table again.")] = False,  # noqa: FBT002
) -> None:
    """See `HELP`."""
    if table_only:
        _write_table()
        return
    chosen = Evaluation(
        size, settings_of(size, steps), data, output or (RESULTS if size is Size.FULL else QUICK_RESULTS)
    )
    if size is Size.QUICK and chosen.output.resolve() == RESULTS:
        raise typer.BadParameter("a quick run proves nothing; expected another --output than docs/evaluation")
    results = _run(chosen)
    if chosen.output.resolve() == RESULTS:
        write_block(README, *results)
    _conclude(*results, chosen.output)


def _write_table() -> None:
    results = read_results(RESULTS)
    if results is None:
        raise typer.BadParameter(f"nothing in {RESULTS}; run `make evaluate` first")
    write_block(README, *results)


def _run(chosen: Evaluation) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        with stage_progress() as progress:
            return chosen.run(progress)
    except InputError as error:
        print_error(str(error))
        raise typer.Exit(2) from None


def _conclude(quality: dict[str, Any], leakage: dict[str, Any], output: Path) -> None:
    from tools.evaluate.claims import unmet_claims  # noqa: PLC0415

    Console().print(Markdown(claims_table(quality, leakage)))
    Console().print(f"results: {output}/README.md", soft_wrap=True)
    if unmet := unmet_claims(quality, leakage):
        for claim in unmet:
            print_error(f"claim not met: {claim}")
        raise typer.Exit(1)


def main() -> None:
    """Run."""
    app()
