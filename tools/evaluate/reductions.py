"""How much of the leakage a build takes away: 1 - (attack - guess) / (unprotected - guess), in dB of PSNR.

The guess is the mean picture. Every choice (how far to trust an attack, and which attack) is made on the validation set,
every score is of the test set: the best of several attacks on one set would always beat the guess a little.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from tools.evaluate.similarity import psnr_db, ssim

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from tools.evaluate.task import Task

    Floats = NDArray[np.float32]
    Scores = NDArray[np.float64]

SAME_DB = 1e-9  # scores that differ by less are equal but for rounding
CONFIDENCE = 0.95  # that all intervals of an evaluation hold together
_DOUBT = 2.0
_ROUNDING = 1e-9  # predictions below this share of the truth's energy are rounding errors


@dataclass(frozen=True, repr=False)
class Attempt:
    """What an attack got out of a view.

    Attributes:
        view: name.
        attack: name.
        trust: how far it follows its prediction away from the mean picture, 0 to 1, as the validation set advises.
        pictures: of the test set.
        validation_db: mean PSNR on the validation set, by which attempts are chosen.
        scores_db: PSNR of every picture of the test set.
    """

    view: str
    attack: str
    trust: float
    pictures: Floats
    validation_db: float
    scores_db: Scores

    def summary(self, task: Task) -> dict[str, float]:
        """On the test set."""
        similarity = ssim(self.pictures, task.pictures[task.test])
        return {"psnr_db": float(self.scores_db.mean()), "ssim": float(similarity.mean()), "trust": self.trust}


def attempt(view: str, attack: str, predicted: Floats, task: Task) -> Attempt:
    """Judge the predictions of an attack.

    Args:
        view: name.
        attack: name.
        predicted: deviations from the mean picture, for all pictures.
        task: the truth.
    """
    trust = _trust(predicted[task.validation], task.residuals[task.validation])
    guessed = np.clip(task.guess + np.float32(trust) * predicted, 0, 1)
    scores = psnr_db(guessed, task.pictures)
    validation_db = float(scores[task.validation].mean())
    return Attempt(view, attack, trust, guessed[task.test], validation_db, scores[task.test])


def _trust(predicted: Floats, truth: Floats) -> float:
    """The factor of least squared error, less `_DOUBT` of its standard errors: as far as an attacker can be sure.

    One who has learnt nothing stays with the mean picture. The plain factor is an unsure attacker's: made of noise, and the
    best of several, it makes guesses that are a little worse than the mean picture for sure.
    """
    energy = np.square(predicted, dtype=np.float64).sum(axis=(1, 2, 3))
    agreement = (predicted * truth).sum(axis=(1, 2, 3), dtype=np.float64)
    if energy.sum() <= _ROUNDING * np.square(truth).sum():
        return 0.0
    factor = agreement.sum() / energy.sum()
    error = np.sqrt(len(energy)) * (agreement - factor * energy).std(ddof=1) / energy.sum()  # of a ratio of sums
    return float(np.clip(factor - _DOUBT * error, 0, 1))


def best(attempts: Sequence[Attempt]) -> Attempt:
    """Which of them an attacker would use."""
    return max(attempts, key=lambda each: each.validation_db)


@dataclass(frozen=True)
class Reduction:
    """A share of the leakage that is gone, within [low, high]. 0 is no protection, 1 is none left."""

    value: float
    low: float
    high: float


def _gain(attack: Scores, guess: Scores) -> Scores:
    """What an attack wins over the guess; one that is the guess wins nothing, whatever order its sums were made in."""
    gained = attack - guess
    return np.where(np.abs(gained) < SAME_DB, 0.0, gained)


def reduction(attack: Scores, guess: Scores, unprotected: Scores, *, family: int, resamples: int) -> Reduction:
    """With a bootstrap interval over pictures.

    Args:
        attack: PSNR of every test picture.
        guess: of the mean picture.
        unprotected: of the best attack without protection.
        family: how many intervals shall hold together (Bonferroni).
        resamples: of the bootstrap.
    """
    chosen = np.random.default_rng(0).integers(len(attack), size=(resamples, len(attack)))
    gained, possible = _gain(attack, guess), unprotected - guess
    samples = 1 - gained[chosen].mean(axis=1) / possible[chosen].mean(axis=1)
    tail = (1 - CONFIDENCE) / family / 2
    low, high = np.quantile(samples, [tail, 1 - tail])
    return Reduction(float(1 - gained.mean() / possible.mean()), float(low), float(high))
