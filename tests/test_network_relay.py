"""Relay mode on a network: client, evaluator and dealer on machines of their own, TLS and pinned certificates on every link, and
somebody on the wire between dealer and evaluator who keeps every byte.

The client is wired to both servers. From the dealer, the evaluator's address leads to the recorder, who passes everything on.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tap
from command_line import clean_environment, ppidm
from link_servers import tls
from made_certificates import certificate
from namespaces import connect, ip, machines, name_of, on, process, why_not
from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

EVALUATOR, BEHIND_THE_RECORDER, RECORDER, DEALER = (
    "192.0.2.2", "192.0.3.1", "192.0.4.1", "192.0.5.1",
)  # fmt: skip
PORT = 8001
REFUSAL = why_not()

pytestmark = pytest.mark.skipif(REFUSAL is not None, reason=str(REFUSAL))


@dataclass(frozen=True)
class Network:
    """Certificates, and where the recorder keeps what it sees."""

    folder: Path
    records: Path
    pins: str

    @property
    def settings(self):
        return {"PIN": self.pins, "TLS_CERT": self.folder / "client.pem", "TLS_KEY": self.folder / "client.key"}


@pytest.fixture(scope="module")
def network(package, tmp_path_factory):
    folder, records = tmp_path_factory.mktemp("links"), tmp_path_factory.mktemp("records")
    hosts = {"evaluator": (EVALUATOR,), "dealer": (DEALER,), "client": ()}
    evaluator, dealer, client = (certificate(folder, stem, hosts=each) for stem, each in hosts.items())
    known = folder / "known.pem"
    known.write_bytes(client.certificate.read_bytes() + dealer.certificate.read_bytes())
    ask = "--client-ca", known
    with machines("client", "evaluator", "recorder", "dealer"), ExitStack() as stack:
        connect(5, "dealer", "client")
        ip("-n", name_of("recorder"), "address", "add", f"{EVALUATOR}/32", "dev", "lo")
        ip("-n", name_of("dealer"), "route", "add", EVALUATOR, "via", RECORDER)
        for index, (machine, listen, own, peer) in enumerate(
            [("evaluator", "0.0.0.0", evaluator, dealer), ("dealer", DEALER, dealer, evaluator)]
        ):
            options = "--listen", f"{listen}:{PORT}", *tls(own), *ask, "--allow-peer", peer.fingerprint
            serve = "-m", "ppidm", "serve", package / f"server-{index}", *options
            stack.enter_context(process(machine, f"listening on {listen}:{PORT}", *serve))
        ends = EVALUATOR, PORT, BEHIND_THE_RECORDER, PORT
        stack.enter_context(process("recorder", "listening", tap.__file__, *ends, records))
        yield Network(folder, records, f"{evaluator.pin(f'{EVALUATOR}:{PORT}')} {dealer.pin(f'{DEALER}:{PORT}')}")


def draw_command(package, evaluator, dealer, folder, mode):
    arguments = "--seed", 5, "--num-inference-steps", 2, "--guidance-scale", 1, "--mode", mode
    files = "--output", folder / f"{mode}.png", "--report", folder / f"{mode}.json"
    return "generate", package / "client", "red apple", "--evaluator", evaluator, "--dealer", dealer, *arguments, *files


def drawn(folder, mode):
    """Pixels, and the traffic of the report."""
    with Image.open(folder / f"{mode}.png") as picture:
        return np.asarray(picture), json.loads((folder / f"{mode}.json").read_text())["traffic"]


@pytest.fixture(scope="module")
def relayed(package, network, tmp_path_factory):
    """A picture that was drawn across the network."""
    folder = tmp_path_factory.mktemp("client")
    command = draw_command(package, f"{EVALUATOR}:{PORT}", f"{DEALER}:{PORT}", folder, "relay")
    run = subprocess.run(
        on("client", [sys.executable, "-W", "error", "-m", "ppidm", *command]),
        capture_output=True,
        text=True,
        env=clean_environment(network.settings),
        check=False,
        timeout=300,
    )
    assert (run.returncode, run.stderr) == (0, "")
    return drawn(folder, "relay")


@pytest.fixture(scope="module")
def plain(package, servers, tmp_path_factory):
    """The same on loopback without TLS: directly, and in relay mode with a tap before the evaluator."""
    folder, records = tmp_path_factory.mktemp("client"), tmp_path_factory.mktemp("records")
    assert ppidm(*draw_command(package, *servers[:2], folder, "direct")).status == 0
    with tap.tapping(servers[0], records) as evaluator:
        assert ppidm(*draw_command(package, evaluator, servers[1], folder, "relay")).status == 0
    return drawn(folder, "direct"), tap.streams(records, "sent")


@pytest.fixture(scope="module")
def telling(package):
    """What would tell an eavesdropper something: names of slices, and of what dealers send."""
    manifest = json.loads((package / "client" / "manifest.json").read_text())
    names = [subgraph["name"].encode() for subgraph in manifest["slices"]]
    return [name for name in names if len(name) > 6], [b"PRI * HTTP/2", b"ppidm.Relay", b"relayed_0", b"signature"]


def test_the_picture_is_the_direct_one_bit_for_bit(relayed, plain):
    (pixels, traffic), (expected, direct) = relayed, plain[0]
    assert np.array_equal(pixels, expected)
    assert direct["relay"] == 0
    assert traffic["relay"] == pytest.approx(traffic["evaluator"]["received"], rel=0.02)
    assert traffic["dealers"][0]["received"] < 0.05 * direct["dealers"][0]["received"]


def test_without_tls_a_recorder_sees_what_a_dealer_sends(plain, telling):
    """So the next test could fail."""
    streams = [stream for stream in plain[1] if b"relayed_0" in stream]
    assert len(streams) == 1
    names, others = telling
    assert not [text for text in names + others if text not in streams[0]]


def test_between_dealer_and_evaluator_there_is_tls_1_3_and_nothing_else(network, relayed, telling):
    sent, received = (tap.streams(network.records, direction) for direction in ("sent", "received"))
    assert len(sent) == len(received) == 2  # the dealer's first handshake, and its stream
    content = b"".join(sent)
    assert len(content) > relayed[1]["relay"]  # it saw all of it
    names, others = telling
    assert not [text for text in names + others if text in content + b"".join(received)]
    for stream in sent + received:
        (kind, hello), *rest = tap.tls_records(stream)
        assert kind == tap.HANDSHAKE
        assert hello[0] == (1 if stream in sent else 2)
        assert {kind for kind, _ in rest} <= {tap.CHANGE_CIPHER_SPEC, tap.APPLICATION_DATA}
    for stream in received:
        assert b"\x00\x2b\x00\x02\x03\x04" in tap.tls_records(stream)[0][1]  # supported_versions: 1.3
