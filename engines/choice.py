"""Which engine a server uses: the one that its operator names. None stands in for another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ppidm.engines.cache import EngineCache, default_cache
from ppidm.engines.onnxruntime import CpuEngine
from ppidm.engines.onnxruntime_cuda import CudaEngine
from ppidm.engines.tensorrt.library import FLAVOURS
from ppidm.engines.tensorrt.running import TensorRtEngine
from ppidm.protocol.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from ppidm.engines.base import Engine
    from ppidm.protocol.ring import Ring

CPU, CUDA = "onnxruntime", "onnxruntime-cuda"
ENGINES = (CPU, CUDA, *FLAVOURS)


@dataclass(frozen=True)
class EngineChoice:
    """The engine of a server.

    Args:
        name: one of `ENGINES`.
        cache: what `ppidm build` compiled; None is the default folder.

    Raises:
        InputError: no engine of ours.
    """

    name: str = CPU
    cache: Path | None = None

    def __post_init__(self) -> None:
        if self.name not in ENGINES:
            raise InputError(f"--engine {self.name}; expected one of {', '.join(ENGINES)}")

    def make(self, ring: Ring, threads: int) -> Engine:
        """The engine.

        Args:
            ring: of a package's slices.
            threads: of one request, on a CPU.

        Raises:
            InputError: its library is not installed, or there is no GPU for it.
        """
        if self.name == CPU:
            return CpuEngine(ring, threads)
        if self.name == CUDA:
            return CudaEngine(ring)
        return TensorRtEngine(self.name, ring, EngineCache(self.cache or default_cache()))
