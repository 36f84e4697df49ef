"""A plan -> a runner: TensorRT on the first GPU of this machine.

Weights are on the GPU once per slice. Everything else is shared by all slices: the buffers of two lanes, the memory of intermediate
results, and, in TensorRT for RTX, the kernels that it compiles when a shape comes first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ppidm.engines.plans import read_plan
from ppidm.engines.profiles import pieces
from ppidm.engines.selftest import verify_runner
from ppidm.engines.tensorrt.device import Device
from ppidm.engines.tensorrt.library import RTX, Library, load_library, summary
from ppidm.protocol.errors import PackageError
from ppidm.protocol.messages import ANSWER, MASKED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ppidm.engines.cache import EngineCache
    from ppidm.engines.profiles import Profile
    from ppidm.engines.tensorrt.device import Lane
    from ppidm.protocol.records import Subgraph
    from ppidm.protocol.ring import Digits, Ring

_WORKSPACE = "workspace"


class TensorRtRunner:
    """A slice in a TensorRT engine. Safe to run from several threads at once: as many run as there are lanes.

    Args:
        engine: deserialised.
        maker: of its contexts.
        device: where it runs.
        subgraph: the slice.
        profiles: of the engine.
    """

    def __init__(
        self,
        engine: Any,  # noqa: ANN401
        maker: Contexts,
        device: Device,
        subgraph: Subgraph,
        profiles: Sequence[Profile],
    ) -> None:
        self._engine, self._device, self._subgraph, self._profiles = engine, device, subgraph, profiles
        self._contexts = {lane: maker.make(engine) for lane in device.lanes}

    def run(self, digits: Digits) -> Sequence[NDArray[np.int32]]:
        """See `engines.base.Runner.run`.

        Raises:
            InputError: no profile of the engine takes pictures of this size.
            RuntimeError: the GPU failed, or has no memory left.
        """
        shape = digits.shape[1:]
        answers = [np.empty(layer.output_shape(shape), np.int32) for layer in self._subgraph.layers]
        cut = list(pieces(self._subgraph.name, self._profiles, shape))
        with self._device.lane() as lane:
            for profile, start, end in cut:
                self._run(lane, profile, digits[:, start:end], [values[start:end] for values in answers])
        return answers

    def _run(self, lane: Lane, profile: int, digits: Digits, answers: Sequence[NDArray[np.int32]]) -> None:
        context, names = self._contexts[lane], [f"{ANSWER}{index}" for index in range(len(answers))]
        if context.active_optimization_profile != profile:
            _require(context.set_optimization_profile_async(profile, lane.stream), "profile")
        _require(context.set_input_shape(MASKED, digits.shape), f"shape {digits.shape}")
        context.set_tensor_address(MASKED, lane.to_device(MASKED, digits))
        for name, values in zip(names, answers, strict=True):
            context.set_tensor_address(name, lane.device(name, values.nbytes))
        size = context.update_device_memory_size_for_shapes()
        context.set_device_memory(lane.device(_WORKSPACE, max(size, 1)), size)
        try:
            _require(context.execute_async_v3(lane.stream), "execution")
            copies = [lane.to_host(name, values.nbytes) for name, values in zip(names, answers, strict=True)]
            lane.finish()
        finally:
            lane.wipe(MASKED)
        for values, copy in zip(answers, copies, strict=True):
            values[...] = copy.view(np.int32).reshape(values.shape)


class Contexts:
    """Makes execution contexts that allocate nothing themselves."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._kernels: Any = None  # those that TensorRT for RTX compiles at run time

    def make(self, engine: Any) -> Any:  # noqa: ANN401
        """A context of `engine`."""
        config = engine.create_runtime_config()
        strategy = self._library.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        config.set_execution_context_allocation_strategy(strategy)
        if self._library.flavour is RTX:
            self._kernels = self._kernels or config.create_runtime_cache()
            config.set_runtime_cache(self._kernels)
        context = engine.create_execution_context(config)
        if context is None:
            raise RuntimeError("no memory for an execution context")
        return context


class TensorRtEngine:
    """TensorRT or TensorRT for RTX, portable form; TF32 where the exporter proved it exact.

    Args:
        name: "tensorrt" or "tensorrt-rtx".
        ring: of the package's slices.
        cache: what `ppidm build` compiled.

    Raises:
        InputError: the library is missing, or the GPU.
    """

    def __init__(self, name: str, ring: Ring, cache: EngineCache) -> None:
        self._library = load_library(name)
        self._ring, self._cache, self._device = ring, cache, Device()
        self._log, self._contexts = self._library.log(), Contexts(self._library)
        self._runtime = self._library.trt.Runtime(self._log)

    @property
    def name(self) -> str:
        """Library, version, GPU architecture and form."""
        return f"{self._library.flavour.engine} {self._library.version}, {self._device.architecture}, portable form"

    def load(self, directory: Path, subgraph: Subgraph) -> TensorRtRunner:
        """See `engines.base.Engine.load`; the file is not read, its digest is what the plan was made of."""
        engine, version = self._library.flavour.engine, self._library.version
        path = self._cache.find(directory, subgraph, engine, version, self._device.architecture)
        header, plan = read_plan(path)
        self._log.errors.clear()
        loaded = self._runtime.deserialize_cuda_engine(plan)
        if loaded is None:
            raise PackageError(
                f"{path}: {self.name} cannot load it: {summary(self._log.errors)}; `ppidm build` it again on this machine"
            )
        try:
            runner = TensorRtRunner(loaded, self._contexts, self._device, subgraph, header.origin.profiles)
            verify_runner(self, runner, subgraph, self._ring)
        except RuntimeError as error:
            problem = f"slice {subgraph.name}: {self.name} cannot run it ({error}; {summary(self._log.errors)})"
            raise PackageError(f"{problem}; `ppidm doctor` tells what this machine has") from error
        return runner


def _require(succeeded: bool, what: str) -> None:  # noqa: FBT001
    if not succeeded:
        raise RuntimeError(f"TensorRT refuses: {what}")
