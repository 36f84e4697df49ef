"""`ppidm doctor`: what this machine has, and which engines run on it; of the others, why not and what to install."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import onnxruntime as ort

from ppidm.engines.choice import CUDA, ENGINES, EngineChoice
from ppidm.engines.tensorrt.device import architecture_here, called, load_cuda
from ppidm.engines.tensorrt.library import FLAVOURS, load_library
from ppidm.protocol.errors import InputError
from ppidm.protocol.ring import Ring

if TYPE_CHECKING:
    from pathlib import Path

NONE = "none"
_GIB = 1 << 30


@dataclass(frozen=True)
class Verdict:
    """On one engine.

    Attributes:
        engine: its name.
        runs: whether a server can use it here.
        told: what it is, or why not and what to do.
        compiles: whether `ppidm build` can compile for it here.
    """

    engine: str
    runs: bool
    told: str
    compiles: bool


@dataclass(frozen=True)
class Examination:
    """What was found.

    Attributes:
        parts: of this machine, by name.
        verdicts: one per engine.
    """

    parts: dict[str, str]
    verdicts: tuple[Verdict, ...]


def examine(cache: Path | None = None) -> Examination:
    """Look at this machine; every engine is really made.

    Args:
        cache: what `ppidm build` compiled; None is the default folder.
    """
    driver, gpu = _driver(), _gpu()
    parts = {
        "Python": f"{platform.python_version()}, {platform.system()} {platform.machine()}",
        "ONNX Runtime": f"{ort.__version__}: {', '.join(ort.get_available_providers())}",
        **{flavour.module: _library(engine) for engine, flavour in FLAVOURS.items()},
        "CUDA bindings": _installed("cuda-bindings"),
        "NVIDIA driver": driver,
        "GPU": gpu,
    }
    return Examination(parts, tuple(_verdict(engine, cache) for engine in ENGINES))


def _verdict(engine: str, cache: Path | None) -> Verdict:
    compiles = engine in FLAVOURS and FLAVOURS[engine].ahead and _library(engine) != NONE
    try:
        made = EngineChoice(engine, cache).make(Ring(), 1)
        without_gpu = engine == CUDA and architecture_here() is None
    except InputError as error:
        return Verdict(engine, runs=False, told=str(error), compiles=compiles)
    if without_gpu:
        return Verdict(engine, runs=False, told=f"{made.name}: no NVIDIA GPU, or no driver for it", compiles=False)
    return Verdict(engine, runs=True, told=made.name, compiles=engine in FLAVOURS)


def _library(engine: str) -> str:
    try:
        library = load_library(engine)
    except InputError:
        return NONE
    return f"{library.version}, for {', '.join(library.targets)}" if library.flavour.ahead else library.version


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return NONE


def _driver() -> str:
    """The version of CUDA that the driver knows, such as 13.0."""
    try:
        cuda = load_cuda()
        number = int(called(cuda, cuda.cudaDriverGetVersion()))
    except (InputError, RuntimeError):
        return NONE
    return f"for CUDA {number // 1000}.{number % 1000 // 10}" if number else NONE


def _gpu() -> str:
    try:
        cuda = load_cuda()
        properties = called(cuda, cuda.cudaGetDeviceProperties(0))
    except (InputError, RuntimeError):
        return NONE
    return f"{properties.name.decode()}, sm{properties.major}{properties.minor}, {properties.totalGlobalMem / _GIB:.1f} GiB"
