"""The command line: help, refusals, exit status."""

from __future__ import annotations

import pytest
from tools.evaluate import cli
from tools.evaluate.settings import QUICK, ROOT, Settings, Size, cache_folder, settings_of
from typer.testing import CliRunner

RUN = CliRunner()


def invoke(*arguments: str):
    return RUN.invoke(cli.app, list(arguments))


def test_help_teaches():
    text = invoke("--help").output
    for piece in ("--size", "--data", "--steps", "tools.train fetch", "Exit status", "proves nothing"):
        assert piece in text


def test_without_data_it_says_how_to_get_them(tmp_path):
    result = invoke("--size", "quick", "--data", str(tmp_path), "--output", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert "python -m tools.train fetch" in " ".join(result.output.split())


def test_a_quick_run_does_not_replace_full_results(tmp_path):
    result = invoke("--size", "quick", "--data", str(tmp_path), "--output", str(ROOT / "docs" / "evaluation"))
    assert result.exit_code == 2
    assert "proves nothing" in result.output


@pytest.mark.parametrize("broken", [False, True])
def test_the_exit_status_says_whether_claims_are_met(made, tmp_path, monkeypatch, broken):
    quality = made.quality | ({"psnr": made.quality["psnr"] | {"min": 20.0}} if broken else {})
    monkeypatch.setattr(cli.Evaluation, "run", lambda _self, _progress: (quality, made.leakage))
    result = invoke("--size", "quick", "--output", str(tmp_path))
    assert result.exit_code == int(broken), result.output
    assert ("claim not met: psnr.min is 20.0 dB" in " ".join(result.output.split())) == broken


def test_steps_are_part_of_the_settings_and_of_the_cache(tmp_path):
    assert settings_of(Size.QUICK, 7).steps == 7
    assert settings_of(Size.QUICK) == QUICK
    assert settings_of(Size.FULL).pictures >= 200
    folders = {cache_folder(Size.QUICK, settings_of(Size.QUICK, steps), tmp_path) for steps in (3, 3, 4)}
    assert len(folders) == 2
    assert Settings().pooled_steps == (0, 9)
