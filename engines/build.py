"""`ppidm build`: every slice of a server's directory -> an engine in the cache; what is there already is kept."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from ppidm.engines.cache import EngineCache, default_cache
from ppidm.engines.estimate import Estimate, estimate
from ppidm.engines.onnxruntime import CpuEngine
from ppidm.engines.plans import Origin
from ppidm.engines.profiles import profiles_of
from ppidm.engines.tensorrt.building import PlanRequest, build_plan, choose_targets
from ppidm.engines.tensorrt.device import architecture_here
from ppidm.engines.tensorrt.library import FLAVOURS, Library, load_library
from ppidm.engines.tensorrt.timing import Timings
from ppidm.protocol.errors import InputError, PackageError, UnsupportedError
from ppidm.protocol.manifest import ServerManifest, load_manifest

if TYPE_CHECKING:
    from pathlib import Path

    from ppidm.protocol.records import Subgraph

ENGINES = ("onnxruntime", *FLAVOURS)
LARGEST = 8  # picture side, relative to the model's own: more is no use, and overflows what TensorRT can address
Progress = Callable[[str, int, int], None]  # what is being done, steps done, steps in all


@dataclass(frozen=True)
class BuildSettings:
    """The options of `ppidm build`; see its `--help`.

    Raises:
        InputError: a number is out of range.
    """

    directory: Path
    engine: str
    targets: tuple[str, ...] = ()
    jobs: int = 0
    largest: int = 2
    cache: Path | None = None
    signer: Path | None = None

    def __post_init__(self) -> None:
        if self.jobs < 0 or not 1 <= self.largest <= LARGEST:
            raise InputError(
                f"--jobs {self.jobs} --largest {self.largest}; expected at least 0 jobs (0: one per core), and 1 to {LARGEST}"
            )


@dataclass(frozen=True)
class BuildResult:
    """What a build gave.

    Attributes:
        slices: of the package.
        kept: that were compiled before.
        failures: a message for each slice that has no engine now.
        seconds: that it took.
    """

    slices: int
    kept: int
    failures: tuple[str, ...]
    seconds: float

    @property
    def good(self) -> int:
        """Slices that have an engine."""
        return self.slices - len(self.failures)


class Build:
    """A build that was checked, and can run.

    Args:
        settings: of the build.

    Raises:
        InputError: the engine is not installed here, or does not compile for the targets.
        PackageError: the directory is no server's, or damaged.
    """

    def __init__(self, settings: BuildSettings) -> None:
        self._directory = settings.directory
        self._jobs = settings.jobs or os.cpu_count() or 1
        self._manifest = load_manifest(settings.directory, ServerManifest, settings.signer)
        slices = self._manifest.slices
        self._compiler = _compiler(settings, self._manifest.ring.limbs)
        self._missing = [subgraph for subgraph in slices if self._compiler is None or not self._compiler.has(subgraph)]
        self.estimate: Estimate | None = None  # ONNX Runtime writes nothing, and takes seconds
        if self._compiler is not None:
            self.estimate = estimate(self._missing, self._jobs, self._compiler.buckets)

    def run(self, progress: Progress) -> BuildResult:
        """Compile what is missing; a slice that cannot be compiled does not keep the others from it.

        Raises:
            InputError: the disk is full.
        """
        started, total = monotonic(), len(self._manifest.slices)
        kept, failures = total - len(self._missing), []
        with ThreadPoolExecutor(self._jobs if self._compiler else 1, "ppidm-build") as pool:
            try:
                running = [pool.submit(self._compile, subgraph) for subgraph in self._missing]
                for done, future in enumerate(as_completed(running), kept):
                    progress("compiling slices", done, total)
                    try:
                        future.result()
                    except (PackageError, UnsupportedError) as error:
                        failures.append(str(error))
            finally:
                pool.shutdown(cancel_futures=True)
        return BuildResult(total, kept, tuple(sorted(failures)), monotonic() - started)

    def _compile(self, subgraph: Subgraph) -> None:
        if self._compiler is not None:
            self._compiler.compile(self._directory, subgraph)
        else:
            CpuEngine(self._manifest.ring, 1).load(self._directory, subgraph)  # which compiles, and tries it out


class _Compiler:
    """Compiles with TensorRT, into the cache."""

    def __init__(
        self, library: Library, cache: EngineCache, limbs: int, targets: tuple[str, ...], largest: int
    ) -> None:
        self._library, self._cache, self._limbs, self._targets = library, cache, limbs, targets
        self._sides = sorted({largest} if library.flavour.buckets == 1 else {1, largest})
        self.buckets = len(self._sides)
        self._timings: Timings | None = None
        if not library.flavour.ahead:
            self._timings = Timings(cache.timings(library.flavour.engine, library.version, targets[0]))

    def has(self, subgraph: Subgraph) -> bool:
        return self._cache.holds(self._origin(subgraph))

    def compile(self, directory: Path, subgraph: Subgraph) -> None:
        content = (directory / subgraph.file).read_bytes()
        if hashlib.sha256(content).hexdigest() != subgraph.sha256:
            raise PackageError(
                f"{directory / subgraph.file}: changed since its digest was verified; copy the package again"
            )
        origin = self._origin(subgraph)
        request = PlanRequest(self._limbs, origin.profiles, self._targets, origin.tf32)
        self._cache.store(origin, build_plan(self._library, subgraph.name, content, request, self._timings))

    def _origin(self, subgraph: Subgraph) -> Origin:
        return Origin(
            slice=subgraph.sha256,
            engine=self._library.flavour.engine,
            version=self._library.version,
            targets=self._targets,
            profiles=profiles_of(subgraph, self._sides),
            tf32=subgraph.proof is not None,
        )


def _compiler(settings: BuildSettings, limbs: int) -> _Compiler | None:
    if settings.engine not in ENGINES:
        raise InputError(f"--engine {settings.engine}; expected one of {', '.join(ENGINES)}")
    if settings.engine not in FLAVOURS:
        if settings.targets:
            raise InputError(
                f"--target {settings.targets[0]}: engine {settings.engine} compiles for this machine's CPU only"
            )
        return None
    library = load_library(settings.engine)
    here = None if library.flavour.ahead else architecture_here()
    targets = choose_targets(library, settings.targets, here)
    return _Compiler(library, EngineCache(settings.cache or default_cache()), limbs, targets, settings.largest)
