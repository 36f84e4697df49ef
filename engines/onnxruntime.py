"""ONNX Runtime: slices in the portable form, and the client's own graphs. On a CPU, but for `onnxruntime_cuda`.

Every session names its execution provider (the CPU wheel lists an Azure one too) and does not spin: with one session per
slice, spinning threads fight each other (measured: 400 runs over 200 sessions take 6.5 s spinning and 0.1 s without). None
keeps memory between runs, neither an arena nor memory patterns (measured: 96 sessions after batches of 8 keep 1099 MB with
them, 117 MB without, 2 MB when malloc's free memory is given back as well; 0.35 s in all three).

Security:
    Files may be hostile: `onnx_guard` reads each before ONNX Runtime does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import onnxruntime as ort

from ppidm.engines.onnx_guard import Policy, require_allowed, require_allowed_content
from ppidm.engines.onnx_policy import SEGMENT, SLICE
from ppidm.engines.selftest import verify_runner
from ppidm.protocol.errors import PackageError
from ppidm.protocol.messages import ANSWER, MASKED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from ppidm.engines.base import Engine
    from ppidm.protocol.records import Subgraph
    from ppidm.protocol.ring import Digits, Ring

Provider: TypeAlias = tuple[str, dict[str, str]]
"""Name and options of an execution provider."""

CPU: Provider = ("CPUExecutionProvider", {})
_FATAL_ONLY = 4
_LONGEST_QUOTE = 300  # characters of a hostile file that an error message repeats
_ORT_ERRORS = (
    UnicodeDecodeError,  # found by fuzzing: its message quotes a name that is no UTF-8
    *(
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
    ),
)


def open_session(
    model: Path | bytes,
    threads: int = 0,
    policy: Policy | None = SEGMENT,
    *,
    in_place: bool = False,
    provider: Provider = CPU,
) -> ort.InferenceSession:
    """Load an ONNX graph on one execution provider, and on no other.

    Args:
        model: a file, or its content.
        threads: intra-op threads; 0 means one per core.
        policy: what the graph may hold; None trusts it, and lets its weights lie in other files.
        in_place: leave weights in their files, mapped into memory, and optimise nothing (measured, one run of SD 1.5's U-Net
            in float16: 0.1 GB beside the mapped file; 6.1 GB otherwise, for float32 copies of all weights).
        provider: its name and options.

    Raises:
        PackageError: `policy` refuses the graph, or ONNX Runtime cannot load it.
    """
    if policy is not None:
        if isinstance(model, bytes):
            require_allowed_content(model, policy, "ONNX graph")
        else:
            require_allowed(model, policy)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    if in_place:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    else:
        options.execution_order = ort.ExecutionOrder.PRIORITY_BASED  # else the nodes that count FLOPs run last: memory
    options.log_severity_level = _FATAL_ONLY
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry(
        "session.load_model_format", "ONNX"
    )  # not ONNX Runtime's own, whatever the name is
    if provider is not CPU:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    source = model if isinstance(model, bytes) else str(model)
    try:
        return ort.InferenceSession(source, options, providers=[provider])
    except _ORT_ERRORS as error:
        name = "ONNX graph" if isinstance(model, bytes) else model
        raise PackageError(
            f"{name}: ONNX Runtime cannot load it ({error}); copy or export the package again"
        ) from error


def open_graph(
    path: Path,
    reads: Iterable[str],
    writes: Iterable[str],
    threads: int = 0,
    policy: Policy = SEGMENT,
    provider: Provider = CPU,
) -> ort.InferenceSession:
    """`open_session` of a graph that must read and write just these values.

    Raises:
        PackageError: see `open_session`; or it reads or writes others.
    """
    session = open_session(path, threads, policy, provider=provider)
    expected = sorted(set(reads)), sorted(writes)
    got = sorted(value.name for value in session.get_inputs()), sorted(value.name for value in session.get_outputs())
    if got != expected:
        raise PackageError(
            f"{path}: not {policy.name} of this package: it reads and writes {ascii(got)[:_LONGEST_QUOTE]}; expected "
            f"{ascii(expected)[:_LONGEST_QUOTE]}; copy or export the package again"
        )
    return session


class OrtRunner:
    """A slice in an ONNX Runtime session."""

    def __init__(self, session: ort.InferenceSession, outputs: Sequence[str] | None = None) -> None:
        self._session, self._outputs = session, outputs

    def run(self, digits: Digits) -> Sequence[NDArray[np.int32]]:
        """See `engines.base.Runner.run`."""
        answers: list[Any] = self._session.run(self._outputs, {MASKED: digits})
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

    def load(self, directory: Path, subgraph: Subgraph) -> OrtRunner:
        """See `engines.base.Engine.load`."""
        path = directory / subgraph.file
        outputs = [f"{ANSWER}{index}" for index in range(len(subgraph.layers))]
        session = open_graph(path, [MASKED], outputs, self._threads, SLICE)
        return load_slice(self, session, path, subgraph, self._ring)


def load_slice(engine: Engine, session: ort.InferenceSession, path: Path, subgraph: Subgraph, ring: Ring) -> OrtRunner:
    """A runner that passed its self-test.

    Raises:
        PackageError: it failed.
    """
    runner = OrtRunner(session, [f"{ANSWER}{index}" for index in range(len(subgraph.layers))])
    try:
        verify_runner(engine, runner, subgraph, ring)
    except _ORT_ERRORS as error:
        raise PackageError(f"{path}: ONNX Runtime cannot run it ({error}); copy or export the package again") from error
    return runner
