"""`PrivateGraph`: a graph that is no pipeline, on servers that learn nothing of its inputs and outputs."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ppidm.client.account import Account
from ppidm.client.connected import Connected
from ppidm.client.exchange import Mode
from ppidm.client.offload import Offloader
from ppidm.client.package import load_graph_package
from ppidm.engines.program import ProgramRunner
from ppidm.protocol.audit import DEFAULT_SHARE
from ppidm.protocol.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ppidm.client.package import ClientPackage
    from ppidm.client.report import GraphReport
    from ppidm.client.servers import Servers
    from ppidm.protocol.manifest import GraphManifest

    Floats = NDArray[np.float32]


@dataclass(frozen=True)
class GraphOutput:
    """What a call returns: the outputs by name, and what they cost."""

    outputs: dict[str, Floats]
    report: GraphReport


class PrivateGraph(Connected["GraphManifest"]):
    """A partitioned graph. Inputs and outputs stay in this process.

    Use `from_package`, and the graph as a context manager, or call `close`.

    Example:
        with PrivateGraph.from_package("OUT/client", evaluator="127.0.0.1:8001", dealers=["127.0.0.1:8002"]) as graph:
            graph({"x": x}).outputs["y"]
    """

    _load = staticmethod(load_graph_package)

    def __init__(
        self,
        package: ClientPackage[GraphManifest],
        servers: Servers,
        threads: int = 0,
        audit: float = DEFAULT_SHARE,
        mode: Mode = Mode.DIRECT,
    ) -> None:
        super().__init__(package, servers, threads, audit, mode)
        self._program = ProgramRunner(package.directory, self._manifest.program, threads)

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
