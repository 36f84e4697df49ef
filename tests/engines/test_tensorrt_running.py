"""How slices run on a GPU, as far as a machine without one can tell: see `host_gpu`. Real GPUs: test_gpu.py."""

from __future__ import annotations

import inspect
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from host_gpu import HostContext, HostCuda, HostEngine
from shipped import RING

from ppidm.engines.cache import EngineCache
from ppidm.engines.onnxruntime import CpuEngine
from ppidm.engines.plans import Origin, read_plan
from ppidm.engines.profiles import profiles_of
from ppidm.engines.tensorrt import device as device_module
from ppidm.engines.tensorrt import running
from ppidm.engines.tensorrt.building import PlanRequest, build_plan
from ppidm.engines.tensorrt.device import LANES, Device, architecture_here, called, load_cuda
from ppidm.engines.tensorrt.library import Library, load_library
from ppidm.engines.tensorrt.running import TensorRtEngine
from ppidm.protocol.errors import InputError, PackageError
from ppidm.protocol.manifest import ServerManifest, load_manifest

pytestmark = pytest.mark.trt
NAMES = ("time_embedding.linear_1", "conv_in", "down_blocks.0.downsamplers.0.conv")


@pytest.fixture(scope="module")
def server(package):
    return package / "server-0"


@pytest.fixture(scope="module")
def subgraphs(server):
    return {subgraph.name: subgraph for subgraph in load_manifest(server, ServerManifest).slices}


@pytest.fixture
def cuda(monkeypatch):
    host = HostCuda()
    monkeypatch.setattr(device_module, "load_cuda", lambda: host)
    return host


@pytest.fixture
def engine(cuda, rtx, tmp_path, server, subgraphs, monkeypatch):
    """An engine whose plans are ONNX files, and that runs on `cuda`. `options` are those of the next `HostEngine`."""
    loaded = []

    class Runtime:
        def __init__(self, log):
            self.log = log

        def deserialize_cuda_engine(self, plan):
            if not plan.startswith(b"\x08"):  # the first field of an ONNX file
                self.log.log(rtx.trt.ILogger.ERROR, "magic tag does not match")
                return None
            profiles = profiles_of(next(each for each in subgraphs.values() if content(each) == plan), made.sides)
            loaded.append(HostEngine(cuda, plan, profiles, **made.options))
            return loaded[-1]

    def content(subgraph):
        return (server / subgraph.file).read_bytes()

    module = SimpleNamespace(
        Runtime=Runtime,
        ILogger=rtx.trt.ILogger,
        ExecutionContextAllocationStrategy=rtx.trt.ExecutionContextAllocationStrategy,
        __version__=rtx.version,
    )
    monkeypatch.setattr(running, "load_library", lambda _: Library(rtx.flavour, module))
    cache = EngineCache(tmp_path / "engines")
    made = SimpleNamespace(options={}, sides=(2,), loaded=loaded, cache=cache, content=content)

    def store(subgraph, plan=None, **changes):
        origin = origin_of(subgraph, rtx, made.sides).model_copy(update=changes)
        return cache.store(origin, content(subgraph) if plan is None else plan)

    made.store = store
    made.engine = TensorRtEngine("tensorrt-rtx", RING, cache)
    return made


def origin_of(subgraph, library, sides=(2,)):
    return Origin(
        slice=subgraph.sha256,
        engine="tensorrt-rtx",
        version=library.version,
        targets=("sm86", "sm89"),
        profiles=profiles_of(subgraph, sides),
        tf32=True,
    )


def uniform(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (RING.limbs, *shape), np.uint8)


@pytest.mark.parametrize("sides", [(2,), (1, 2)])
@pytest.mark.parametrize("name", NAMES)
def test_answers_are_those_of_the_cpu(engine, server, subgraphs, name, sides):
    subgraph, engine.sides = subgraphs[name], sides
    engine.store(subgraph)
    runner, reference = engine.engine.load(server, subgraph), CpuEngine(RING, 1).load(server, subgraph)
    first, *inner, channels = subgraph.nominal_shape
    shapes = [(first, *inner, channels), (5 * first, *inner, channels), (1, *(2 * size for size in inner), channels)]
    for seed, shape in enumerate([*shapes, shapes[0]]):
        digits = uniform(shape, seed)
        for got, expected in zip(runner.run(digits), reference.run(digits), strict=True):
            np.testing.assert_array_equal(got, expected)


def test_threads_share_two_lanes(engine, server, subgraphs, cuda):
    runners = []
    for name in NAMES:
        engine.store(subgraphs[name])
        runner = engine.engine.load(server, subgraphs[name])
        runners.append((runner, CpuEngine(RING, 1).load(server, subgraphs[name]), subgraphs[name].nominal_shape))

    def ask(seed):
        runner, reference, shape = runners[seed % len(runners)]
        digits = uniform(shape, seed)
        return np.array_equal(runner.run(digits)[0], reference.run(digits)[0])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(60)))
    assert len(cuda.queues) == LANES


def test_memory_is_allocated_once(engine, server, subgraphs, cuda):
    """The largest input of all slices decides; nothing is allocated while requests come that are no larger."""
    for name in NAMES:
        engine.store(subgraphs[name])
    runners = [engine.engine.load(server, subgraphs[name]) for name in NAMES]
    shapes = [subgraphs[name].nominal_shape for name in NAMES]
    for runner, shape in zip(runners, shapes, strict=True):
        runner.run(uniform(shape))
    before = cuda.allocations
    for _ in range(5):
        for runner, shape in zip(runners, shapes, strict=True):
            runner.run(uniform(shape))
    assert cuda.allocations == before


def test_what_a_dealer_computed_on_is_overwritten(engine, server, subgraphs, cuda):
    subgraph = subgraphs["conv_in"]
    engine.store(subgraph)
    runner, digits = engine.engine.load(server, subgraph), uniform(subgraph.nominal_shape)
    runner.run(digits)
    for lane in engine.engine._device.lanes:
        lane.finish()
    needle = digits.tobytes()[:64]
    assert not [address for address, buffer in cuda.memory.items() if needle in bytes(buffer)]
    assert len(cuda.memory) > 3


def test_a_picture_that_is_too_large(engine, server, subgraphs):
    subgraph = subgraphs["conv_in"]
    engine.store(subgraph)
    runner = engine.engine.load(server, subgraph)
    with pytest.raises(InputError, match="Ask for a smaller picture, or its operator for `ppidm build --largest`"):
        runner.run(uniform((1, 99, 16, 4)))


# what is refused when a server loads


def refused(engine, server, subgraph):
    with pytest.raises(PackageError) as caught:
        engine.engine.load(server, subgraph)
    return str(caught.value)


def test_a_slice_that_was_not_compiled(engine, server, subgraphs):
    message = refused(engine, server, subgraphs["conv_in"])
    assert "slice conv_in: not compiled for tensorrt-rtx" in message
    assert f"`ppidm build {server} --engine tensorrt-rtx`, for --target sm89" in message


@pytest.mark.parametrize(
    ("change", "told"),
    [({"version": "1.6"}, "but for tensorrt-rtx 1.6 on sm86 sm89"), ({"targets": ("sm120",)}, "on sm120, in ")],
    ids=["another version", "another architecture"],
)
def test_plans_for_something_else(engine, server, subgraphs, change, told):
    engine.store(subgraphs["conv_in"], **change)
    assert told in refused(engine, server, subgraphs["conv_in"])
    engine.store(subgraphs["conv_in"])
    assert engine.engine.load(server, subgraphs["conv_in"])


@pytest.mark.parametrize("keep", [-20, 10])
def test_a_truncated_plan(engine, server, subgraphs, keep):
    path, other = engine.store(subgraphs["conv_in"]), engine.store(subgraphs[NAMES[0]])
    path.write_bytes(path.read_bytes()[:keep])
    assert "run `ppidm build` again, which replaces it" in refused(engine, server, subgraphs["conv_in"])
    assert read_plan(other)
    assert engine.engine.load(server, subgraphs[NAMES[0]])


def test_a_damaged_plan_beside_a_good_one(engine, server, subgraphs):
    old = engine.store(subgraphs["conv_in"], version="0.1")
    old.write_bytes(b"damaged")
    engine.store(subgraphs["conv_in"])
    assert engine.engine.load(server, subgraphs["conv_in"])


def test_a_plan_that_the_library_refuses(engine, server, subgraphs):
    engine.store(subgraphs["conv_in"], b"no plan at all")
    message = refused(engine, server, subgraphs["conv_in"])
    assert "cannot load it: magic tag does not match; `ppidm build` it again on this machine" in message


def test_wrong_arithmetic_is_found_when_loading(engine, server, subgraphs):
    engine.store(subgraphs["conv_in"])
    engine.options["wrong"] = 1
    assert "fails the self-test" in refused(engine, server, subgraphs["conv_in"])


def test_a_gpu_that_fails(engine, server, subgraphs, cuda):
    engine.store(subgraphs["conv_in"])
    cuda.capacity = 0
    message = refused(engine, server, subgraphs["conv_in"])
    assert "cannot run it (CUDA: cudaErrorMemoryAllocation (2)" in message
    cuda.capacity = 1 << 33
    engine.options["works"] = False
    assert "cannot run it (TensorRT refuses: execution" in refused(engine, server, subgraphs["conv_in"])
    engine.options["works"] = True
    assert engine.engine.load(server, subgraphs["conv_in"])  # its lane was given back, and works


def test_a_larger_pictures_plan_is_preferred(engine, server, subgraphs):
    subgraph = subgraphs["conv_in"]
    small = engine.store(subgraph)
    engine.sides = (4,)
    large = engine.store(subgraph)
    assert small != large
    found = engine.cache.find(server, subgraph, "tensorrt-rtx", engine.engine._library.version, "sm89")
    assert found == large


# that the stand-ins stand for something


def test_the_real_contexts_have_what_is_called(rtx):
    for name in vars(HostContext):
        if not name.startswith("_"):
            assert hasattr(rtx.trt.IExecutionContext, name), name
    for name in ("create_runtime_config", "create_execution_context"):
        assert hasattr(rtx.trt.ICudaEngine, name)
    for name in ("set_execution_context_allocation_strategy", "create_runtime_cache", "set_runtime_cache"):
        assert hasattr(rtx.trt.IRuntimeConfig, name)
    assert "deserialize_cuda_engine" in vars(rtx.trt.Runtime)


def test_the_real_functions_take_what_they_are_given():
    """Without a GPU each returns an error, and complains about no type."""
    if architecture_here() is not None:
        pytest.skip("this machine has a GPU, which would do it")
    cuda, address, stream = load_cuda(), 4096, 7
    attribute = cuda.cudaDeviceAttr.cudaDevAttrComputeCapabilityMajor
    results = [
        cuda.cudaDeviceGetAttribute(attribute, 0),
        cuda.cudaFree(address),
        cuda.cudaFreeHost(address),
        cuda.cudaMalloc(100),
        cuda.cudaMallocHost(100),
        cuda.cudaMemcpyAsync(address, address, 16, cuda.cudaMemcpyKind.cudaMemcpyHostToDevice, stream),
        cuda.cudaMemsetAsync(address, 0, 16, stream),
        cuda.cudaSetDevice(0),
        cuda.cudaStreamCreateWithFlags(cuda.cudaStreamNonBlocking),
        cuda.cudaStreamSynchronize(stream),
    ]
    for result in results:
        with pytest.raises(RuntimeError, match=r"CUDA: cudaErrorInsufficientDriver|CUDA: cudaErrorNoDevice"):
            called(cuda, result)


def test_the_real_library_says_why_it_loads_nothing(cuda, rtx, server, subgraphs, tmp_path):
    """A real plan, on the stand-in of a GPU: the library looks for a real one."""
    if architecture_of_the_real_gpu(cuda) is not None:
        pytest.skip("this machine has a GPU")
    subgraph, cache = subgraphs["conv_in"], EngineCache(tmp_path / "engines")
    origin = origin_of(subgraph, rtx)
    request = PlanRequest(RING.limbs, origin.profiles, origin.targets, tf32=True)
    cache.store(origin, build_plan(rtx, subgraph.name, (server / subgraph.file).read_bytes(), request))
    with pytest.raises(
        PackageError, match=r"cannot load it: .*CUDA driver version is insufficient.*`ppidm build` it again"
    ):
        TensorRtEngine("tensorrt-rtx", RING, cache).load(server, subgraph)


def architecture_of_the_real_gpu(cuda):
    error, major = cuda.real.cudaDeviceGetAttribute(cuda.real.cudaDeviceAttr.cudaDevAttrComputeCapabilityMajor, 0)
    return None if error else major


def test_no_other_function_of_cuda_is_called(engine, server, subgraphs, cuda):
    for name in NAMES:
        engine.store(subgraphs[name])
        engine.engine.load(server, subgraphs[name]).run(uniform(subgraphs[name].nominal_shape))
    runner = engine.engine.load(server, subgraphs["conv_in"])
    runner.run(uniform((2, 32, 32, 4)))  # grows, so that smaller ones are freed
    written = set(inspect.getsource(device_module).replace("(", " ").replace(",", " ").replace(".", " ").split())
    assert cuda.used == {
        name for name in written if name.startswith("cuda") and callable(getattr(HostCuda, name, None))
    }


def test_without_a_gpu_nothing_stands_in(monkeypatch):
    """The real runtime of CUDA, on a machine without a GPU."""
    if device_module.architecture_here() is not None:
        pytest.skip("this machine has a GPU")
    with pytest.raises(InputError, match="no NVIDIA GPU, or no driver for it"):
        Device()
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    with pytest.raises(InputError, match=r"cuda\.bindings cannot be imported"):
        Device()


def test_a_library_that_is_not_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(InputError, match=r"tensorrt cannot be imported .*ppidm\[server-gpu\]'.*pypi\.nvidia\.com"):
        load_library("tensorrt")
