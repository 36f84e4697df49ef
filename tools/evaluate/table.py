"""The paper's claims beside ours: a table in README.md, between markers, made from the results."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

QUALITY, LEAKAGE = "quality.json", "leakage.json"
BEGIN, END = "<!-- evaluation:begin -->", "<!-- evaluation:end -->"
_WHERE = "docs/evaluation"


def read_results(folder: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Quality and leakage; None if nothing was measured."""
    paths = [folder / name for name in (QUALITY, LEAKAGE)]
    if not all(path.exists() for path in paths):
        return None
    quality, leakage = (json.loads(path.read_text()) for path in paths)
    return quality, leakage


def claims_table(quality: dict[str, Any], leakage: dict[str, Any]) -> str:
    """Markdown; the numbers are those of the results, rounded."""
    offload, psnr, ours = quality["offload"]["fraction"], quality["psnr"], leakage["reduction"]["ours"]
    kid, frechet = quality["effnet_kid"], quality["effnet_frechet_distance"]
    relay = leakage["reduction"]["ours_relay"]
    apart, relay_apart = (leakage["distinguisher"][build]["evaluator"] for build in ("ours", "ours_relay"))
    rows = [
        (
            "computation offloaded",
            "67 %",
            f"{offload['all']:.1%} of everything, {offload['unet']:.1%} of the U-Net",
            QUALITY,
        ),
        ("leakage of the image", "-75 %", _reduction(ours), LEAKAGE),
        ("the same in relay mode, with truncated answers and audits", "", _reduction(relay), LEAKAGE),
        ("two prompts told apart by the evaluator", "", f"{_success(apart)}; relay: {_success(relay_apart)}", LEAKAGE),
        (
            "PSNR against the standard output",
            "36.9 dB",
            f"minimum {psnr['min']:.1f} dB, mean {psnr['mean']:.1f} dB",
            QUALITY,
        ),
        ("distance to the standard outputs", "FID 4.56", _distance("EffNet Fréchet distance", frechet), QUALITY),
        ("the same by kernel", "", _distance("EffNet-KID", kid), QUALITY),
    ]
    size = " --size quick" if quality["size"] == "quick" else ""
    command = f"`python -m tools.evaluate{size}`"
    lines = [
        f"| {what} | {paper} | {measured} | {command}, [{file}]({_WHERE}/{file}) |"
        for what, paper, measured, file in rows
    ]
    return "\n".join(["| claim | PPIDM, abstract | ppidm, measured | by |", "|---|---|---|---|", *lines])


def _reduction(ours: dict[str, Any]) -> str:
    def one(party: str) -> str:
        found = ours[party]
        return f"{party} -{found['value']:.1%} [{found['low']:.1%}, {found['high']:.1%}]"

    return ", ".join(one(party) for party in ours)


def _success(found: dict[str, Any]) -> str:
    return f"{found['value']:.0%} of {found['trials']} right [{found['low']:.0%}, {found['high']:.0%}], a coin: 50 %"


def _distance(name: str, found: dict[str, float]) -> str:
    return f"{name} {found['private_plain']:.4f} (two plain sets: {found['floor']:.4f})"


def block(quality: dict[str, Any], leakage: dict[str, Any]) -> str:
    """What stands between the markers."""
    count, steps = quality["pictures"], quality["settings"]["steps"]
    gallery = f"![plain pictures above, private ones below]({_WHERE}/gallery.png)"
    details = f"[{count} prompts, {steps} steps]({_WHERE}/README.md)"
    below = f"*Above: by plain Stable Diffusion. Below: the same, drawn privately. {details}*"
    return f"{claims_table(quality, leakage)}\n\n{gallery}\n\n{below}"


def block_in(readme: str) -> str:
    """What stands there now.

    Raises:
        ValueError: the markers are missing, or there more than once.
    """
    if readme.count(BEGIN) != 1 or readme.count(END) != 1:
        raise ValueError(f"expected {BEGIN} and {END} once each")
    return readme.split(BEGIN)[1].split(END, maxsplit=1)[0].strip()


def write_block(readme: Path, quality: dict[str, Any], leakage: dict[str, Any]) -> None:
    """Replace it."""
    text = readme.read_text()
    block_in(text)
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    readme.write_text(f"{before}{BEGIN}\n{block(quality, leakage)}\n{END}{after}")
