"""`PrivateGraph`: a graph that is no pipeline, on servers that learn nothing of its inputs and outputs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ppidm.client.account import Account
from ppidm.client.exchange import Mode
from ppidm.client.links import LOOPBACK, LinkSettings
from ppidm.client.offload import Offloader
from ppidm.client.package import load_graph_package
from ppidm.client.servers import connect
from ppidm.engines.program import ProgramRunner
from ppidm.protocol.audit import DEFAULT_SHARE, require_share
from ppidm.protocol.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from numpy.typing import NDArray

    from ppidm.client.package import ClientPackage
    from ppidm.client.report import GraphReport
    from ppidm.client.servers import Servers
    from ppidm.protocol.manifest import GraphManifest

    Floats = NDArray[np.float32]

IN_FLIGHT = 8  # steps of the program at the same time


@dataclass(frozen=True)
class GraphOutput:
    """What a call returns: the outputs by name, and what they cost."""

    outputs: dict[str, Floats]
    report: GraphReport


class PrivateGraph:
    """A partitioned graph. Inputs and outputs stay in this process.

    Use `from_package`, and the graph as a context manager, or call `close`.

    Example:
        with PrivateGraph.from_package("OUT/client", evaluator="127.0.0.1:8001", dealers=["127.0.0.1:8002"]) as graph:
            graph({"x": x}).outputs["y"]
    """

    def __init__(
        self,
        package: ClientPackage[GraphManifest],
        servers: Servers,
        threads: int = 0,
        audit: float = DEFAULT_SHARE,
        mode: Mode = Mode.DIRECT,
    ) -> None:
        self._audit, self._mode = audit, mode
        self._package, self._servers, self._manifest = package, servers, package.manifest
        self._pool = ThreadPoolExecutor(IN_FLIGHT, "ppidm-step")
        self._program = ProgramRunner(package.directory, self._manifest.program, threads)

    @classmethod
    def from_package(
        cls,
        path: str | Path,
        *,
        evaluator: str,
        dealers: Sequence[str],
        check: str | Path | None = None,
        verify: bool = True,
        audit: float = DEFAULT_SHARE,
        mode: Mode = Mode.DIRECT,
        signer: str | Path | None = None,
        timeout: float = 60.0,
        threads: int = 0,
        links: LinkSettings = LOOPBACK,
    ) -> Self:
        """Load `OUT/client` of `ppidm export FILE.onnx`, and connect; see `PrivateStableDiffusionPipeline.from_package`."""
        require_share(audit)
        check, signer = (None if given is None else Path(given) for given in (check, signer))
        package = load_graph_package(Path(path), check, verify=verify, signer=signer)
        return cls(package, connect(evaluator, dealers, package.manifest.package, timeout, links), threads, audit, mode)

    def __call__(self, inputs: Mapping[str, Floats]) -> GraphOutput:
        """Run the graph.

        Args:
            inputs: float32 arrays by name; sizes may differ from those at export where the graph's dimensions are free.

        Raises:
            InputError: an input is missing, unknown, no float32, or of another rank.
            CheckError: an answer was wrong.
            PeerError: a server failed.
            NonFiniteError: the graph itself overflowed.

        Security:
            Servers learn the sizes of all inputs.
        """
        self._check(inputs)
        account = Account(self._servers)
        with (
            np.errstate(over="ignore", invalid="ignore"),  # told at the end, and only then
            closing(Offloader(self._package, self._servers, account, self._audit, self._mode)) as offload,
        ):
            result = self._program.run(inputs, offload, self._pool)
        account.add_side_by_side([result], evaluations=1)
        offload.raise_if_not_finite(*result.outputs.values())
        return GraphOutput(result.outputs, account.graph_report(self._package))

    def _check(self, inputs: Mapping[str, Floats]) -> None:
        expected = {value.name: value.shape for value in self._manifest.inputs}
        if inputs.keys() != expected.keys():
            raise InputError(f"inputs are {sorted(inputs)}; this graph reads {sorted(expected)}")
        for name, value in inputs.items():
            if value.dtype != np.float32 or value.ndim != len(expected[name]) or not value.size:
                shape = "x".join(map(str, expected[name]))
                raise InputError(f"input {name!r} is {value.dtype}{value.shape}; expected float32, such as {shape}")

    def close(self) -> None:
        """Close the connections."""
        self._servers.close()
        self._pool.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
