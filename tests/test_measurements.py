"""README.md and SECURITY.md say what the JSON files of `docs/measurements` say."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README, SECURITY = ((ROOT / name).read_text() for name in ("README.md", "SECURITY.md"))
LEAST_DB = {"balanced": 48.0, "fast": 36.9}
SCHEDULERS = {"DDIMScheduler": "DDIM", "EulerDiscreteScheduler": "Euler", "DPMSolverMultistepScheduler": "DPM++"}


def measured(name):
    return json.loads((ROOT / "docs" / "measurements" / f"{name}.json").read_text())


def row(name):
    """The row of README's table that names a file."""
    (line,) = [
        line for line in README.splitlines() if line.startswith("| ") and f"(docs/measurements/{name}.json)" in line
    ]
    return line.split(" | ")[1]


def least_and_medians(psnr):
    least = min(each["min"] for each in psnr.values())
    medians = sorted(each["median"] for each in psnr.values())
    middle = f"median {medians[0]:.1f} dB" if len(medians) == 1 else f"medians {medians[0]:.1f} to {medians[-1]:.1f} dB"
    return f"minimum {least:.1f} dB, {middle}"


def test_fidelity():
    found = measured("fidelity")
    assert row("fidelity").startswith(least_and_medians(found["psnr_db"]))
    assert (found["steps"], {each["pictures"] for each in found["psnr_db"].values()}) == (25, {20})


@pytest.mark.parametrize("precision", LEAST_DB)
def test_precision(precision):
    found = measured("precision")[precision]
    names = ", ".join(SCHEDULERS[name] for name in found["psnr_db"])
    assert f"`{precision}`, {names}: {least_and_medians(found['psnr_db'])}" in row("precision")
    assert min(each["min"] for each in found["psnr_db"].values()) >= LEAST_DB[precision]
    assert (found["steps"], {each["pictures"] for each in found["psnr_db"].values()}) == (25, {20})


def test_tampering():
    found = measured("tamper")
    told = f"{found['caught']:,} of {found['tampered']:,} caught"
    honest = f"{found['honest_answers']:,} honest answers"
    assert told in row("tamper")
    assert f"no false alarm in {honest}" in row("tamper")
    assert f"the check of every answer | {100 * found['check']['share']:.1f} % of the client's own time" in README
    assert f"{found['tampered']:,} tampered answers of {len(found['kinds'])} kinds" in SECURITY
    assert f"{honest} and {found['honest_disputes']:,} disputes" in " ".join(SECURITY.split())
    assert (found["caught"], found["named"], found["false_alarms"]) == (found["tampered"], found["tampered"], 0)


def test_tampering_in_other_modes():
    modes = measured("tamper")["modes"]
    told = sum(counts["tampered"] for counts in modes.values())
    for text in (row("tamper"), " ".join(SECURITY.split())):
        assert f"{told:,} lies in relay mode and about truncated answers" in text
    assert {counts["false_alarms"] for counts in modes.values()} == {0}
    assert all(counts["caught"] == counts["named"] == counts["tampered"] for counts in modes.values())


def test_audits():
    one, *_, many = measured("audits")
    expected = [round(each["formula"] * each["runs"]) for each in (one, many)]
    assert f"{one['escaped']:,} of {one['runs']:,} with one (95 % expected: {expected[0]:,})" in row("audits")
    assert f"{many['escaped']:,} with {many['altered']} ({expected[1]:,})" in row("audits")


def test_fuzzing():
    found = measured("fuzz")
    assert row("fuzz").startswith(f"{found['inputs']:,}: no crash")
    assert {each["failure"] for each in found["targets"]} == {""}


def test_attacks():
    outcomes = [each["got"] for each in measured("attacks")["attacks"]]
    assert row("attacks").startswith(f"{outcomes.count('fails')} fail, {outcomes.count('succeeds')} succeed")
