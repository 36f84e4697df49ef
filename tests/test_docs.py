"""The documents name functions, files and commands that exist."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ("README.md", "PROTOCOL.md", "SECURITY.md")


def resolve(dotted: str) -> object:
    """The object that a dotted name stands for."""
    parts = dotted.split(".")
    for split in range(len(parts), 0, -1):
        try:
            found: object = import_module(".".join(parts[:split]))
        except ModuleNotFoundError:
            continue
        for name in parts[split:]:
            found = getattr(found, name)
        return found
    raise LookupError(dotted)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_named_functions_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    for dotted in re.findall(r"`(ppidm(?:\.\w+)+)`", text):
        assert resolve(dotted) is not None, dotted


def test_every_formula_of_the_protocol_names_a_function() -> None:
    for section in re.split(r"\n## ", (ROOT / "PROTOCOL.md").read_text())[1:]:
        assert re.search(r"`ppidm\.\w+\.\w+", section), section.splitlines()[0]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_named_files_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    for path in re.findall(r"`((?:tests|tools|docs|models|export|engines|runtime|client|protocol)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path


def test_an_invented_name_is_noticed() -> None:
    with pytest.raises((AttributeError, LookupError)):
        resolve("ppidm.protocol.masks.Mask.reveal_everything")


@pytest.mark.parametrize(("model", "shown"), [("default", "shipped"), ("sd15", "sd15, 512 x 512")])
def test_figures_of_engines(model: str, shown: str) -> None:
    """README's row of a model is what was measured, and all of its slices compile."""
    found = json.loads((ROOT / "docs" / "measurements" / "engines.json").read_text())["models"][model]
    cells = [
        f"{found['plans']} of {found['slices']} compiled",
        *(size(found[name]) for name in ("weights_on_gpu_bytes", "plan_bytes")),
        f"{found['cpu_seconds']:.0f}",
        f"{found['peak_memory_bytes'] / 1e9:.2g} GB",
    ]
    assert f"\n| {shown} | {' | '.join(cells)} |\n" in (ROOT / "README.md").read_text()
    assert found["plans"] == found["slices"] == found["proved"]
    assert found["failures"] == []


def size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
