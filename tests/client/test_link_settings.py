"""Settings of links that a client refuses before anything is sent, and what they show of secrets."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_certificates import certificate, context_of, tls_server

from ppidm.client.links import LOOPBACK, LinkSettings, open_link
from ppidm.client.servers import connect
from ppidm.protocol.address import parse_address
from ppidm.protocol.errors import InputError
from ppidm.protocol.tokens import make_token

TIMEOUT = 5.0
PIN = "ab" * 32


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("certificates"), "good")


@pytest.mark.parametrize("address", ["192.0.2.1:8001", "[2001:db8::1]:8001", "0.0.0.0:8001"])
def test_outside_of_loopback_a_pin_is_needed(address):
    with pytest.raises(InputError, match=r"expected a loopback address.*give --pin HOST:PORT=SHA256"):
        open_link(parse_address(address), LOOPBACK, TIMEOUT)


def test_nothing_is_sent_to_a_pinned_server_if_another_has_no_pin(good):
    """On loopback neither: a mistyped pin must not mean no TLS."""
    with tls_server(context_of(good)) as server:
        links = LinkSettings((good.pin(server.address),))
        with pytest.raises(InputError, match=r"no pin for 127\.0\.0\.1:1, but for others"):
            connect(server.address, ["127.0.0.1:1"], "package", TIMEOUT, links)
    assert (server.versions, server.failures) == ([], [])


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"pins": ("127.0.0.1:1=12",)}, "pin '127.0.0.1:1=12'; expected HOST:PORT=SHA256"),
        ({"pins": (f"127.0.0.1={PIN}",)}, "address '127.0.0.1'; expected HOST:PORT"),
        ({"pins": (f"a:1={PIN}", f"a:1={PIN[::-1]}")}, "two pins for a:1; expected one per server"),
        ({"pins": (f"a:1={PIN}", f"b:1={PIN}")}, "b:1 and a:1 have one pin; expected a certificate of its own"),
        ({"tls_cert": Path("c")}, "--tls-cert and --tls-key go together"),
        ({"tls_key": Path("k"), "pins": (f"a:1={PIN}",)}, "--tls-cert and --tls-key go together"),
        ({"ca": Path("c")}, "--ca or --tls-cert without a pin"),
    ],
)
def test_bad_settings(settings, error):
    with pytest.raises(InputError, match=r"^.*") as info:
        LinkSettings(**settings)
    assert error in str(info.value)


def test_one_certificate_for_two_servers_under_two_pins(good):
    """Named by two names of one address, so that the pins differ in nothing else."""
    with tls_server(context_of(good)) as server:
        port = server.address.rpartition(":")[2]
        pins = good.pin(server.address), good.pin(f"localhost:{port}")
        with pytest.raises(InputError, match="have one pin"):
            LinkSettings(pins)


def test_pins_may_be_written_as_openssl_does():
    shown = ":".join(PIN[i : i + 2] for i in range(0, 64, 2)).upper()
    links = LinkSettings((f"[::1]:5=sha256:{shown}",))
    assert links.pin_of == {parse_address("[::1]:5"): PIN}


def test_the_token_is_in_no_repr(tmp_path, good):
    (tmp_path / "token").write_text(token := make_token())
    with tls_server(context_of(good)) as server:
        links = LinkSettings((good.pin(server.address),), token_file=tmp_path / "token")
        link = open_link(parse_address(server.address), links, TIMEOUT)
        link.channel.close()
    assert link.metadata == (("authorization", f"Bearer {token}"),)
    assert token not in repr(link) + repr(links)
