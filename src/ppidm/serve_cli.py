"""`ppidm serve`: its options, parsed into frozen settings."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (typer reads annotations)
from typing import Annotated, Literal

import typer

from ppidm.options import Cache, Signer, import_late, setting


def serve(
    directory: Annotated[Path, typer.Argument(help="OUT/server-<i> of `ppidm export`.")],
    *,
    listen: Annotated[
        str, setting("LISTEN", "HOST:PORT; outside of loopback with TLS only. Port 0 picks one.")
    ] = "127.0.0.1:8001",
    tls_cert: Annotated[Path | None, setting("TLS_CERT", "This server's certificate, PEM; see `ppidm keys`.")] = None,
    tls_key: Annotated[Path | None, setting("TLS_KEY", "Its elliptic-curve key, PEM.")] = None,
    client_ca: Annotated[
        Path | None, setting("CLIENT_CA", "Certificates of clients that may connect, PEM; others get nothing.")
    ] = None,
    token_file: Annotated[
        Path | None, setting("TOKEN_FILE", "SHA-256 of bearer tokens, one a line; who has none of them gets nothing.")
    ] = None,
    engine: Annotated[
        Literal["onnxruntime", "onnxruntime-cuda", "tensorrt", "tensorrt-rtx"],
        setting("ENGINE", "What computes. The last two load what `ppidm build` compiled. None stands in for another."),
    ] = "onnxruntime",
    cache: Cache = None,
    threads: Annotated[int, setting("THREADS", "Threads per request; 0: one per core.")] = 0,
    workers: Annotated[int, setting("WORKERS", "Requests computed at once.")] = 4,
    allow_peer: Annotated[
        list[str],
        setting(
            "ALLOW_PEER",
            "HOST:PORT or SHA256 of a certificate: a server outside of loopback with which this one may relay. Repeatable; "
            "in the variable, by spaces.",
        ),
    ] = [],  # noqa: B006  (typer copies it)
    signer: Signer = None,
    max_scale: Annotated[
        int, setting("MAX_SCALE", "Largest input, in elements, relative to the model's own picture size.")
    ] = 64,
    memory: Annotated[int, setting("MEMORY", "MiB for all requests together, beyond the loaded slices.")] = 4096,
    max_requests: Annotated[int, setting("MAX_REQUESTS", "Requests read, computed or answered at once.")] = 128,
    max_client_requests: Annotated[
        int, setting("MAX_CLIENT_REQUESTS", "The same for one client (an IP address; an IPv6 /64).")
    ] = 64,
    max_connections: Annotated[int, setting("MAX_CONNECTIONS", "Connections at once; more are closed.")] = 256,
    max_seconds: Annotated[
        float, setting("MAX_SECONDS", "From the start of a request until its answer has been taken.")
    ] = 120.0,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], setting("LOG_LEVEL", "debug: every request, never its content.")
    ] = "info",
) -> None:
    """Serve the slices of a package over the Open Inference Protocol (KServe v2, gRPC).

    [cyan]ppidm serve package/server-0 --listen 127.0.0.1:8001[/]

    [cyan]ppidm serve package/server-0 --listen 0.0.0.0:8001 --token-file tokens.sha256
        --tls-cert server.pem --tls-key server.key[/]

    Prints `listening on HOST:PORT` when ready; logs go to stderr. A server has no
    fixed role: each request makes it an evaluator (masked activations) or a
    dealer (a seed). On SIGTERM and Ctrl-C it finishes what it has begun.

    Outside of loopback it needs TLS (1.3, nothing older) and --client-ca or
    --token-file; `ppidm keys` makes all of it.

    Its memory stays below that of the loaded slices plus --memory plus 256 MiB,
    whatever clients do. One client gets at most half of it.

    Needs the extra `server`; for a GPU `server-rtx` or `server-gpu`.
    """
    server = import_late("ppidm.runtime.server", "server")
    address = import_late("ppidm.protocol.address", "server").parse_address(listen)
    links = import_late("ppidm.runtime.links", "server").LinkSettings(tls_cert, tls_key, client_ca, token_file)
    limits = import_late("ppidm.runtime.limits", "server").Limits(
        max_scale, memory << 20, max_requests, max_client_requests, max_connections, max_seconds
    )
    server.serve(
        server.ServeSettings(
            directory=directory,
            listen=address,
            threads=threads,
            workers=workers,
            log_level=log_level,
            links=links,
            limits=limits,
            signer=signer,
            engine=import_late("ppidm.engines.choice", "server").EngineChoice(engine, cache),
            allowed=import_late("ppidm.runtime.peers", "server").AllowedPeers(tuple(allow_peer)),
        )
    )
