"""What the client makes of servers that are not those that it means, or not as they should be."""

from __future__ import annotations

import socket
import ssl
import time
from threading import Thread

import grpc
import pytest
from made_certificates import EXPIRED, LATER, certificate, context_of, tls_server
from tap import HANDSHAKE, streams, tapping, tls_records

from ppidm.client.links import LinkSettings, open_link
from ppidm.protocol.address import parse_address
from ppidm.protocol.errors import PeerError
from ppidm.protocol.tokens import make_token

TIMEOUT = 5.0
TLS_1_2 = ssl.TLSVersion.TLSv1_2
PIN = "ab" * 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def good(folder):
    return certificate(folder, "good")


@pytest.fixture(scope="module")
def client(folder):
    return certificate(folder, "canary-client", hosts=())


@pytest.fixture
def own(tmp_path, client):
    """A client's own files, and the strings that they hold."""
    token = make_token()
    (tmp_path / "token").write_text(token)
    return {"tls_cert": client.certificate, "tls_key": client.key, "token_file": tmp_path / "token"}, token


def open_to(address, *pins, **settings):
    return open_link(parse_address(address), LinkSettings(pins, **settings), TIMEOUT)


def refused(address, *pins, **settings):
    with pytest.raises(PeerError) as info:
        open_to(address, *pins, **settings)
    assert info.value.exit_status == 4
    return str(info.value)


def call(link):
    """The status of a call of gRPC's to a server that speaks none."""
    with link.channel, pytest.raises(grpc.RpcError) as info:
        link.channel.unary_unary("/x/Y")(b"", timeout=TIMEOUT)
    return info.value.code()


# servers


def test_a_server_with_the_pinned_certificate(good):
    with tls_server(context_of(good)) as server:
        link = open_to(server.address, good.pin(server.address))
        call(link)
    assert link.certificate == good.fingerprint
    assert set(server.versions) == {"TLSv1.3"}
    assert server.heard[1].startswith(b"PRI * HTTP/2")


def test_an_impostor_gets_a_client_hello_and_nothing_else(folder, good, client, own, tmp_path):
    """Same host, port and name, another key; it asks for the client's certificate, too."""
    settings, token = own
    context = context_of(impostor := certificate(folder, "impostor"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(client.certificate)
    with tls_server(context) as server, tapping(server.address, tmp_path) as address:
        message = refused(address, good.pin(address), **settings)
    assert f"has the certificate {impostor.fingerprint}, and {good.fingerprint} is pinned" in message
    assert server.heard == []
    [sent] = streams(tmp_path, "sent")
    assert [kind for kind, _ in tls_records(sent)] == [HANDSHAKE]
    assert token not in message


def test_the_pinned_server_gets_the_clients_certificate(good, client, own, tmp_path):
    """So the test above could fail."""
    context = context_of(good)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(client.certificate)
    with tls_server(context) as server, tapping(server.address, tmp_path) as address:
        open_to(address, good.pin(address), **own[0]).channel.close()
    [sent] = streams(tmp_path, "sent")
    assert len(tls_records(sent)) > 1
    assert server.failures == []


@pytest.mark.parametrize("valid", [EXPIRED, LATER])
def test_a_certificate_of_another_time(folder, valid):
    made = certificate(folder, f"other-time-{valid is EXPIRED}", valid=valid)
    with tls_server(context_of(made)) as server:
        message = refused(server.address, made.pin(server.address))
    start, end = made.parsed.not_valid_before_utc, made.parsed.not_valid_after_utc
    assert f"server {server.address}: the certificate is valid from {start:%Y-%m-%d} to {end:%Y-%m-%d}" in message


def test_an_rsa_certificate(folder):
    made = certificate(folder, "rsa", kind="rsa")
    with tls_server(context_of(made)) as server:
        message = refused(server.address, made.pin(server.address))
    assert "a key of kind RSA; expected an elliptic-curve key" in message


def test_a_server_of_tls_1_2(good):
    with tls_server(context_of(good, TLS_1_2)) as server:
        message = refused(server.address, good.pin(server.address))
    assert f"no TLS 1.3 with the server at {server.address} (TLSV1_ALERT_PROTOCOL_VERSION)" in message
    assert server.versions == []


def test_grpc_refuses_tls_1_2_by_itself(good):
    """The first handshake is of TLS 1.3, and gRPC's own is answered by 1.2: who alters it in between gains nothing."""
    with tls_server(context_of(good), context_of(good, TLS_1_2)) as server:
        link = open_to(server.address, good.pin(server.address))
        assert call(link) is grpc.StatusCode.UNAVAILABLE
    assert server.versions == ["TLSv1.3"]
    assert any("NO_SHARED_CIPHER" in failure for failure in server.failures)


def test_grpc_checks_the_certificate_by_itself(folder, good):
    """The first handshake is with the pinned server, and gRPC's own is not."""
    with tls_server(context_of(good), context_of(certificate(folder, "second"))) as server:
        link = open_to(server.address, good.pin(server.address))
        assert call(link) is grpc.StatusCode.UNAVAILABLE
    assert server.heard[1:] == []


def test_a_server_without_tls(good):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=answer_plainly, args=(listener,))
        thread.start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        message = refused(address, good.pin(address))
        thread.join()
    assert f"no TLS 1.3 with the server at {address}" in message
    assert "does it run `ppidm serve --tls-cert F --tls-key F`?" in message


def answer_plainly(listener):
    connection, _ = listener.accept()
    with connection:
        connection.recv(1 << 16)
        connection.sendall(b"\0\0\0\4\0\0\0\0\0")  # SETTINGS of HTTP/2


def test_a_silent_server(good):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address, started = f"127.0.0.1:{listener.getsockname()[1]}", time.monotonic()
        with pytest.raises(PeerError, match=r"cannot reach the server at 127\.0\.0\.1:\d+ \(timed out\)"):
            open_link(parse_address(address), LinkSettings((good.pin(address),)), 0.3)
    assert time.monotonic() - started < 3


def test_no_server(good):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    assert "Connection refused); is `ppidm serve` running there?" in refused(address, good.pin(address))
