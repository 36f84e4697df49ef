"""Plots of the results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from tools.evaluate.distinguisher import CHANCE

mpl.use("Agg")
from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from matplotlib.axes import Axes

PAPER_REDUCTION, PAPER_DB = 0.75, 36.9
_GREY = "#999999"


def plot_all(folder: Path, quality: dict[str, Any], leakage: dict[str, Any]) -> None:
    """Write reduction.png, distinguisher.png and psnr.png."""
    _save(folder / "reduction.png", lambda axes: _reductions(axes, leakage["reduction"]))
    _save(folder / "distinguisher.png", lambda axes: _layers(axes, leakage["distinguisher"]))
    _save(folder / "psnr.png", lambda axes: _psnr(axes, quality["psnr"]["each"]))


def _save(path: Path, draw: Callable[[Axes], None]) -> None:
    figure, axes = plt.subplots(figsize=(8, 4), dpi=100, layout="constrained")
    draw(axes)
    figure.savefig(path)
    plt.close(figure)


def _reductions(axes: Axes, reduction: dict[str, Any]) -> None:
    builds = list(reduction)
    for shift, party in enumerate(reduction["ours"], -1):
        found = [reduction[build][party] for build in builds]
        values = np.array([each["value"] for each in found])
        errors = [values - [each["low"] for each in found], [each["high"] for each in found] - values]
        axes.errorbar(np.arange(len(builds)) + shift / 6, values, np.abs(errors), fmt="o", capsize=3, label=party)
    axes.axhline(PAPER_REDUCTION, color=_GREY, linestyle="--", label="PPIDM's claim")
    axes.set_xticks(range(len(builds)), builds)
    axes.set(ylabel="reduction of leakage", title="1: the best attack is no better than the mean picture")
    axes.legend()


def _layers(axes: Axes, distinguisher: dict[str, Any]) -> None:
    for build, found in distinguisher.items():
        layers = list(found["evaluator"]["layers"].values())
        axes.plot([each["value"] for each in layers], ".", markersize=9 if build == "ours" else 4, label=build)
    ours = list(distinguisher["ours"]["evaluator"]["layers"].values())
    half = (ours[0]["high"] - ours[0]["low"]) / 2
    axes.axhspan(CHANCE - half, CHANCE + half, color=_GREY, alpha=0.2, label="chance")
    axes.set(xlabel="slice", ylabel="prompts told apart", title="evaluator, one slice at a time", ylim=(0, 1.05))
    axes.legend(ncols=2, fontsize="small")


def _psnr(axes: Axes, values: list[float]) -> None:
    axes.hist(values, bins=30)
    axes.axvline(PAPER_DB, color=_GREY, linestyle="--", label="PPIDM's claim")
    axes.set(xlabel="PSNR against diffusers in float32, dB", ylabel="pictures", title="private pictures")
    axes.legend()
