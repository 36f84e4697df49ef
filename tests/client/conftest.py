"""A pipeline whose servers are tapped, and pictures of it."""

from __future__ import annotations

import random
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from wiretap import Recording, Wiretap

from ppidm.client.pipeline import PrivateStableDiffusionPipeline as Pipeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

PICTURE = {"prompt": "red apple", "num_inference_steps": 2, "generator": 11, "output_type": "latent"}


@pytest.fixture(scope="session")
def taps(servers: list[str]) -> Iterator[list[Wiretap]]:
    """One on each of the three servers."""
    with ExitStack() as stack:
        yield [stack.enter_context(Wiretap(address)) for address in servers]


@pytest.fixture(scope="session")
def connected(package: Path, taps: list[Wiretap]) -> Callable[..., AbstractContextManager[Pipeline]]:
    """A context manager: a pipeline with so many dealers."""

    @contextmanager
    def connect(dealers: int = 2, **options: Any) -> Iterator[Pipeline]:
        evaluator, *others = (tap.address for tap in taps[: 1 + dealers])
        with Pipeline.from_package(package / "client", evaluator=evaluator, dealers=others, **options) as pipe:
            yield pipe

    return connect


@pytest.fixture(scope="session")
def pipe(connected: Any) -> Iterator[Pipeline]:
    """With two dealers, and checks."""
    with connected() as pipe:
        yield pipe


@pytest.fixture(scope="session")
def record(taps: list[Wiretap]) -> Callable[..., Recording]:
    """Draw a picture and record it. Every generator that a mask could wrongly depend on starts from the same state."""

    def draw(pipe: Pipeline, **changes: Any) -> Recording:
        for tap in taps:
            tap.take()
        random.seed(3)
        np.random.seed(3)  # noqa: NPY002
        result = pipe(**PICTURE | changes)
        return Recording(result, [tap.take() for tap in taps[: 1 + len(result.report.traffic.dealers)]])

    return draw


@pytest.fixture(scope="session")
def first(pipe: Any, record: Any) -> Recording:
    """A picture under guidance, of two steps."""
    return record(pipe)


@pytest.fixture(scope="session")
def again(pipe: Any, record: Any, first: Recording) -> Recording:
    """The same call once more."""
    assert first
    return record(pipe)


@pytest.fixture(scope="session")
def other(pipe: Any, record: Any) -> Recording:
    """Another prompt, other latents, another guidance scale."""
    return record(
        pipe, prompt="a very old wooden chair, in the style of a watercolour", negative_prompt="blurry", generator=12,
        guidance_scale=2.5,
    )  # fmt: skip
