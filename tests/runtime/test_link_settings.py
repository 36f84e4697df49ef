"""Settings of links that a server refuses, before anything is loaded: the directories of these tests do not exist."""

from __future__ import annotations

import pytest
from command_line import ppidm, refused
from link_servers import make_credentials, tls
from made_certificates import certificate


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_credentials(tmp_path_factory.mktemp("links"))


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.1:8001"])
def test_outside_of_loopback_tls_and_known_clients_are_needed(made, listen):
    bare = refused("serve", "nowhere", "--listen", listen)
    assert "expected a loopback address" in bare
    assert bare.endswith("give --tls-cert and --tls-key (`ppidm keys server` makes them)")
    assert bare == refused("serve", "nowhere", "--listen", listen, "--token-file", made.digests)
    open_to_all = refused("serve", "nowhere", "--listen", listen, *tls(made.evaluator))
    assert open_to_all.endswith("give --client-ca or --token-file too: a server must know its clients")


def test_servers_listen_on_loopback_unless_told_otherwise():
    assert "[default: 127.0.0.1:8001]" in ppidm("serve", "--help").out


BAD = {
    "half a pair": (lambda made: ("--tls-cert", made.evaluator.certificate), "--tls-cert and --tls-key go together"),
    "client CA without TLS": (lambda made: ("--client-ca", made.clients), "--client-ca needs TLS"),
    "RSA": (
        lambda made: tls(certificate(made.folder, "rsa", kind="rsa")),
        "a key of kind RSA; expected an elliptic-curve key",
    ),
    "expired": (lambda made: tls(made.expired), "gone.pem: the certificate is valid from "),
    "another key": (
        lambda made: ("--tls-cert", made.evaluator.certificate, "--tls-key", made.dealer.key),
        "dealer.key: not the key of ",
    ),
    "no key": (
        lambda made: ("--tls-cert", made.evaluator.certificate, "--tls-key", made.evaluator.certificate),
        "not an unencrypted PEM private key",
    ),
    "no certificate": (lambda made: ("--tls-cert", made.digests, "--tls-key", made.dealer.key), "no PEM certificate"),
    "no file": (lambda made: ("--tls-cert", "nowhere.pem", "--tls-key", made.dealer.key), "nowhere.pem: No such file"),
    "no clients": (
        lambda made: (*tls(made.evaluator), "--client-ca", made.digests),
        "no PEM certificate, or a corrupt one",
    ),
    "no tokens": (lambda made: ("--token-file", made.clients), "line 1: no SHA-256 in hexadecimal"),
    "a token": (lambda made: ("--token-file", made.folder / "alice.token"), "line 1: no SHA-256 in hexadecimal"),
}


@pytest.mark.parametrize(("options", "error"), BAD.values(), ids=BAD)
def test_bad_certificates_and_tokens(made, options, error):
    got = refused("serve", "nowhere", *options(made))
    assert error in got
    assert made.token("alice") not in got
    assert "PRIVATE" not in got
