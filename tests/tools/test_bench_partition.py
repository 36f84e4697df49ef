"""The table of where FLOPs and bytes are, as `make bench-partition` measured it, is that of the code."""

import json

import pytest
from made_models import tool

PARTITION = tool("bench_partition")
FIGURES = json.loads(PARTITION.JSON.read_text())


@pytest.mark.parametrize("name", FIGURES)
def test_the_figures_agree_with_each_other(name):
    figures = FIGURES[name]
    assert figures["conv"] + figures["linear"] + figures["client"] == pytest.approx(1, abs=2e-4)
    rows = {key: row for key, row in figures["shares"].items() if row}
    assert rows["all"]["share"] == pytest.approx(1 - figures["client"], abs=2e-4)
    assert rows["all"]["layers"] == figures["operators_on_sample"] + figures["hoisted_operators"]
    for key, row in rows.items():
        assert key == "all" or row["share"] == pytest.approx(float(key), abs=0.03)
        for column, (up, down) in PARTITION.BYTES.items():
            assert row[column] == up * row["values_up"] + down * row["values_down"]
    sizes = [row["up4_down4"] for row in rows.values()]
    assert sizes == sorted(sizes)


def test_stable_diffusion_is_what_the_literature_counts():
    figures = FIGURES["sd15"]
    assert figures["gflop"] == pytest.approx(803, abs=1)
    assert figures["shares"]["all"]["share"] >= 0.84
    assert (figures["operators_on_sample"], figures["groups_on_sample"], figures["hoisted_operators"]) == (226, 194, 56)


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_the_figures_are_those_of_the_code(name):
    assert PARTITION.measure(name) == FIGURES[name]
