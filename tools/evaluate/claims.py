"""What must be true of the results. An attack that fails on every build proves nothing, so they must succeed on some."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tools.evaluate.distinguisher import CHANCE
from tools.evaluate.views import BROKEN, OURS_BUILDS

if TYPE_CHECKING:
    from collections.abc import Iterator

LEAST_PSNR_DB = 50.0
MOST_ON_BROKEN_BUILDS = 0.9  # reduction


def unmet_claims(quality: dict[str, Any], leakage: dict[str, Any]) -> list[str]:
    """One sentence for each claim that the results contradict."""
    return [*_of_quality(quality), *_of_ours(leakage), *_of_broken_builds(leakage), *_of_distinguishers(leakage)]


def _of_quality(quality: dict[str, Any]) -> Iterator[str]:
    if not quality["psnr"]["min"] >= LEAST_PSNR_DB:
        yield f"psnr.min is {quality['psnr']['min']:.1f} dB; expected at least {LEAST_PSNR_DB:.0f} dB"
    kid = quality["effnet_kid"]
    if not kid["private_plain"] <= kid["floor"]:
        yield f"EffNet-KID(private, plain) is {kid['private_plain']:.4f}, above the floor {kid['floor']:.4f} of two plain sets"


def _of_ours(leakage: dict[str, Any]) -> Iterator[str]:
    least = leakage["settings"]["least_reduction"]
    for build, party, found in _each_of_ours(leakage["reduction"]):
        if not found["value"] >= least:
            yield f"reduction.{build}.{party} is {found['value']:.3f}; expected at least {least}"
        if not found["low"] <= 1 <= found["high"]:
            yield f"reduction.{build}.{party} is in [{found['low']:.3f}, {found['high']:.3f}]; expected 1 within"


def _each_of_ours(results: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for build in OURS_BUILDS:
        for party, found in results[build].items():
            yield build, party, found


def _of_broken_builds(leakage: dict[str, Any]) -> Iterator[str]:
    for build in BROKEN:
        high = leakage["reduction"][build]["evaluator"]["high"]
        if not high < MOST_ON_BROKEN_BUILDS:
            yield f"the attacks get too little from the broken build {build} (reduction up to {high:.2f}): they prove nothing"
    if leakage["reduction"]["none"]["evaluator"]["value"] != 0:
        yield "the reduction of the unprotected build is not 0"


def _of_distinguishers(leakage: dict[str, Any]) -> Iterator[str]:
    for build, party, found in _each_of_ours(leakage["distinguisher"]):
        tests = {"the whole transcript": found, "metadata": found["metadata"], **found["layers"]}
        for what, success in tests.items():
            if not success["low"] <= CHANCE <= success["high"]:
                right = f"right in {success['value']:.0%} of {success['trials']}"
                yield f"{build}: the {party} tells two prompts apart by {what}: {right}"
    for build in BROKEN:
        if not leakage["distinguisher"][build]["evaluator"]["low"] > CHANCE:
            yield f"the distinguisher fails on the broken build {build}: it proves nothing"
