"""The folder of results: JSON, pictures, plots, and a page that shows them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from tools.evaluate.attacks import ATTACKS
from tools.evaluate.leakage import best_of
from tools.evaluate.plots import plot_all
from tools.evaluate.references import COMMON
from tools.evaluate.sheets import gallery, sheet
from tools.evaluate.table import LEAKAGE, QUALITY, claims_table
from tools.evaluate.views import BUILDS, PARTIES

if TYPE_CHECKING:
    from PIL import Image
    from tools.evaluate.collection import Collection
    from tools.evaluate.leakage import Attempts
    from tools.evaluate.task import Task

_TEMPLATE = "page.md.jinja"


def write_results(folder: Path, quality: dict[str, Any], leakage: dict[str, Any]) -> None:
    """The two JSON files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in ((QUALITY, quality), (LEAKAGE, leakage)):
        (folder / name).write_text(json.dumps(content, indent=1) + "\n")


def write_pictures(folder: Path, collection: Collection, task: Task, attempts: Attempts) -> None:
    """gallery.png and reconstructions.png."""
    shown = slice(len(COMMON))
    plain, private = collection.plain()[shown], collection.private()[shown]
    gallery(collection.prompts[shown], plain, private).save(folder / "gallery.png")
    reconstructions(task, attempts).save(folder / "reconstructions.png")


def reconstructions(task: Task, attempts: Attempts, shown: int = 0) -> Image.Image:
    """The test picture number `shown`, the guess, and the evaluator's best attack on every build."""
    cells = [(task.pictures[task.test][shown], "the picture"), (task.guess, "guess without data")]
    for build in BUILDS:
        chosen = best_of(attempts, build, "evaluator")
        cells.append((chosen.pictures[shown], f"{build}\n{chosen.scores_db[shown]:.1f} dB"))
    half = (len(cells) + 1) // 2
    return sheet([cells[:half], cells[half:]])


def render(quality: dict[str, Any], leakage: dict[str, Any], prompt: str) -> str:
    """The page, Markdown.

    Args:
        quality: as in its file.
        leakage: as in its file.
        prompt: of the reconstructed picture.
    """
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, undefined=StrictUndefined, autoescape=False, trim_blocks=True)  # noqa: S701  (Markdown)
    table = claims_table(quality, leakage).replace("](docs/evaluation/", "](")
    values = {"parties": PARTIES, "attacks": tuple(ATTACKS), "table": table, "prompt": prompt}
    return environment.get_template(_TEMPLATE).render(quality=quality, leakage=leakage, **values)


def write_page(folder: Path, quality: dict[str, Any], leakage: dict[str, Any], prompt: str) -> None:
    """Plots and page."""
    plot_all(folder, quality, leakage)
    (folder / "README.md").write_text(render(quality, leakage, prompt).rstrip() + "\n")
