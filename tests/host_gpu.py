"""Stand-ins for a GPU, where there is none: CUDA's runtime with memory of the host, and TensorRT contexts that ask ONNX Runtime.

They know no function that the real modules have not got, and do nothing before a stream is waited for: what reads too early, or at
an address that was freed, is found.
"""

from __future__ import annotations

import ctypes
from types import SimpleNamespace

import numpy as np

from ppidm.engines.onnxruntime import open_session
from ppidm.engines.tensorrt.device import load_cuda

RUBBISH = 0xA5  # what new memory holds


class HostCuda:
    """`cuda.bindings.runtime`, for a GPU of architecture sm89."""

    def __init__(self, capacity=1 << 33):
        self.real, self.capacity = load_cuda(), capacity
        self.memory, self.queues, self.allocations, self.used = {}, {}, 0, set()
        self.good = self.real.cudaError_t.cudaSuccess

    def __getattr__(self, name):
        """Constants and enumerations, of the real module."""
        value = getattr(self.real, name)
        assert not callable(value) or isinstance(value, type), f"{name} is called, and has no stand-in"
        return value

    def note(self, name):
        assert hasattr(self.real, name), name
        self.used.add(name)

    def cudaDeviceGetAttribute(self, attribute, device):  # noqa: N802
        self.note("cudaDeviceGetAttribute")
        majors = {self.real.cudaDeviceAttr.cudaDevAttrComputeCapabilityMajor: 8}
        return self.good, majors.get(attribute, 9) if device == 0 else -1

    def cudaDriverGetVersion(self):  # noqa: N802
        self.note("cudaDriverGetVersion")
        return self.good, 13000

    def cudaGetDeviceProperties(self, device):  # noqa: N802
        self.note("cudaGetDeviceProperties")
        names = {"name": b"Stand-in", "major": 8, "minor": 9, "totalGlobalMem": self.capacity}
        assert set(names) <= set(dir(self.real.cudaDeviceProp))
        assert device == 0
        return self.good, SimpleNamespace(**names)

    def cudaSetDevice(self, device):  # noqa: N802
        self.note("cudaSetDevice")
        assert device == 0
        return (self.good,)

    def cudaStreamCreateWithFlags(self, flags):  # noqa: N802
        self.note("cudaStreamCreateWithFlags")
        assert flags == self.real.cudaStreamNonBlocking
        self.queues[number := len(self.queues) + 1] = []
        return self.good, number

    def cudaStreamSynchronize(self, stream):  # noqa: N802
        self.note("cudaStreamSynchronize")
        queue = self.queues[stream]
        while queue:
            queue.pop(0)()
        return (self.good,)

    def allocate(self, size):
        if size + sum(map(len, self.memory.values())) > self.capacity:
            return self.real.cudaError_t.cudaErrorMemoryAllocation, None
        self.allocations += 1
        buffer = (ctypes.c_uint8 * size)()
        ctypes.memset(buffer, RUBBISH, size)
        self.memory[address := ctypes.addressof(buffer)] = buffer
        return self.good, address

    def cudaMalloc(self, size):  # noqa: N802
        self.note("cudaMalloc")
        return self.allocate(size)

    def cudaMallocHost(self, size):  # noqa: N802
        self.note("cudaMallocHost")
        return self.allocate(size)

    def free(self, address):
        del self.memory[address]
        return (self.good,)

    def cudaFree(self, address):  # noqa: N802
        self.note("cudaFree")
        return self.free(address)

    def cudaFreeHost(self, address):  # noqa: N802
        self.note("cudaFreeHost")
        return self.free(address)

    def view(self, address, size):
        """Memory that was allocated, and not freed since."""
        assert size <= len(self.memory[address])
        return np.ctypeslib.as_array(self.memory[address])[:size]

    def cudaMemcpyAsync(self, target, source, size, kind, stream):  # noqa: N802
        self.note("cudaMemcpyAsync")
        assert kind in self.real.cudaMemcpyKind

        def copy():
            self.view(target, size)[...] = self.view(source, size)

        self.queues[stream].append(copy)
        return (self.good,)

    def cudaMemsetAsync(self, address, value, size, stream):  # noqa: N802
        self.note("cudaMemsetAsync")
        self.queues[stream].append(lambda: self.view(address, size).fill(value))
        return (self.good,)


class HostContext:
    """`IExecutionContext` of one slice. `wrong` is added to every answer."""

    def __init__(self, engine):
        self.engine, self.active_optimization_profile = engine, 0
        self.shape, self.addresses, self.workspace = None, {}, None

    def set_optimization_profile_async(self, index, stream):
        assert stream in self.engine.cuda.queues
        self.active_optimization_profile = index
        return index < len(self.engine.profiles)

    def set_input_shape(self, name, shape):
        assert name == "masked"
        self.shape = tuple(shape)
        return self.engine.profiles[self.active_optimization_profile].covers(self.shape[1:])

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return True

    def update_device_memory_size_for_shapes(self):
        return 3 * int(np.prod(self.shape))

    def set_device_memory(self, address, size):
        self.engine.cuda.view(address, size)
        self.workspace = address

    def execute_async_v3(self, stream):
        cuda, session = self.engine.cuda, self.engine.session
        shape, addresses = self.shape, dict(self.addresses)

        def run():
            digits = cuda.view(addresses["masked"], int(np.prod(shape))).reshape(shape)
            for output, exact in zip(session.get_outputs(), session.run(None, {"masked": digits}), strict=True):
                values = np.ascontiguousarray(exact + np.int32(self.engine.wrong))
                cuda.view(addresses[output.name], values.nbytes)[...] = values.view(np.uint8).reshape(-1)

        cuda.queues[stream].append(run)
        return self.engine.works


class HostEngine:
    """`ICudaEngine` of one slice."""

    def __init__(self, cuda, content, profiles, wrong=0, *, works=True):
        self.cuda, self.profiles, self.wrong, self.works = cuda, profiles, wrong, works
        self.session, self.contexts, self.caches = open_session(content, 1, None), [], set()

    def create_runtime_config(self):
        return SimpleNamespace(
            set_execution_context_allocation_strategy=lambda _: None,
            create_runtime_cache=object,
            set_runtime_cache=self.caches.add,
        )

    def create_execution_context(self, _):
        self.contexts.append(HostContext(self))
        return self.contexts[-1]
