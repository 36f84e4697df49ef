"""ONNX Runtime on a CPU: slices in the portable form, and the client's own graphs.

Every session names its execution provider (the CPU wheel lists an Azure one too) and does not spin: with one session per
slice, spinning threads fight each other (measured: 400 runs over 200 sessions take 6.5 s spinning and 0.1 s without).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnxruntime as ort

from ppidm.engines.selftest import verify_runner
from ppidm.protocol.errors import PackageError
from ppidm.protocol.messages import ANSWER, MASKED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from ppidm.protocol.manifest import Subgraph
    from ppidm.protocol.ring import Digits, Ring

_FATAL_ONLY = 4
_ORT_ERRORS = tuple(
    vars(ort.capi.onnxruntime_pybind11_state)[name]
    for name in (
        "Fail",
        "InvalidArgument",
        "InvalidGraph",
        "InvalidProtobuf",
        "NoSuchFile",
        "NotImplemented",
        "RuntimeException",
    )
)


def open_session(model: Path | bytes, threads: int = 0) -> ort.InferenceSession:
    """Load an ONNX graph on the CPU execution provider.

    Args:
        model: a file, or its content.
        threads: intra-op threads; 0 means one per core.

    Raises:
        PackageError: not a graph that ONNX Runtime can load.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_order = ort.ExecutionOrder.PRIORITY_BASED  # else the nodes that count FLOPs run last: memory
    options.log_severity_level = _FATAL_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source = model if isinstance(model, bytes) else str(model)
    try:
        return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except _ORT_ERRORS as error:
        name = "ONNX graph" if isinstance(model, bytes) else model
        raise PackageError(
            f"{name}: ONNX Runtime cannot load it ({error}); copy or export the package again"
        ) from error


class CpuRunner:
    """A slice in an ONNX Runtime session."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session

    def run(self, digits: Digits) -> Sequence[NDArray[np.int32]]:
        """See `engines.base.Runner.run`."""
        answers: list[Any] = self._session.run(None, {MASKED: digits})
        return answers


class CpuEngine:
    """ONNX Runtime, CPU execution provider, portable form (float32 products, exact).

    Args:
        ring: of the package's slices.
        threads: intra-op threads of every session; 0 means one per core.
    """

    def __init__(self, ring: Ring, threads: int = 0) -> None:
        self._ring, self._threads = ring, threads

    @property
    def name(self) -> str:
        """Library, version, execution provider and form."""
        return f"onnxruntime {ort.__version__}, CPUExecutionProvider, portable form"

    def load(self, directory: Path, subgraph: Subgraph) -> CpuRunner:
        """See `engines.base.Engine.load`."""
        path = directory / subgraph.file
        session = open_session(path, self._threads)
        expected = [f"{ANSWER}{index}" for index in range(len(subgraph.layers))]
        if [value.name for value in session.get_inputs()] != [MASKED] or [
            v.name for v in session.get_outputs()
        ] != expected:
            raise PackageError(f"{path}: not a slice: expected input {MASKED!r} and outputs {expected}")
        runner = CpuRunner(session)
        try:
            verify_runner(self, runner, subgraph, self._ring)
        except _ORT_ERRORS as error:
            raise PackageError(
                f"{path}: ONNX Runtime cannot run it ({error}); copy or export the package again"
            ) from error
        return runner
