"""Malformed requests: bytes for gRPC methods, and bytes for the port itself."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import grpc
import numpy as np
from relay_inputs import relay_messages, relayed_shares
from victim import SERVICE, serialised

from ppidm.protocol.messages import Tensor
from ppidm.protocol.relay_messages import CLOSE, CONNECT, OPEN, SHOW, STREAM
from ppidm.protocol.relay_messages import SERVICE as RELAY

if TYPE_CHECKING:
    from collections.abc import Callable

    from victim import Victim

    from ppidm.protocol.records import Subgraph

METHODS = tuple(SERVICE + name for name in (
    *["ModelInfer"] * 3, "ModelMetadata", "ModelReady", "ServerMetadata", "ServerLive", "ServerReady", "ModelConfig",
    "ModelStatistics", "RepositoryIndex", "RepositoryModelLoad", "SystemSharedMemoryRegister", "LogSettings", "NoSuchMethod",
))  # fmt: skip
RELAY_METHODS = tuple(f"/{RELAY}/{name}" for name in (OPEN, CONNECT, STREAM, SHOW, CLOSE, "NoSuchMethod"))
TENSORS = (
    "masked", "seed", "shape", "answer_0", "session", "tickets", "ticket", "relayed_0", "token_digests", "signers", "", "x" * 300,
)  # fmt: skip
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HANG_SECONDS = 20
SIZES = (0, 1, -1, 3, 16, 2**31 - 1, 2**31, 2**63 - 1, -(2**63), 1 << 27, (1 << 27) + 1)


def random_tensor(rng: np.random.Generator) -> Tensor:
    """A tensor that may be anything, often nearly right."""
    name = str(rng.choice(TENSORS))
    datatype = str(rng.choice(["UINT8", "INT32", "INT64", "FP32", "BYTES", ""]))
    shape = tuple(int(rng.choice(SIZES)) for _ in range(rng.integers(0, 10)))
    return Tensor(name, datatype, shape, rng.bytes(int(rng.choice([0, 1, 8, 16, 32, 33, 448]))))


def random_body(rng: np.random.Generator, slices: tuple[Subgraph, ...]) -> bytes:
    """A serialised request: of random tensors, of huge shapes, mutated, cut, or noise."""
    subgraph = slices[rng.integers(len(slices))]
    shape = tuple(int(rng.choice([size, *SIZES])) for size in subgraph.nominal_shape)
    content = np.array(shape, "<i8").tobytes()
    dealt = [Tensor("seed", "UINT8", (32,), rng.bytes(32)), Tensor("shape", "INT64", (len(shape),), content)]
    kind = rng.integers(5)
    if kind == 0:
        return rng.bytes(int(rng.integers(0, 300)))
    if kind == 1:
        return serialised(subgraph.name, [random_tensor(rng) for _ in range(rng.integers(0, 4))])
    body = bytearray(serialised(subgraph.name, dealt))
    if kind == 2:  # noqa: PLR2004
        for _ in range(rng.integers(1, 6)):
            body[rng.integers(len(body))] = rng.integers(256)
    if kind == 3:  # noqa: PLR2004
        return bytes(body[: rng.integers(len(body))])
    return bytes(body)


def damaged_session(rng: np.random.Generator) -> bytes:
    """A message of relay mode for any of its methods: whole, mutated or cut."""
    body = bytearray(rng.choice(np.array(relay_messages() + relayed_shares(), object)))
    for _ in range(rng.integers(0, 4)):
        body[rng.integers(len(body))] = rng.integers(256)
    return bytes(body[: rng.integers(len(body))] if rng.random() < 0.2 else body)  # noqa: PLR2004


def random_stream(rng: np.random.Generator) -> bytes:
    """Bytes for the port: noise, HTTP/1, TLS, or HTTP/2 frames of any type and length."""
    kind = rng.integers(5)
    if kind == 0:
        return rng.bytes(int(rng.integers(1, 400)))
    if kind == 1:
        return b"POST /inference HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n" + rng.bytes(50)
    if kind == 2:  # noqa: PLR2004
        return b"\x16\x03\x01\xff\xff\x01" + rng.bytes(200)
    frames = [random_frame(rng) for _ in range(rng.integers(1, 8))]
    return HTTP2_PREFACE + b"".join(frames)


def random_frame(rng: np.random.Generator) -> bytes:
    """An HTTP/2 frame; its length may lie."""
    payload = rng.bytes(int(rng.integers(0, 40)))
    length = len(payload) if rng.random() < 0.8 else int(rng.integers(2**24))  # noqa: PLR2004
    head = length.to_bytes(3, "big") + bytes([rng.integers(12), rng.integers(256)])
    return head + int(rng.integers(2**32)).to_bytes(4, "big") + payload


class Attacker:
    """Sends malformed requests to a victim and notes the kinds of refusal."""

    def __init__(self, victim: Victim, rng: np.random.Generator) -> None:
        self._victim, self._rng, self._slices = victim, rng, victim.manifest.slices
        self.codes: dict[str, int] = {}
        self.hangs = 0

    def call_methods(self, count: int) -> None:
        """Raw bytes to methods, through gRPC."""
        with grpc.insecure_channel(self._victim.address, [("grpc.max_receive_message_length", -1)]) as channel:
            names = METHODS + RELAY_METHODS
            calls: dict[str, Callable[..., bytes]] = {name: channel.unary_unary(name) for name in names}
            for _ in range(count):
                name = str(self._rng.choice(names))
                body = damaged_session(self._rng) if name in RELAY_METHODS else random_body(self._rng, self._slices)
                self._note(calls[name], body)

    def _note(self, call: Callable[..., bytes], body: bytes) -> None:
        try:
            call(body, timeout=HANG_SECONDS)
            code = "OK"
        except grpc.RpcError as error:
            code = error.code().name
        self.codes[code] = self.codes.get(code, 0) + 1
        self.hangs += code == "DEADLINE_EXCEEDED"

    def write_streams(self, count: int) -> None:
        """Bytes to the port, read until it closes or is silent."""
        host, _, port = self._victim.address.rpartition(":")
        for _ in range(count):
            with socket.create_connection((host, int(port)), HANG_SECONDS) as link:
                link.settimeout(0.02)
                try:
                    link.sendall(random_stream(self._rng))
                    while link.recv(1 << 16):
                        pass
                except OSError:  # closed, or nothing more to say
                    continue
