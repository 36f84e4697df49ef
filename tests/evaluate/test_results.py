"""The whole evaluation on made-up arrays: what it finds, what it claims, the page and the table."""

from copy import deepcopy
from pathlib import Path

import pytest
from tools.evaluate.claims import unmet_claims
from tools.evaluate.page import render, write_page, write_pictures, write_results
from tools.evaluate.settings import model_digest
from tools.evaluate.table import BEGIN, END, block, block_in, claims_table, read_results, write_block
from tools.evaluate.views import BROKEN, BUILDS, PARTIES

ROOT = Path(__file__).resolve().parents[2]


def test_leaks_are_found_and_only_leaks(made):
    found = made.leakage["reduction"]
    assert set(found) == set(BUILDS)
    assert all(set(found[build]) == set(PARTIES) for build in BUILDS)
    assert {(p["value"], p["low"], p["high"]) for p in found["none"].values()} == {(0, 0, 0)}
    assert all(found[build]["evaluator"]["high"] < 0.5 for build in BROKEN)
    assert all(abs(found["ours"][party]["value"] - 1) < 0.02 for party in PARTIES)


def test_prompts_are_told_apart_on_broken_builds_only(made):
    found = made.leakage["distinguisher"]
    assert all(found[build]["evaluator"]["value"] == 1 for build in BROKEN)
    assert all(each["low"] > 0.5 for each in found["none"]["evaluator"]["layers"].values())
    assert found["ours"]["evaluator"]["low"] < 0.5 < found["ours"]["evaluator"]["high"]
    assert found["ours"]["link"]["value"] == 0.5  # the sizes are always the same


def test_quality_is_that_of_the_pictures(made):
    assert made.quality["psnr"]["min"] == pytest.approx(80, abs=0.1)
    assert made.quality["offload"]["fraction"] == pytest.approx(
        {"text_encoder": 0, "unet": 0.9, "vae_decoder": 0, "all": 0.8}
    )
    kid = made.quality["effnet_kid"]
    assert kid["private_plain"] < 0 < kid["floor"]


def test_the_claims_are_met(made):
    assert unmet_claims(made.quality, made.leakage) == []


CHANGES = {
    "psnr.min": (0, ("psnr", "min"), 49.0),
    "above the floor": (0, ("effnet_kid", "private_plain"), 1e9),
    "reduction.ours.dealer is 0.5": (1, ("reduction", "ours", "dealer", "value"), 0.5),
    "expected 1 within": (1, ("reduction", "ours", "evaluator", "high"), 0.999),
    "broken build float_1 (": (1, ("reduction", "float_1", "evaluator", "high"), 0.95),
    "reduction.ours_relay.evaluator is 0.8": (1, ("reduction", "ours_relay", "evaluator", "value"), 0.8),
    "ours_relay: the link tells two": (1, ("distinguisher", "ours_relay", "link", "metadata", "low"), 0.6),
    "unprotected build is not 0": (1, ("reduction", "none", "evaluator", "value"), 0.1),
    "apart by the whole transcript": (1, ("distinguisher", "ours", "evaluator", "low"), 0.6),
    "apart by second": (1, ("distinguisher", "ours", "evaluator", "layers", "second", "low"), 0.6),
    "link tells two prompts apart by metadata": (1, ("distinguisher", "ours", "link", "metadata", "low"), 0.6),
    "fails on the broken build reused": (1, ("distinguisher", "reused", "evaluator", "low"), 0.4),
    "psnr.min is nan": (0, ("psnr", "min"), float("nan")),
}


@pytest.mark.parametrize("message", CHANGES)
def test_a_claim_that_is_not_met_is_named(made, message):
    results = deepcopy((made.quality, made.leakage))
    which, path, value = CHANGES[message]
    place = results[which]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert any(message in claim for claim in unmet_claims(*results)), unmet_claims(*results)


def test_results_can_be_read_back(made, tmp_path):
    assert read_results(tmp_path) is None
    write_results(tmp_path, made.quality, made.leakage)
    assert read_results(tmp_path) == (made.quality, made.leakage)


def test_the_page_shows_every_number_that_it_should(made, tmp_path):
    write_pictures(tmp_path, made.collection, made.task, made.attempts)
    write_page(tmp_path, made.quality, made.leakage, "red apple, 3d style")
    page = (tmp_path / "README.md").read_text()
    for build in BUILDS:
        found = made.leakage["reduction"][build]["evaluator"]
        assert f"| {build} | {found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}] |" in page
    assert "proves nothing" in page  # it was a quick one
    assert "red apple" in page
    linked = {part.split(")")[0] for part in page.split("](")[1:]}
    assert {"gallery.png", "reconstructions.png", "reduction.png", "distinguisher.png", "psnr.png"} <= linked
    assert all((tmp_path / name).exists() for name in linked - {"quality.json", "leakage.json"})


def test_tables_of_the_page_are_tables(made):
    for paragraph in render(made.quality, made.leakage, "p").split("\n\n"):
        lines = [line for line in paragraph.splitlines() if line.startswith("|")]
        if lines:
            assert len({line.count("|") for line in lines}) == 1, paragraph
            assert lines == paragraph.strip().splitlines()
        assert "\n#" not in paragraph.strip(), paragraph


def test_the_table_holds_the_numbers(made):
    table = claims_table(made.quality, made.leakage)
    for piece in ("67 %", "80.0% of everything, 90.0% of the U-Net", "-75 %", "36.9 dB", "minimum 80.0 dB", "FID 4.56"):
        assert piece in table
    changed = deepcopy(made.quality)
    changed["psnr"]["min"] = 61.23
    assert "minimum 61.2 dB" in claims_table(changed, made.leakage)


def test_the_block_is_replaced_and_nothing_else(made, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_block(readme, made.quality, made.leakage)
    text = readme.read_text()
    assert (text.startswith("before\n"), text.endswith("\nafter\n")) == (True, True)
    assert block_in(text) == block(made.quality, made.leakage)
    with pytest.raises(ValueError, match="once"):
        block_in("no markers")


def test_the_readme_shows_the_results_of_the_repository():
    results = read_results(ROOT / "docs" / "evaluation")
    expected = "" if results is None else block(*results)
    assert block_in((ROOT / "README.md").read_text()) == expected


def test_the_repository_holds_only_full_results_of_its_own_model_that_meet_the_claims():
    results = read_results(ROOT / "docs" / "evaluation")
    for each in results or ():
        assert (each["size"], each["model"]) == ("full", model_digest())
    assert results is None or unmet_claims(*results) == []
