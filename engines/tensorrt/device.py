"""A GPU through NVIDIA's own bindings of the CUDA runtime: memory, copies, streams.

A *lane* is a stream with buffers of its own, which grow to the largest that was needed and are then kept: host memory is pinned, so
that copies need no CPU. There are two lanes: while one computes, the other copies.
"""

from __future__ import annotations

from contextlib import contextmanager
from ctypes import c_uint8
from importlib import import_module
from threading import BoundedSemaphore, Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from ppidm.protocol.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

LANES = 2
_ROUND = 1 << 20  # bytes; buffers are multiples of it
_INSTALL = "pip install 'ppidm[server-gpu]' or 'ppidm[server-rtx]'"


def load_cuda() -> Any:  # noqa: ANN401
    """The module `cuda.bindings.runtime`.

    Raises:
        InputError: it is not installed.
    """
    try:
        return import_module("cuda.bindings.runtime")
    except (ImportError, OSError) as error:
        raise InputError(f"the Python package cuda.bindings cannot be imported ({error}); {_INSTALL}") from error


def called(cuda: Any, result: tuple[Any, ...]) -> Any:  # noqa: ANN401
    """What a function of the CUDA runtime returned.

    Raises:
        RuntimeError: it failed.
    """
    error, *values = result
    if error != cuda.cudaError_t.cudaSuccess:
        raise RuntimeError(f"CUDA: {error.name} ({int(error)})")
    return values[0] if len(values) == 1 else tuple(values)


def architecture_here() -> str | None:
    """Of the first GPU of this machine, such as "sm89"; None if there is none, or no driver.

    Raises:
        InputError: CUDA's bindings are not installed.
    """
    cuda = load_cuda()
    try:
        attributes = cuda.cudaDeviceAttr
        names = attributes.cudaDevAttrComputeCapabilityMajor, attributes.cudaDevAttrComputeCapabilityMinor
        major, minor = (called(cuda, cuda.cudaDeviceGetAttribute(name, 0)) for name in names)
    except RuntimeError:
        return None
    return f"sm{major}{minor}"


class Lane:
    """A stream and its buffers. Used by one thread at a time."""

    def __init__(self, cuda: Any) -> None:  # noqa: ANN401
        self._cuda = cuda
        self.stream = int(called(cuda, cuda.cudaStreamCreateWithFlags(cuda.cudaStreamNonBlocking)))
        self._on_device: dict[str, tuple[int, int]] = {}
        self._on_host: dict[str, tuple[int, int]] = {}

    def device(self, name: str, size: int) -> int:
        """The address of a buffer on the GPU of at least `size` bytes."""
        return self._buffer(self._on_device, name, size, self._cuda.cudaMalloc, self._cuda.cudaFree)

    def host(self, name: str, size: int) -> NDArray[np.uint8]:
        """A pinned buffer of `size` bytes on the host."""
        address = self._buffer(self._on_host, name, size, self._cuda.cudaMallocHost, self._cuda.cudaFreeHost)
        return np.ctypeslib.as_array((c_uint8 * size).from_address(address))

    def _buffer(self, buffers: dict[str, tuple[int, int]], name: str, size: int, make: Any, free: Any) -> int:  # noqa: ANN401
        address, there = buffers.get(name, (0, 0))
        if size > there:
            if address:
                called(self._cuda, free(address))
                del buffers[name]
            there = -(-size // _ROUND) * _ROUND
            buffers[name] = address, _ = int(called(self._cuda, make(there))), there
        return address

    def to_device(self, name: str, values: NDArray[np.uint8]) -> int:
        """Copy values to the GPU; returns their address. The stream's later work sees them."""
        self.host(name, values.nbytes).reshape(values.shape)[...] = values
        address = self.device(name, values.nbytes)
        self._copy(address, self._on_host[name][0], values.nbytes, "cudaMemcpyHostToDevice")
        return address

    def to_host(self, name: str, size: int) -> NDArray[np.uint8]:
        """Copy a buffer back, behind what the stream does; valid after `finish`, until the lane is used again."""
        values = self.host(name, size)
        self._copy(self._on_host[name][0], self.device(name, size), size, "cudaMemcpyDeviceToHost")
        return values

    def _copy(self, target: int, source: int, size: int, kind: str) -> None:
        direction = getattr(self._cuda.cudaMemcpyKind, kind)
        called(self._cuda, self._cuda.cudaMemcpyAsync(target, source, size, direction, self.stream))

    def wipe(self, name: str) -> None:
        """Overwrite a buffer on both sides: what a dealer computed on is a mask, and dies with the request."""
        self.finish()  # copies of it may be under way
        self.host(name, self._on_host[name][1]).fill(0)
        address, size = self._on_device[name]
        called(self._cuda, self._cuda.cudaMemsetAsync(address, 0, size, self.stream))

    def finish(self) -> None:
        """Wait for everything that was asked of this lane."""
        called(self._cuda, self._cuda.cudaStreamSynchronize(self.stream))


class Device:
    """The first GPU.

    Raises:
        InputError: CUDA's bindings are not installed, or there is no GPU that its driver can use.
    """

    def __init__(self) -> None:
        cuda = load_cuda()
        architecture = architecture_here()
        if architecture is None:
            raise InputError(
                "no NVIDIA GPU, or no driver for it (`ppidm doctor` tells more); serve with --engine onnxruntime on this machine"
            )
        self.architecture = architecture
        self._cuda = cuda
        called(cuda, cuda.cudaSetDevice(0))
        self.lanes = [Lane(cuda) for _ in range(LANES)]
        self._free, self._lock, self._count = list(self.lanes), Lock(), BoundedSemaphore(LANES)

    @contextmanager
    def lane(self) -> Iterator[Lane]:
        """A lane that nobody else uses; waits for one."""
        with self._count:
            called(self._cuda, self._cuda.cudaSetDevice(0))  # of this thread
            with self._lock:
                lane = self._free.pop()
            try:
                yield lane
            finally:
                with self._lock:
                    self._free.append(lane)
