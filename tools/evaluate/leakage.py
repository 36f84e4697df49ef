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
from tools.evaluate.views import BUILDS, PARTIES, RELAY_SIZES, RELAY_VIEWS, SIZES, VIEWS, held_views

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from tools.evaluate.collection import Collection

    Floats = NDArray[np.float32]
    Progress = Callable[[str, int, int], None]
    Attempts = dict[str, list[Attempt]]

ATTACKED = (*VIEWS, SIZES, *RELAY_VIEWS, RELAY_SIZES)
BARE = (SIZES, RELAY_SIZES)  # views of numbers and sizes alone
NO_PROTECTION = ("none", "evaluator")  # the attack that reductions are measured against


def attack_all(collection: Collection, progress: Progress) -> tuple[Task, Attempts]:
    """Every attack on every view."""
    task = Task.split(collection.private(), collection.settings.updates)
    attempts: Attempts = {}
    for done, view in enumerate(ATTACKED):
        progress("attacks on pictures", done, len(ATTACKED))
        attempts[view] = _attack(collection, view, _task_of(view, task, collection))
    return task, attempts


def _task_of(view: str, task: Task, collection: Collection) -> Task:
    """In relay mode fewer pictures are drawn, the first ones; tens of them keep their parts."""
    count = collection.settings.relayed
    if view not in (*RELAY_VIEWS, RELAY_SIZES) or count >= len(task.pictures):
        return task
    return Task.split(task.pictures[:count], task.updates)


def _attack(collection: Collection, view: str, task: Task) -> list[Attempt]:
    names = ("metadata",) if view in BARE else tuple(ATTACKS)

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
    summaries = {
        view: {each.attack: each.summary(_task_of(view, task, collection)) for each in tried}
        for view, tried in attempts.items()
    }
    return {
        "pictures": {"train": len(task.train), "validation": len(task.validation), "test": len(task.test)},
        "relay": {
            "pictures": len(collection.relayed(collection.pictures)),
            "transcripts": len(collection.relayed(collection.transcripts)),
        },
        "guess": {"psnr_db": float(psnr_db(guess, truth).mean()), "ssim": float(ssim(guess, truth).mean())},
        "attacks": summaries,
        "reduction": _reductions(attempts, task, collection),
        "distinguisher": _distinguishers(collection, progress),
    }


def _reductions(attempts: Attempts, task: Task, collection: Collection) -> dict[str, Any]:
    unprotected = best_of(attempts, *NO_PROTECTION).scores_db
    family, resamples = (len(BUILDS) - 1) * len(PARTIES), collection.settings.resamples  # the unprotected one is 0

    def one(build: str, party: str) -> dict[str, Any]:
        chosen = best_of(attempts, build, party)
        guess = _guess_db(_task_of(chosen.view, task, collection))
        least = unprotected[: len(guess)]  # the first pictures of the test set are those of the smaller one
        found: Reduction = reduction(chosen.scores_db, guess, least, family=family, resamples=resamples)
        return {
            **asdict(found),
            "view": chosen.view,
            "attack": chosen.attack,
            "psnr_db": float(chosen.scores_db.mean()),
        }

    return {build: {party: one(build, party) for party in PARTIES} for build in BUILDS}


def _guess_db(task: Task) -> NDArray[np.float64]:
    truth = task.pictures[task.test]
    return psnr_db(np.broadcast_to(task.guess, truth.shape), truth)


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
    if held[0] in BARE:
        return {**asdict(metadata), "metadata": asdict(metadata), "layers": {}}
    everything = [part.reshape(len(part), -1) for view in views for part in (view.maps, view.pooled)]
    split = [collection.layers(name, view.pooled) for name, view in zip(held, views, strict=True)]
    layers = distinguish_layers({name: np.concatenate([each[name] for each in split], axis=1) for name in split[0]})
    return {
        **asdict(distinguish(np.concatenate(everything, axis=1))),
        "metadata": asdict(metadata),
        "layers": {name: asdict(success) for name, success in layers.items()},
    }
