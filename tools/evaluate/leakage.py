"""leakage.json: what each party gets to know of the picture, and of the prompt, on every build."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from tools.evaluate.attacks import ATTACKS
from tools.evaluate.distinguisher import distinguish, distinguish_layers
from tools.evaluate.reductions import Attempt, Reduction, attempt, best, reduction
from tools.evaluate.settings import code_digest
from tools.evaluate.similarity import psnr_db, ssim
from tools.evaluate.task import Task
from tools.evaluate.views import BUILDS, PARTIES, SIZES, VIEWS, held_views

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from tools.evaluate.collection import Collection

    Floats = NDArray[np.float32]
    Progress = Callable[[str, int, int], None]
    Attempts = dict[str, list[Attempt]]

NO_PROTECTION = ("none", "evaluator")  # the attack that reductions are measured against


def attack_all(collection: Collection, progress: Progress) -> tuple[Task, Attempts]:
    """Every attack on every view."""
    task = Task.split(collection.private(), collection.settings.updates)
    attempts: Attempts = {}
    for done, view in enumerate((*VIEWS, SIZES)):
        progress("attacks on pictures", done, len(VIEWS) + 1)
        attempts[view] = _attack(collection, view, task)
    return task, attempts


def _attack(collection: Collection, view: str, task: Task) -> list[Attempt]:
    names = ("metadata",) if view == SIZES else tuple(ATTACKS)

    def predict() -> dict[str, Floats]:
        held = collection.view(collection.pictures, view)
        return {name: ATTACKS[name](held, task) for name in names}

    predicted = collection.cache.get(f"attacks-{code_digest('task', 'ridge', 'inversion', 'attacks')}/{view}", predict)
    return [attempt(view, name, predicted[name], task) for name in names]


def best_of(attempts: Attempts, build: str, party: str) -> Attempt:
    """What a party would try on a build."""
    return best([each for view in held_views(build, party) for each in attempts[view]])


def measure_leakage(collection: Collection, task: Task, attempts: Attempts, progress: Progress) -> dict[str, Any]:
    """Everything but the circumstances."""
    truth = task.pictures[task.test]
    guess = np.broadcast_to(task.guess, truth.shape)
    return {
        "pictures": {"train": len(task.train), "validation": len(task.validation), "test": len(task.test)},
        "guess": {"psnr_db": float(psnr_db(guess, truth).mean()), "ssim": float(ssim(guess, truth).mean())},
        "attacks": {view: {each.attack: each.summary(task) for each in tried} for view, tried in attempts.items()},
        "reduction": _reductions(attempts, psnr_db(guess, truth), collection.settings.resamples),
        "distinguisher": _distinguishers(collection, progress),
    }


def _reductions(attempts: Attempts, guess: NDArray[np.float64], resamples: int) -> dict[str, Any]:
    unprotected = best_of(attempts, *NO_PROTECTION).scores_db

    def one(build: str, party: str) -> dict[str, Any]:
        chosen = best_of(attempts, build, party)
        family = (len(BUILDS) - 1) * len(PARTIES)  # the unprotected one is 0 by definition
        found: Reduction = reduction(chosen.scores_db, guess, unprotected, family=family, resamples=resamples)
        return {
            **asdict(found),
            "view": chosen.view,
            "attack": chosen.attack,
            "psnr_db": float(chosen.scores_db.mean()),
        }

    return {build: {party: one(build, party) for party in PARTIES} for build in BUILDS}


def _distinguishers(collection: Collection, progress: Progress) -> dict[str, Any]:
    cached: dict[tuple[str, ...], dict[str, Any]] = {}
    pairs = [(build, party) for build in BUILDS for party in PARTIES]
    for done, pair in enumerate(pairs):
        progress("distinguishers", done, len(pairs))
        held = held_views(*pair)
        cached[held] = cached.get(held) or _distinguish(collection, held)
    return {build: {party: cached[held_views(build, party)] for party in PARTIES} for build in BUILDS}


def _distinguish(collection: Collection, held: tuple[str, ...]) -> dict[str, Any]:
    """By the whole transcript; by every slice; by numbers and sizes of messages."""
    views = [collection.view(collection.transcripts, view) for view in held]
    metadata = distinguish(views[0].sizes)
    if held == (SIZES,):
        return {**asdict(metadata), "metadata": asdict(metadata), "layers": {}}
    everything = [part.reshape(len(part), -1) for view in views for part in (view.maps, view.pooled)]
    split = [collection.layers(view.pooled) for view in views]
    layers = distinguish_layers({name: np.concatenate([each[name] for each in split], axis=1) for name in split[0]})
    return {
        **asdict(distinguish(np.concatenate(everything, axis=1))),
        "metadata": asdict(metadata),
        "layers": {name: asdict(success) for name, success in layers.items()},
    }
