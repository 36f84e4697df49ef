"""A small evaluation on made-up pictures: its unprotected view leaks them, the view of ours is noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from made_evaluation import made_collection
from tools.evaluate.leakage import attack_all, measure_leakage
from tools.evaluate.quality import measure_quality
from tools.evaluate.settings import Settings, Size, circumstances

if TYPE_CHECKING:
    from tools.evaluate.collection import Collection
    from tools.evaluate.leakage import Attempts
    from tools.evaluate.task import Task


@dataclass
class Made:
    collection: Collection
    task: Task
    attempts: Attempts
    quality: dict[str, Any]
    leakage: dict[str, Any]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The whole evaluation on made-up arrays. Do not change it."""
    settings = Settings(pictures=60, transcripts=40, updates=20, resamples=500, least_reduction=0.9)
    collection = made_collection(tmp_path_factory.mktemp("cache"), settings)
    task, attempts = attack_all(collection, lambda *_: None)
    about = circumstances(Size.QUICK, settings, 1.0)
    quality = about | measure_quality(collection, lambda *_: None)
    leakage = about | measure_leakage(collection, task, attempts, lambda *_: None)
    return Made(collection, task, attempts, quality, leakage)
