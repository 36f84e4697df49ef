"""A real `ppidm serve`, to be mistreated: its address, its memory, and whether it still answers right."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb

from ppidm.export.check_keys import weights_from_slice
from ppidm.protocol.linear import apply
from ppidm.protocol.manifest import ServerManifest, load_manifest
from ppidm.protocol.masks import dealer_share
from ppidm.protocol.messages import SeedRequest, Tensor, seed_request
from ppidm.protocol.prg import Seed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ppidm.protocol.records import Subgraph

SERVICE = "/inference.GRPCInferenceService/"
READY = "listening on "


@dataclass
class Victim:
    """A server process.

    Attributes:
        log: where it writes its log.
    """

    process: subprocess.Popen[str]
    address: str
    directory: Path
    log: Path

    @property
    def manifest(self) -> ServerManifest:
        """What it serves."""
        return load_manifest(self.directory, ServerManifest)

    def peak_mib(self) -> float:
        """The most memory that it has held (Linux)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None, status
        return int(found[1]) / 1024

    def answers_right(self) -> bool:
        """Whether it is alive, and answers a dealer's request bit for bit."""
        if self.process.poll() is not None:
            return False
        subgraph = min(self.manifest.slices, key=lambda each: max(layer.row_length for layer in each.layers))
        seed = Seed.fresh()
        with grpc.insecure_channel(self.address) as channel:
            infer = channel.unary_unary(f"{SERVICE}ModelInfer", None, pb.ModelInferResponse.FromString)
            answer = infer(serialised(subgraph.name, seed_request(seed, subgraph.nominal_shape)), timeout=30)
        return list(answer.raw_output_contents) == self._expected(subgraph, SeedRequest(seed, subgraph.nominal_shape))

    def _expected(self, subgraph: Subgraph, request: SeedRequest) -> list[bytes]:
        ring = self.manifest.ring
        digits = dealer_share(ring, request.seed, request.shape)
        weights = weights_from_slice(self.directory / subgraph.file, subgraph.layers)
        pairs = zip(subgraph.layers, weights, strict=True)
        return [apply(layer, w, digits, ring).astype("<u4").tobytes() for layer, w in pairs]


def serialised(name: str, tensors: list[Tensor]) -> bytes:
    """A request as it travels."""
    kind = pb.ModelInferRequest.InferInputTensor
    request = pb.ModelInferRequest(
        model_name=name,
        inputs=[kind(name=t.name, datatype=t.datatype, shape=np.array(t.shape, np.int64)) for t in tensors],
        raw_input_contents=[t.content for t in tensors],
    )
    return bytes(request.SerializeToString())


@contextmanager
def running_victim(directory: Path, folder: Path) -> Iterator[Victim]:
    """`ppidm serve directory` on a free port; its log goes into `folder`."""
    log = folder / "server.log"
    command = [
        sys.executable,
        "-m",
        "ppidm",
        "serve",
        str(directory),
        "--listen",
        "127.0.0.1:0",
        "--log-level",
        "debug",
    ]
    with (
        log.open("w") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line.startswith(READY):
                raise SystemExit(f"{directory}: the server did not start: {log.read_text()[-2000:]}")
            yield Victim(process, line.removeprefix(READY).strip(), directory, log)
        finally:
            process.terminate()
            process.wait()
