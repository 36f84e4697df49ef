"""--ca: what has to vouch for a server besides its pin."""

from __future__ import annotations

import grpc
import pytest
from made_certificates import certificate, context_of, tls_server

from ppidm.client.links import LinkSettings, open_link
from ppidm.protocol.address import parse_address
from ppidm.protocol.errors import InputError, PeerError

TIMEOUT = 5.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def good(folder):
    return certificate(folder, "good")


def open_to(address, pin, ca=None):
    return open_link(parse_address(address), LinkSettings((pin,), ca), TIMEOUT)


def refused(address, pin, ca):
    with pytest.raises(PeerError) as info:
        open_to(address, pin, ca)
    return str(info.value)


def call(link):
    """gRPC's own handshake; these servers answer nothing."""
    with link.channel, pytest.raises(grpc.RpcError):
        link.channel.unary_unary("/x/Y")(b"", timeout=TIMEOUT)


def test_a_certificate_that_an_authority_signed(folder):
    authority = certificate(folder, "authority", hosts=(), authority=True)
    leaf = certificate(folder, "leaf", issuer=authority)
    with tls_server(context_of(leaf)) as server:
        for ca in (authority.certificate, None):
            call(open_to(server.address, leaf.pin(server.address), ca))
    assert [said[:3] for said in server.heard] == [b"", b"PRI"] * 2  # gRPC trusts the leaf itself
    assert server.failures == []


def test_an_authority_that_does_not_vouch(folder, good):
    other = certificate(folder, "other-authority", hosts=())
    with tls_server(context_of(good)) as server:
        message = refused(server.address, good.pin(server.address), other.certificate)
    assert "(--ca) do not vouch for the server at 127.0.0.1" in message


def test_a_certificate_of_another_host(folder):
    made = certificate(folder, "elsewhere", hosts=("gpu.example.org", "192.0.2.1"))
    with tls_server(context_of(made)) as server:
        message = refused(server.address, made.pin(server.address), made.certificate)
        link = open_to(server.address, made.pin(server.address))  # the pin says whose it is, wherever it is
        call(link)
    assert server.heard[-1].startswith(b"PRI * HTTP/2")
    assert "IP address mismatch, certificate is not valid for '127.0.0.1'" in message


@pytest.mark.parametrize("content", [None, "nothing"])
def test_a_bad_file_of_authorities(good, tmp_path, content):
    if content:
        (tmp_path / "ca").write_text(content)
    with pytest.raises(InputError, match=r"--ca .*; expected certificates, PEM"):
        open_to("127.0.0.1:1", good.pin("127.0.0.1:1"), tmp_path / "ca")
