"""Who may connect: TLS, client certificates, bearer tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

from ppidm.protocol.address import Address, loopback_address
from ppidm.protocol.certificates import load_identity, parse_certificates, read_key_file
from ppidm.protocol.errors import InputError
from ppidm.protocol.relay_messages import SERVICE, SESSION_METADATA, STREAM
from ppidm.protocol.tls import require_tls_1_3
from ppidm.protocol.tokens import load_token_digests, token_is_known

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_SCHEME = "Bearer "


@dataclass(frozen=True)
class LinkSettings:
    """How clients reach a server.

    Args:
        tls_cert: the server's certificate, PEM.
        tls_key: its elliptic-curve key, PEM.
        client_ca: certificates of clients that may connect (or of who signs them), PEM.
        token_file: SHA-256 of bearer tokens that clients may use, one per line.

    Raises:
        InputError: half of a pair.
    """

    tls_cert: Path | None = None
    tls_key: Path | None = None
    client_ca: Path | None = None
    token_file: Path | None = None

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise InputError("--tls-cert and --tls-key go together; one of them is missing")
        if self.client_ca is not None and self.tls_cert is None:
            raise InputError("--client-ca needs TLS; give --tls-cert and --tls-key too (see `ppidm keys server`)")


LOOPBACK = LinkSettings()


def listen_address(address: Address, links: LinkSettings) -> Address:
    """Where to listen: loopback, or anywhere if clients are known and the link is encrypted.

    Raises:
        InputError: an address outside of loopback without TLS, or open to everybody.
    """
    if links.tls_cert is None:
        return loopback_address(address, "give --tls-cert and --tls-key (`ppidm keys server` makes them)")
    if links.client_ca is None and links.token_file is None:
        return loopback_address(address, "give --client-ca or --token-file too: a server must know its clients")
    return address


def require_usable(links: LinkSettings) -> None:
    """Fail now, not after minutes of loading, where certificates or tokens are of no use.

    Raises:
        InputError: see `bind` and `Gate`.
    """
    _credentials(links)
    Gate(links)


def bind(server: grpc.Server, address: Address, links: LinkSettings) -> int:
    """Add the port to a gRPC server; returns its number.

    Raises:
        InputError: bad certificates, or the port is in use.
    """
    credentials = _credentials(links)
    try:
        if credentials is None:
            return int(server.add_insecure_port(str(address)))
        return int(server.add_secure_port(str(address), credentials))
    except RuntimeError as error:
        raise InputError(f"cannot listen on {address}: gRPC could not bind it; is the port in use?") from error


def _credentials(links: LinkSettings) -> grpc.ServerCredentials | None:
    if links.tls_cert is None or links.tls_key is None:
        return None
    require_tls_1_3()
    identity = load_identity(links.tls_cert, links.tls_key)
    clients = None
    if links.client_ca is not None:
        clients = read_key_file(links.client_ca)
        parse_certificates(clients, str(links.client_ca))
    return grpc.ssl_server_credentials([(identity.key, identity.certificate)], clients, clients is not None)


class Gate(grpc.ServerInterceptor):  # type: ignore[misc]
    """Lets a call through, whatever its method, if its token is known, or if this server asks for none.

    Args:
        links: which tokens are known.
        is_expected: whether a dealer's stream with this session and one-time token is; the client who opened the session
            was known.

    Raises:
        InputError: a bad file of tokens.
    """

    def __init__(self, links: LinkSettings, is_expected: Callable[[str, str], bool] = lambda _s, _t: False) -> None:
        self._is_expected = is_expected
        self._digests = None if links.token_file is None else load_token_digests(links.token_file)

    def intercept_service(self, continuation: Callable[..., Any], details: Any) -> Any:  # noqa: ANN401
        """Refuse, or go on."""
        metadata = dict(details.invocation_metadata)
        if self._digests is not None and not self._is_known(metadata) and not self._is_stream(details, metadata):
            return _refusal("no valid bearer token")
        return continuation(details)

    def _is_stream(self, details: Any, metadata: dict[str, Any]) -> bool:  # noqa: ANN401
        session, token = str(metadata.get(SESSION_METADATA, "")), str(metadata.get("authorization", ""))
        return details.method == f"/{SERVICE}/{STREAM}" and self._is_expected(session, token.removeprefix(_SCHEME))

    def _is_known(self, metadata: dict[str, Any]) -> bool:
        value = str(metadata.get("authorization", ""))
        return value.startswith(_SCHEME) and token_is_known(value.removeprefix(_SCHEME), self._digests or frozenset())


def _refusal(message: str) -> grpc.RpcMethodHandler:
    """As a stream, so that a call of any kind is refused before its message is read."""

    def refuse(_requests: Any, context: grpc.ServicerContext) -> None:  # noqa: ANN401
        context.abort(grpc.StatusCode.UNAUTHENTICATED, message)

    return grpc.stream_stream_rpc_method_handler(refuse)
