"""Relay mode between servers that know their clients, over TLS."""

from __future__ import annotations

import numpy as np
import pytest
from link_servers import make_credentials, serving, tls

from ppidm.client.exchange import Mode
from ppidm.client.links import LinkSettings
from ppidm.client.pipeline import PrivateStableDiffusionPipeline as Pipeline

PICTURE = {
    "prompt": "red apple",
    "num_inference_steps": 1,
    "guidance_scale": 1,
    "generator": 11,
    "output_type": "latent",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_credentials(tmp_path_factory.mktemp("links"))


def draw(package, made, options, links, mode):
    """The evaluator asks for the client's token, or certificate; so does the dealer."""
    with (
        serving(package / "server-0", made.folder, *tls(made.evaluator), *options) as evaluator,
        serving(package / "server-1", made.folder, *tls(made.dealer), *options) as dealer,
    ):
        pins = (made.evaluator.pin(evaluator.address), made.dealer.pin(dealer.address))
        with Pipeline.from_package(
            package / "client", evaluator=evaluator.address, dealers=[dealer.address], mode=mode, links=links(pins)
        ) as pipe:
            return pipe(**PICTURE)


def test_with_tokens_a_stream_shows_its_own(package, made, pipe):
    """The dealer has no token of the evaluator's operator, but the one that the client gave it, once."""
    token = made.folder / "alice.token"
    result = draw(
        package, made, ("--token-file", made.digests), lambda pins: LinkSettings(pins, token_file=token), Mode.RELAY
    )
    assert np.array_equal(result.images, pipe(**PICTURE).images)
    assert result.report.traffic.relay > 0


def test_with_client_certificates_the_dealer_shows_its_own(package, made, pipe):
    known = made.folder / "known.pem"
    known.write_bytes(made.clients.read_bytes() + made.dealer.certificate.read_bytes())
    client = {"tls_cert": made.client.certificate, "tls_key": made.client.key}
    result = draw(package, made, ("--client-ca", known), lambda pins: LinkSettings(pins, **client), Mode.RELAY)
    assert np.array_equal(result.images, pipe(**PICTURE).images)
    assert result.report.traffic.relay > 0


def test_a_dealer_that_the_evaluator_does_not_know_falls_back(package, made, pipe):
    client = {"tls_cert": made.client.certificate, "tls_key": made.client.key}
    with pytest.warns(UserWarning, match="the relay failed .* refused this client"):
        result = draw(
            package, made, ("--client-ca", made.clients), lambda pins: LinkSettings(pins, **client), Mode.RELAY
        )
    assert np.array_equal(result.images, pipe(**PICTURE).images)
    assert result.report.traffic.relay == 0
