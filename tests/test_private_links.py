"""Whole pictures from the command line, over TLS: with certificates, with tokens; and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from command_line import ppidm, refused
from link_servers import make_credentials, serving, tls
from made_certificates import certificate
from PIL import Image

from ppidm.client import LinkSettings, PrivateStableDiffusionPipeline

PROMPT = "red apple with a canary"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_credentials(tmp_path_factory.mktemp("links"))


@pytest.fixture(scope="module")
def running(package, made):
    """A server that knows its clients by certificate, and one that knows them by token."""
    by_certificate = *tls(made.evaluator), "--client-ca", made.clients, "--log-level", "debug"
    by_token = *tls(made.dealer), "--token-file", made.digests, "--log-level", "debug"
    with (
        serving(package / "server-0", made.folder, *by_certificate) as first,
        serving(package / "server-1", made.folder, *by_token) as second,
    ):
        yield first, second


@pytest.fixture
def known(running, made, tmp_path):
    """Settings of a client whom both know."""
    tokens = tmp_path / "tokens"
    tokens.write_text(f"# mine\n{running[1].address} {made.token('alice')}\n")
    pins = f"{made.evaluator.pin(running[0].address)} {made.dealer.pin(running[1].address)}"
    return {"PIN": pins, "TLS_CERT": made.client.certificate, "TLS_KEY": made.client.key, "TOKEN_FILE": tokens}


@pytest.fixture
def call(package, running):
    """Function of the servers: a command."""

    def call(evaluator=running[0].address, dealer=running[1].address):
        arguments = "--evaluator", evaluator, "--dealer", dealer, "--seed", 3, "--num-inference-steps", 2
        return "generate", package / "client", PROMPT, *arguments, "--guidance-scale", 1

    return call


@pytest.fixture
def draw(call, tmp_path):
    """Function of servers and settings: the pixels of a picture."""

    def draw(*servers, **settings):
        shown = ppidm(*call(*servers), OUTPUT=tmp_path / "picture.png", **settings)
        assert (shown.status, shown.err) == (0, "")
        with Image.open(tmp_path / "picture.png") as picture:
            return np.asarray(picture)

    return draw


def test_a_picture_is_that_of_loopback_and_no_secret_is_logged(draw, known, running, servers, made, tmp_path):
    """With each server in each role, and once with the authority, which is each certificate itself."""
    expected = draw(*servers[:2])
    (tmp_path / "ca").write_bytes(made.evaluator.certificate.read_bytes() + made.dealer.certificate.read_bytes())
    first, second = (server.address for server in running)
    assert np.array_equal(draw(first, second, **known), expected)
    assert np.array_equal(draw(second, first, CA=tmp_path / "ca", **known), expected)
    text = "".join(server.log.read_text() for server in running)
    assert '"event": "request"' in text
    keys = [made.evaluator.key, made.dealer.key, made.client.key]
    secrets = [made.token("alice"), made.token("mallory"), "canary", "Bearer", "PRIVATE"]
    secrets += [line for key in keys for line in key.read_text().splitlines()[1:-1]]
    assert not [secret for secret in secrets if secret in text]


def test_from_python(package, running, known):
    links = LinkSettings(tuple(known["PIN"].split()), None, known["TLS_CERT"], known["TLS_KEY"], known["TOKEN_FILE"])
    evaluator, dealer = (server.address for server in running)
    with PrivateStableDiffusionPipeline.from_package(
        package / "client", evaluator=evaluator, dealers=[dealer], links=links
    ) as pipe:
        result = pipe("x", num_inference_steps=1, guidance_scale=1, output_type="latent")
    assert result.report.rounds > 0


# refused, with exit statuses


@pytest.mark.parametrize("own", [None, "stranger"])
def test_without_a_certificate(call, known, made, running, own):
    del known["TLS_CERT"], known["TLS_KEY"]
    if own:
        known |= {"TLS_CERT": made.stranger.certificate, "TLS_KEY": made.stranger.key}
    got = refused(*call(), status=4, **known)
    assert f"the server at {running[0].address} refused this client" in got
    assert "give --tls-cert and --tls-key of a current certificate that its operator knows" in got


@pytest.mark.parametrize("name", [None, "mallory"])
def test_without_a_token(call, known, made, running, name):
    secret = made.token("mallory")
    del known["TOKEN_FILE"]
    got = refused(*call(), status=4, **known | ({"TOKEN_FILE": made.folder / f"{name}.token"} if name else {}))
    assert f"dealer {running[1].address} failed: UNAUTHENTICATED, 'no valid bearer token'; give the token" in got
    assert secret not in got


def test_without_tls(call, running):
    got = refused(*call(), status=4)
    assert f"evaluator {running[0].address} failed: UNAVAILABLE" in got
    assert "with --pin if it uses TLS" in got


def test_tls_to_a_server_without(call, known, servers, made):
    known["PIN"] = f"{made.evaluator.pin(servers[0])} {made.dealer.pin(servers[1])}"
    assert f"no TLS 1.3 with the server at {servers[0]}" in refused(*call(*servers[:2]), status=4, **known)


def test_a_wrong_pin(call, known, made, running):
    known["PIN"] = f"{made.stranger.pin(running[0].address)} {made.dealer.pin(running[1].address)}"
    got = refused(*call(), status=4, **known)
    assert f"has the certificate {made.evaluator.fingerprint}, and {made.stranger.fingerprint} is pinned" in got


def test_a_pin_for_one_of_two_servers(call, made, running):
    got = refused(*call(), PIN=made.evaluator.pin(running[0].address))
    assert f"no pin for {running[1].address}, but for others" in got


def test_one_certificate_for_two_servers(call, made, running):
    pins = " ".join(made.evaluator.pin(server.address) for server in running)
    assert "have one pin; expected a certificate of its own for every server" in refused(*call(), PIN=pins)


def test_one_server_in_two_roles(call, known, running):
    evaluator = running[0].address
    got = refused(*call(evaluator, evaluator), **known)
    assert f"dealer {evaluator} is the same server as evaluator {evaluator}" in got


def test_an_rsa_key_and_an_old_certificate_of_ones_own(call, known, made):
    rsa = certificate(made.folder, "client-rsa", hosts=(), kind="rsa")
    for own, error in ((rsa, "a key of kind RSA"), (made.expired, "gone.pem: the certificate is valid from")):
        assert error in refused(*call(), **known | {"TLS_CERT": own.certificate, "TLS_KEY": own.key})


def test_a_server_outside_of_loopback_without_a_pin(call):
    got = refused(*call("192.0.2.1:8001", "192.0.2.2:8001"))
    assert "address 192.0.2.1:8001 is 192.0.2.1; expected a loopback address" in got
    assert "give --pin HOST:PORT=SHA256" in got
