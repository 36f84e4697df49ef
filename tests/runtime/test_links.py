"""A client that a server does not know gets nothing, whatever it asks for."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress

import grpc
import pytest
from link_servers import channel_to, make_credentials, serving, tls
from tritonclient.grpc import service_pb2 as pb

from ppidm.protocol.relay_messages import CLOSE, CONNECT, OPEN, SHOW, STREAM
from ppidm.protocol.relay_messages import SERVICE as RELAY

TIMEOUT = 10
SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
METHODS = [f"/{SERVICE.full_name}/{method.name}" for method in SERVICE.methods] + [
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/ppidm.NoSuchService/NoSuchMethod",
    *(f"/{RELAY}/{method}" for method in (OPEN, CONNECT, STREAM, SHOW, CLOSE)),
]
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_credentials(tmp_path_factory.mktemp("links"))


@pytest.fixture(scope="module")
def mutual(made, package):
    """A server that knows its clients by certificate."""
    with serving(package.directory, made.folder, *tls(made.evaluator), "--client-ca", made.clients) as server:
        yield server.address


@pytest.fixture(scope="module")
def token_server(made, package):
    """A server that knows its clients by token."""
    with serving(package.directory, made.folder, *tls(made.evaluator), "--token-file", made.digests) as server:
        yield server


@pytest.fixture
def with_tokens(token_server):
    return token_server.address


@pytest.fixture(scope="module")
def plain_with_tokens(made, package):
    with serving(package.directory, made.folder, "--token-file", made.digests) as server:
        yield server.address


def ask(channel, method, token=None):
    """The first answer to an empty message, or the status of the refusal."""
    metadata = () if token is None else (("authorization", token),)
    call = channel.stream_stream(method)(iter([b""]), timeout=TIMEOUT, metadata=metadata)
    try:
        return next(call, b"")
    except grpc.RpcError as error:
        return error.code()
    finally:
        call.cancel()


def test_there_are_methods():
    assert {"ServerMetadata", "ModelInfer", "ModelStreamInfer"} <= {method.name for method in SERVICE.methods}
    assert len(METHODS) > 20


@pytest.mark.parametrize("method", METHODS)
def test_without_a_certificate_nothing(mutual, made, method):
    for client in (None, made.stranger, made.expired):
        with channel_to(mutual, made.evaluator, client) as channel:
            assert ask(channel, method) is grpc.StatusCode.UNAVAILABLE
    with channel_to(mutual, made.evaluator, made.client) as channel:
        assert ask(channel, method) not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED)


@pytest.mark.parametrize("method", METHODS)
def test_without_a_token_nothing(with_tokens, made, method):
    token = made.token("alice")
    wrong = [None, "", "Bearer ", "Bearer", token, f"bearer {token}", f"Basic {token}", f"Bearer {token[:-1]}"]
    wrong += [f"Bearer {token}x", f"Bearer  {token}", f"Bearer {made.token('mallory')}", f"Bearer {token}, x"]
    wrong += [f"Bearer {made.digests.read_text().split()[0]}"]  # of the operator's file
    with channel_to(with_tokens, made.evaluator) as channel:
        assert {ask(channel, method, value) for value in wrong} == {grpc.StatusCode.UNAUTHENTICATED}
        assert ask(channel, method, f"Bearer {token}") is not grpc.StatusCode.UNAUTHENTICATED


def test_a_token_on_loopback(plain_with_tokens, made):
    with channel_to(plain_with_tokens, None) as channel:
        assert ask(channel, METHODS[0]) is grpc.StatusCode.UNAUTHENTICATED
        assert (
            ask(channel, METHODS[0], f"Bearer {made.token('alice')}")
            == pb.ServerLiveResponse(live=True).SerializeToString()
        )


def test_a_refusal_reads_no_message(with_tokens, made):
    """Who is unknown cannot make the server hold a large one: the call ends while the client is still to send it."""

    def late():
        waiting.recv(1)
        yield b""

    sending, waiting = socket.socketpair()
    with sending, waiting, channel_to(with_tokens, made.evaluator) as channel:
        call = channel.stream_stream(METHODS[0])(late(), timeout=TIMEOUT)
        assert call.code() is grpc.StatusCode.UNAUTHENTICATED
        assert "no valid bearer token" in call.details()
        sending.send(b"\0")


# TLS by itself


def talk(address, *, newest=ssl.TLSVersion.TLSv1_3, client=None):
    """What a server says over TLS to a client that starts HTTP/2."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = newest
    context.set_alpn_protocols(["h2"])
    if client is not None:
        context.load_cert_chain(client.certificate, client.key)
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), TIMEOUT) as plain,
        context.wrap_socket(plain, server_hostname=host) as link,
    ):
        link.sendall(PREFACE)
        return link.version(), link.recv(1024)


def test_tls_1_3_and_nothing_older(token_server):
    version, said = talk(token_server.address)
    assert (version, said != b"") == ("TLSv1.3", True)
    before = token_server.log.read_text().count("NO_SHARED_CIPHER")
    with pytest.raises(OSError, match=r"UNEXPECTED_EOF|HANDSHAKE_FAILURE|reset by peer"):
        talk(token_server.address, newest=ssl.TLSVersion.TLSv1_2)
    assert token_server.log.read_text().count("NO_SHARED_CIPHER") == before + 1


@pytest.mark.parametrize("client", [None, "stranger", "expired"])
def test_a_server_says_nothing_to_whom_it_does_not_know(mutual, made, client):
    said = b""
    with suppress(OSError):
        said = talk(mutual, client=getattr(made, client) if client else None)[1]
    assert said == b""
    assert talk(mutual, client=made.client)[1] != b""


def test_a_server_of_tls_says_nothing_in_the_clear(with_tokens):
    host, _, port = with_tokens.rpartition(":")
    said = b""
    with suppress(OSError), socket.create_connection((host, int(port)), TIMEOUT) as plain:
        plain.sendall(PREFACE)
        said = plain.recv(1024)
    assert said[:1] in (b"", b"\x15")  # nothing, or an alert
