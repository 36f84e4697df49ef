"""`make audits` at a small size, and what it measured at full size."""

import json
import sys
from importlib import import_module
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"
MEASURED = TOOLS.parent / "docs" / "measurements" / "audits.json"
sys.path.append(str(TOOLS))
DEVIATIONS = 6  # a Gaussian leaves them with probability 2e-9


@pytest.mark.parametrize(("altered", "share"), [(1, 0.5), (3, 0.25)])
def test_the_formula_at_a_small_size(altered, share):
    line = import_module("audits").measure(altered, share, 80)
    assert line.formula == (1 - share) ** altered
    assert line.deviations < DEVIATIONS
    assert 0 < line.escaped < line.runs


@pytest.mark.parametrize(("share", "escaped"), [(0.0, 10), (1.0, 0)])
def test_all_or_nothing(share, escaped):
    assert import_module("audits").measure(2, share, 10).escaped == escaped


def test_what_was_measured():
    lines = [import_module("audits").Line(**line) for line in json.loads(MEASURED.read_text())]
    assert sum(line.runs for line in lines) >= 10_000
    assert {line.share for line in lines} == {0.05}
    assert max(line.deviations for line in lines) < DEVIATIONS
