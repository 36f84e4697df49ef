import socket

import pytest

from ppidm.protocol import address as module
from ppidm.protocol.address import Address, loopback_address, parse_address
from ppidm.protocol.errors import InputError

ADVICE = "use TLS"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8001", Address("127.0.0.1", 8001)),
        ("localhost:0", Address("localhost", 0)),
        ("[::1]:65535", Address("::1", 65535)),
    ],
)
def test_parse_and_print(text, expected):
    assert parse_address(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", "8001", ":8001", "127.0.0.1", "127.0.0.1:", "::1:8001", "[::1]", "[]:1", "[[::1]]:1"),
        *("a:b", "a:-1", "a:+1", "a:1 ", "a:1\n", "a b:1", "a:123456", "a:\u0661", "http://a:1"),
    ],
)
def test_other_forms_are_refused_with_the_right_ones(text):
    with pytest.raises(InputError, match=r"expected HOST:PORT, for example 127\.0\.0\.1:8001, or \[::1\]:8001"):
        parse_address(text)


def test_port_out_of_range():
    with pytest.raises(InputError, match="port 65536; expected 0 to 65535"):
        parse_address("localhost:65536")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.8.7", "::1"])
def test_loopback_addresses_pass(host):
    assert loopback_address(Address(host, 5), ADVICE) == Address(host, 5)


def test_localhost_becomes_numeric():
    assert loopback_address(Address("localhost", 5), ADVICE) in (Address("127.0.0.1", 5), Address("::1", 5))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "10.1.2.3", "fe80::1", "::ffff:10.0.0.1", "8.8.8.8"])
def test_others_are_refused_with_the_reason_and_a_way_out(host):
    with pytest.raises(InputError, match=r"expected a loopback address, or protection.* colluding .*: use TLS$"):
        loopback_address(Address(host, 5), ADVICE)


@pytest.mark.parametrize("found", [["127.0.0.1", "10.0.0.1"], ["10.0.0.1"]])
def test_a_name_must_resolve_to_loopback_only(monkeypatch, found):
    monkeypatch.setattr(module.socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", (host, 5)) for host in found])
    with pytest.raises(InputError, match=r"address server:5 is 10\.0\.0\.1; expected a loopback"):
        loopback_address(Address("server", 5), ADVICE)


def test_ipv4_comes_first(monkeypatch):
    monkeypatch.setattr(
        module.socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", (h, 5)) for h in ("::1", "127.0.0.1")]
    )
    assert loopback_address(Address("localhost", 5), ADVICE) == Address("127.0.0.1", 5)


def test_unknown_host(monkeypatch):
    def fail(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(module.socket, "getaddrinfo", fail)
    with pytest.raises(InputError, match="the host is unknown"):
        loopback_address(Address("nowhere", 5), ADVICE)


def test_a_host_that_is_no_name():
    with pytest.raises(InputError, match="the host is unknown"):
        loopback_address(Address("a" * 70, 5), ADVICE)
