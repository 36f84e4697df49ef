"""Servers with TLS, client certificates or tokens; and what they know each other by."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from made_certificates import EXPIRED, Made, certificate

from ppidm.keys import make_token_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Credentials:
    """Of servers, of a client that they know, and of clients that they do not."""

    folder: Path
    evaluator: Made
    dealer: Made
    client: Made
    stranger: Made
    expired: Made  # the servers know it, but not any more

    @property
    def clients(self) -> Path:
        return self.folder / "clients.pem"

    @property
    def digests(self) -> Path:
        return self.folder / "tokens.sha256"

    def token(self, name: str) -> str:
        """Of "alice", whom servers know, or of "mallory"."""
        path = self.folder / f"{name}.token"
        if not path.exists():
            make_token_files(self.folder if name == "alice" else self.folder / "elsewhere", name)
            path = path if name == "alice" else (self.folder / "elsewhere" / f"{name}.token").rename(path)
        return path.read_text().strip()


def make_credentials(folder: Path) -> Credentials:
    client, expired = certificate(folder, "client", hosts=()), certificate(folder, "gone", hosts=(), valid=EXPIRED)
    made = Credentials(
        folder,
        evaluator=certificate(folder, "evaluator"),
        dealer=certificate(folder, "dealer"),
        client=client,
        stranger=certificate(folder, "stranger", hosts=()),
        expired=expired,
    )
    made.clients.write_bytes(expired.certificate.read_bytes() + client.certificate.read_bytes())
    made.token("alice")
    return made


@dataclass
class Serving:
    address: str
    log: Path


@contextmanager
def serving(directory: Path, folder: Path, *options: object, listen: str = "127.0.0.1:0") -> Iterator[Serving]:
    """`ppidm serve` with options; its log is kept in `folder`. It must end well."""
    log = folder / f"log-{len(list(folder.glob('log-*')))}"
    command = [sys.executable, "-W", "error", "-m", "ppidm", "serve", directory, "--listen", listen, *options]
    with (
        log.open("w") as stderr,
        subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("listening on "), log.read_text()
            yield Serving(line.removeprefix("listening on ").strip(), log)
        finally:
            process.terminate()
            assert process.wait(30) == 0, log.read_text()


def tls(made: Made) -> tuple[object, ...]:
    """Options of a server."""
    return "--tls-cert", made.certificate, "--tls-key", made.key


@contextmanager
def channel_to(address: str, server: Made | None, client: Made | None = None) -> Iterator[grpc.Channel]:
    """A channel that knows nothing of ppidm."""
    options = [("grpc.enable_http_proxy", 0)]
    if server is None:
        channel = grpc.insecure_channel(address, options)
    else:
        pair = (client.key.read_bytes(), client.certificate.read_bytes()) if client else (None, None)
        credentials = grpc.ssl_channel_credentials(server.certificate.read_bytes(), *pair)
        channel = grpc.secure_channel(address, credentials, options)
    with channel:
        yield channel
