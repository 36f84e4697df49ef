"""Engines of every slice of the shipped model, compiled once; and which libraries and GPUs there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from command_line import ppidm

from ppidm.engines.tensorrt.library import load_library
from ppidm.protocol.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from ppidm.engines.tensorrt.library import Library

TARGETS = "sm86", "sm89"


@pytest.fixture(scope="session")
def rtx() -> Library:
    """TensorRT for RTX, which needs no GPU to compile."""
    try:
        return load_library("tensorrt-rtx")
    except InputError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def built(rtx, package, tmp_path_factory) -> Path:  # noqa: ARG001
    """The cache of `ppidm build` of all 96 slices. Do not change it."""
    cache = tmp_path_factory.mktemp("cache")
    options = [word for target in TARGETS for word in ("--target", target)]
    shown = ppidm("build", package / "server-0", "--engine", "tensorrt-rtx", "--cache", cache, *options)
    assert shown.status == 0, shown.err
    assert shown.out == "compiled 96 of 96 slices\n"
    return cache
