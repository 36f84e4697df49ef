"""The transport: a service of models over gRPC.

Every method is served as if its requests were a stream, which looks the same on the wire: so a handler runs before a
message is read, and decides whether and when it is (`calls`). Methods whose requests hold nothing never read them; they
have threads of their own, so that health checks do not wait for requests.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import grpc

from ppidm.protocol.address import Address
from ppidm.runtime.calls import Calls
from ppidm.runtime.limits import Admission, Limits
from ppidm.runtime.links import LOOPBACK, Gate, LinkSettings, bind
from ppidm.runtime.log import forwarding
from ppidm.runtime.methods import Methods
from ppidm.runtime.peers import AllowedPeers, Peers
from ppidm.runtime.relay_methods import RelayMethods
from ppidm.runtime.relays import Relays

if TYPE_CHECKING:
    from collections.abc import Iterator

    from structlog.typing import FilteringBoundLogger

    from ppidm.runtime.service import Service

GRACE_SECONDS = 10.0  # for requests in flight when the server is stopped
STREAMS = 64  # calls at once on one connection; a client holds back more
_UNREAD_BYTES = 1 << 19  # of a message that nobody reads yet; the rest of it comes when somebody does
_QUICK_THREADS = 16  # for methods that read nothing
_REFUSING_THREADS = 64  # for calls that are being refused
_DEFAULT = Limits()
LOOPBACK_PEERS = AllowedPeers()


def _options(limits: Limits, largest_message: int) -> list[tuple[str, int]]:
    seconds = 1000
    return [
        ("grpc.max_receive_message_length", largest_message),
        ("grpc.max_send_message_length", -1),  # the size of an answer follows from that of its request
        ("grpc.so_reuseport", 0),  # a port in use is an error, not a second server that gets half of the requests
        ("grpc.max_concurrent_streams", STREAMS),
        ("grpc.http2.lookahead_bytes", _UNREAD_BYTES),
        (
            "grpc.http2.bdp_probe",
            0,
        ),  # or unread bytes would be as many as fit the link (measured: whole messages of 2 MB)
        ("grpc.max_allowed_incoming_connections", limits.connections),
        ("grpc.server_handshake_timeout_ms", 10 * seconds),
        ("grpc.http2.settings_timeout", 10 * seconds),
        ("grpc.max_connection_idle_ms", 300 * seconds),
        ("grpc.keepalive_time_ms", 30 * seconds),  # who does not answer a ping has gone, or reads nothing
        ("grpc.keepalive_timeout_ms", 20 * seconds),
        ("grpc.compression_enabled_algorithms_bitset", 1),  # none: a small message would become a large one
    ]


@contextmanager
def running(
    service: Service,
    address: Address,
    workers: int,
    log: FilteringBoundLogger,
    links: LinkSettings = LOOPBACK,
    limits: Limits = _DEFAULT,
    allowed: AllowedPeers = LOOPBACK_PEERS,
) -> Iterator[Address]:
    """Serve until the block ends; then refuse new requests, and finish those in flight (at most `GRACE_SECONDS`).

    Args:
        service: the models.
        address: numeric; port 0 picks a free one.
        workers: requests that are computed at once.
        log: see `Methods`.
        links: certificates and tokens; by default none, for loopback.
        limits: sizes, memory, time.
        allowed: peers of relay mode; by default those on loopback.

    Yields:
        The address with the real port.

    Raises:
        InputError: the port is in use.
    """
    admission = Admission(limits, workers)
    largest = service.largest_message(limits)
    relays, peers = Relays(admission, largest), Peers(allowed, links, limits.seconds)
    threads = limits.requests + _REFUSING_THREADS
    with (
        forwarding("grpc", log),
        ThreadPoolExecutor(threads, "request") as pool,
        ThreadPoolExecutor(_QUICK_THREADS, "quick") as quick,
        closing(peers),
        Calls(admission, relays.purge) as calls,
    ):
        server = grpc.server(
            pool,
            None,
            [Gate(links, relays.knows)],
            _options(limits, largest),
            maximum_concurrent_rpcs=threads + _QUICK_THREADS,
        )
        server.add_generic_rpc_handlers(
            Methods(service, log, calls, largest, quick, RelayMethods(service, relays, peers)).handlers()
        )
        port = bind(server, address, links)
        server.start()
        try:
            yield Address(address.host, port)
        finally:
            server.stop(GRACE_SECONDS).wait()
