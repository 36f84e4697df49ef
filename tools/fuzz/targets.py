"""What is fuzzed: functions of bytes that may come from a peer, or from a file of a stranger.

A target runs one input. Whatever is wrong with it must come out as one of ppidm's own errors (`InputError`, `PackageError` among
them) or be accepted; any other exception, a hang or a burst of memory is a bug.
"""

from __future__ import annotations

import shutil
import zipfile
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import corpus
import numpy as np
import relay_inputs
from corpus import LAYERS, RING, SHAPES, SmallPackage
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as pb

from ppidm.client.sampler import Sampler
from ppidm.engines.onnxruntime import CpuEngine, open_session
from ppidm.protocol.address import parse_address
from ppidm.protocol.certificates import (
    fingerprint,
    make_identity,
    name_in,
    parse_certificates,
    parse_pin,
    require_current,
    require_elliptic_curve,
)
from ppidm.protocol.check_file import read_checks
from ppidm.protocol.errors import InputError
from ppidm.protocol.handshake import extensions, parse_extensions
from ppidm.protocol.manifest import ClientManifest, Manifest, ServerManifest, load_manifest
from ppidm.protocol.messages import Tensor, parse_answer, parse_request
from ppidm.protocol.relay_messages import split_place
from ppidm.protocol.sampler_table import ENTRY, check_table, load_missing, load_table
from ppidm.protocol.tokens import load_token_digests, load_tokens, token_digest
from ppidm.runtime.translation import tensors_from_request

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ALLOWED = (InputError, DecodeError)
SCHEDULER = "DDIMScheduler"


@dataclass(frozen=True)
class Target:
    """Good inputs to start from, what to do with an input, and what part of all inputs this target gets."""

    seeds: list[bytes]
    run: Callable[[bytes], None]
    share: float


def try_input(target: Target, content: bytes) -> bool:
    """Whether the input was accepted. Raises what must not be raised."""
    try:
        target.run(content)
    except ALLOWED:
        return False
    return True


def request(content: bytes) -> None:
    """What a server does with the bytes of a call before it computes."""
    message = pb.ModelInferRequest.FromString(content)
    layer = LAYERS.get(message.model_name, LAYERS["conv"])
    _place, others = split_place(tensors_from_request(message))
    parse_request(others, [layer], RING)


def response(content: bytes) -> None:
    """What a client does with an answer before it adds it up."""
    message = pb.ModelInferRequest.FromString(content)
    pairs = zip(message.inputs, message.raw_input_contents, strict=False)
    tensors = [Tensor(each.name, each.datatype, tuple(each.shape), raw) for each, raw in pairs]
    name = message.model_name if message.model_name in LAYERS else "conv"
    parse_answer(tensors, [LAYERS[name]], SHAPES[name])


def handshake(content: bytes) -> None:
    """Lines of a server's extensions."""
    parse_extensions(content.decode("utf-8", "surrogateescape").split("\n"))


def entries(content: bytes) -> None:
    """A sampler's table, and three steps of it if it is a good one."""
    table = np.frombuffer(content[: len(content) // ENTRY.itemsize * ENTRY.itemsize], ENTRY)
    check_table(table, "fuzzed")
    for steps in np.unique(table["steps"])[:2]:
        sampler = Sampler(table[table["steps"] == steps])
        with np.errstate(all="ignore"):
            state = sampler.start(np.ones(2, np.float32))
            for _ in sampler.timesteps[:3]:
                state.step(state.model_input(), lambda: np.ones(2, np.float32))


class Files:
    """Targets that read files; one scratch folder, in memory where the system has such."""

    def __init__(self, folder: Path) -> None:
        self.package = SmallPackage.write(folder)
        self._scratch = folder / "scratch"
        self._scratch.mkdir()
        for subgraph in self.package.slices:  # what the manifests list
            shutil.copy(folder / subgraph.file, self._scratch)
        self._engine = CpuEngine(RING, threads=1)

    def _write(self, content: bytes, name: str = "fuzzed") -> Path:
        path = self._scratch / name
        path.write_bytes(content)
        return path

    def manifest_of(self, kind: type[Manifest]) -> Callable[[bytes], None]:
        """A manifest.json beside the slices."""

        def run(content: bytes) -> None:
            self._write(content, "manifest.json")
            load_manifest(self._scratch, kind)

        return run

    def client_tokens(self, content: bytes) -> None:
        """A client's file."""
        load_tokens(self._write(content))

    def server_tokens(self, content: bytes) -> None:
        """A server's file."""
        load_token_digests(self._write(content))

    def checks(self, content: bytes) -> None:
        """An npz."""
        read_checks(self._write(content), self.package.slices)

    def checks_in_good_zip(self, content: bytes) -> None:
        """A damaged array in an npz with correct sums: past the zip's own checks."""
        path = self._scratch / "fuzzed"
        with zipfile.ZipFile(path, "w") as archive:
            for name, layer in LAYERS.items():
                archive.writestr(
                    f"{name}/0/v.npy", content if name == "conv" else corpus.npy(np.zeros(layer.out_channels, "<i8"))
                )
                archive.writestr(f"{name}/0/u.npy", corpus.npy(np.zeros((layer.in_channels, *layer.kernel), "<i8")))
        read_checks(path, self.package.slices)

    def samplers(self, content: bytes) -> None:
        """A samplers.npz."""
        path = self._write(content)
        load_missing(path)
        load_table(path, SCHEDULER)

    def samplers_in_good_zip(self, content: bytes) -> None:
        """A damaged table in a good zip."""
        path = self._scratch / "fuzzed"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"{SCHEDULER}.npy", content)
        load_table(path, SCHEDULER)

    def graph(self, content: bytes) -> None:
        """A client segment."""
        open_session(content, 1)

    def slice(self, content: bytes) -> None:
        """A server's slice: loaded, looked at, self-tested."""
        self._engine.load(self._scratch, self.package.slices[1].model_copy(update={"file": self._write(content).name}))


def all_targets(folder: Path) -> dict[str, Target]:
    """By name."""
    files = Files(folder)
    table = np.frombuffer(corpus.sampler_entries(), ENTRY)
    slices = [(folder / subgraph.file).read_bytes() for subgraph in files.package.slices]
    checks = corpus.check_file(folder)
    vectors = corpus.npy(np.arange(4, dtype="<i8"))
    hello = "\n".join(extensions("ab" * 32, "name")).encode()
    pins = [b"127.0.0.1:8001=" + b"0f" * 32, b"[::1]:1=sha256:" + b"AB:" * 31 + b"ab"]
    return {
        "requests": Target(corpus.requests() + relay_inputs.placed_requests(), request, 0.16),
        "answers": Target(corpus.answers(), response, 0.09),
        "relay messages": Target(relay_inputs.relay_messages(), relay_inputs.relay_message, 0.08),
        "relayed shares": Target(relay_inputs.relayed_shares(), relay_inputs.relayed_share, 0.04),
        "handshake": Target([hello], handshake, 0.08),
        "addresses": Target(
            [b"127.0.0.1:8001", b"[::1]:80", b"host.example:65535"], lambda c: _text(parse_address, c), 0.08
        ),
        "pins": Target(pins, lambda c: _text(parse_pin, c), 0.08),
        "client tokens": Target([b"abc", b"127.0.0.1:1 abc\n[::1]:2 def"], files.client_tokens, 0.02),
        "server tokens": Target([f"{token_digest('abc')} a note\n".encode()], files.server_tokens, 0.02),
        "certificates": Target([make_identity("a", ["127.0.0.1"], 9).certificate], _certificate, 0.03),
        "server manifests": Target([(folder / "manifest.json").read_bytes()], files.manifest_of(ServerManifest), 0.05),
        "client manifests": Target(
            [(folder / "client/manifest.json").read_bytes()], files.manifest_of(ClientManifest), 0.05
        ),
        "check vectors": Target([checks], files.checks, 0.03),
        "check vectors in a good zip": Target([vectors], files.checks_in_good_zip, 0.03),
        "samplers": Target([_npz(table)], files.samplers, 0.03),
        "samplers in a good zip": Target([corpus.npy(table)], files.samplers_in_good_zip, 0.03),
        "sampler entries": Target([table.tobytes(), corpus.sampler_entries(1)], entries, 0.06),
        "client segments": Target([corpus.segment(), *slices], files.graph, 0.02),
        "slices": Target(slices[1:], files.slice, 0.02),
    }


def _text(parse: Callable[[str], object], content: bytes) -> None:
    parse(content.decode("utf-8", "surrogateescape"))


def _certificate(content: bytes) -> None:
    for certificate in parse_certificates(content, "fuzzed"):
        fingerprint(certificate)
        require_elliptic_curve(certificate, "fuzzed")
        require_current(certificate, "fuzzed")
        name_in(certificate)


def _npz(table: np.ndarray) -> bytes:
    file = BytesIO()
    np.savez(file, allow_pickle=False, **{SCHEDULER: table, "missing": np.array([["X", "not linear"]])})
    return file.getvalue()
