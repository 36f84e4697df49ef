"""Every attack of `tools/attacks` goes as its file says, and each that fails against ppidm succeeds against a weak build."""

import ast
import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ATTACKS = Path(__file__).resolve().parents[2] / "tools" / "attacks"

FILES = sorted(ATTACKS.glob("[0-9][0-9]_*.py"))
SECURITY = ATTACKS.parents[1] / "SECURITY.md"
MEASURED = ATTACKS.parents[1] / "docs" / "measurements" / "attacks.json"


def test_they_are_numbered_without_gaps():
    assert [int(file.stem[:2]) for file in FILES] == list(range(1, len(FILES) + 1))
    assert len(FILES) >= 19


@pytest.mark.usefixtures("shipped")
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_goes_as_expected(file):
    attack, size = import_module(file.stem), import_module("verdict").Size.SMALL
    verdict = attack.run(size)
    assert verdict.outcome == attack.EXPECTED, verdict
    assert re.search(r"\d", verdict.number)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_security_md_states_the_verdict(file):
    expected = import_module(file.stem).EXPECTED
    (line,) = [line for line in SECURITY.read_text().splitlines() if line.startswith(f"| `{file.stem}`")]
    verdict, number = (cell.strip() for cell in line.split("|")[3:5])
    assert verdict.strip("*") == expected
    (measured,) = [each for each in json.loads(MEASURED.read_text())["attacks"] if each["attack"] == file.stem]
    assert (measured["got"], measured["number"]) == (expected, number)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_its_docstring_says_who_attacks_how(file):
    text = " ".join(ast.get_docstring(ast.parse(file.read_text())).split())
    assert {"Has:", "Tries:"} <= set(text.split(" "))
    assert ("Weak build:" in text) != ("Expected to succeed" in text)


@pytest.mark.parametrize(
    ("succeeded", "weak", "outcome"),
    [(True, True, "succeeds"), (True, None, "succeeds"), (False, True, "fails"), (False, False, "proves nothing")],
)
def test_an_attack_that_fails_everywhere_proves_nothing(succeeded, weak, outcome):
    assert import_module("verdict").Verdict(succeeded, "1", weak).outcome == outcome


@pytest.mark.parametrize("expected", ["fails", "succeeds"])
def test_the_runner_exits_1_on_a_surprise(tmp_path, expected):
    for name in ("run.py", "verdict.py"):
        (tmp_path / name).write_text((ATTACKS / name).read_text())
    attack = f"from verdict import Verdict\nEXPECTED = {expected!r}\ndef run(size): return Verdict(False, size.value, True)\n"
    (tmp_path / "01_made_up.py").write_text(attack)
    command = [sys.executable, str(tmp_path / "run.py"), "--size", "small", "--output", str(tmp_path / "out.json")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == (0 if expected == "fails" else 1), run.stderr
    assert "01_made_up" in run.stdout
    assert '"number": "small"' in (tmp_path / "out.json").read_text()
