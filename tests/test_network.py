"""A client and two servers on a network, and somebody on the wire between them who keeps every byte.

Three network namespaces: client, middle, servers. The client knows the middle's addresses only, as behind a NAT.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import tap
from command_line import clean_environment, ppidm
from link_servers import make_credentials, tls
from made_certificates import certificate
from namespaces import machines, on, process, why_not
from PIL import Image

CLIENT_TO_MIDDLE, MIDDLE_TO_SERVERS = ("192.0.2.1", "192.0.2.2"), ("192.0.3.1", "192.0.3.2")
PORTS = 8001, 8002
PROMPT, NEGATIVE = "red apple canary-prompt-7261", "canary-negative-9350"
REFUSAL = why_not()

pytestmark = pytest.mark.skipif(REFUSAL is not None, reason=str(REFUSAL))


@pytest.fixture(scope="module")
def network(package, tmp_path_factory):
    """Servers with TLS and tokens, and taps before them; yields the credentials and the folder of the records."""
    made, records = make_credentials(tmp_path_factory.mktemp("links")), tmp_path_factory.mktemp("records")
    own = [certificate(made.folder, f"server-{index}", hosts=(MIDDLE_TO_SERVERS[1],)) for index in range(2)]
    with machines("client", "middle", "servers"), ExitStack() as stack:
        for index, port in enumerate(PORTS):
            listen = "--listen", f"{MIDDLE_TO_SERVERS[1]}:{port}", *tls(own[index]), "--token-file", made.digests
            serve = "-m", "ppidm", "serve", package / f"server-{index}", *listen
            stack.enter_context(process("servers", f"listening on {MIDDLE_TO_SERVERS[1]}:{port}", *serve))
            ends = CLIENT_TO_MIDDLE[1], port, MIDDLE_TO_SERVERS[1], port
            stack.enter_context(process("middle", "listening", tap.__file__, *ends, records))
        yield made, own, records


def draw_command(package, evaluator, dealer, output):
    arguments = "--evaluator", evaluator, "--dealer", dealer, "--seed", 5, "--num-inference-steps", 2
    return "generate", package / "client", PROMPT, "--negative-prompt", NEGATIVE, *arguments, "--output", output


@pytest.fixture(scope="module")
def recorded(package, network, tmp_path_factory):
    """A picture that was drawn across the network."""
    made, own, _ = network
    folder = tmp_path_factory.mktemp("client")
    evaluator, dealer = (f"{CLIENT_TO_MIDDLE[1]}:{port}" for port in PORTS)
    settings = {"PIN": f"{own[0].pin(evaluator)} {own[1].pin(dealer)}", "TOKEN_FILE": made.folder / "alice.token"}
    command = [sys.executable, "-m", "ppidm", *draw_command(package, evaluator, dealer, folder / "picture.png")]
    run = subprocess.run(
        on("client", command), capture_output=True, text=True, env=clean_environment(settings), check=False, timeout=300
    )
    assert (run.returncode, run.stderr) == (0, "")
    return pixels(folder / "picture.png")


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


@pytest.fixture(scope="module")
def plain(package, servers, tmp_path_factory):
    """The same picture on loopback, without TLS, and what a tap saw there."""
    records, picture = tmp_path_factory.mktemp("records"), tmp_path_factory.mktemp("client") / "picture.png"
    with tap.tapping(servers[0], records) as evaluator, tap.tapping(servers[1], records) as dealer:
        assert ppidm(*draw_command(package, evaluator, dealer, picture)).status == 0
    return pixels(picture), b"".join(tap.streams(records, "sent") + tap.streams(records, "received"))


@pytest.fixture(scope="module")
def telling(package):
    """What would tell an eavesdropper something: names of slices, the package, gRPC, and the client's secrets."""
    manifest = json.loads((package / "client" / "manifest.json").read_text())
    names = [subgraph["name"] for subgraph in manifest["slices"]]
    return [name.encode() for name in names if len(name) > 6], [
        b"PRI * HTTP/2",
        b"masked",
        b"answer_0",
        manifest["package"].encode(),
        b"ppidm.package",
    ]


def test_the_picture_is_that_of_loopback(recorded, plain):
    assert np.array_equal(recorded, plain[0])


def test_without_tls_a_recorder_sees_what_is_asked(plain, telling):
    """So the next test could fail. Prompts are in no message at all."""
    names, others = telling
    assert len(names) > 50
    assert not [text for text in names + others if text not in plain[1]]
    assert b"canary" not in plain[1]


@pytest.mark.usefixtures("recorded")
def test_with_tls_it_sees_nothing_useful(network, telling, plain):
    made, _, records = network
    sent, received = tap.streams(records, "sent"), tap.streams(records, "received")
    content = b"".join(sent + received)
    assert len(content) > 0.9 * len(plain[1])  # it saw all of it
    names, others = telling
    secrets = [PROMPT.encode(), NEGATIVE.encode(), b"canary", made.token("alice").encode(), b"Bearer", b"/inference."]
    assert not [text for text in names + others + secrets if text in content]


@pytest.mark.usefixtures("recorded")
def test_every_byte_is_tls_1_3(network):
    """After a ClientHello, and a ServerHello that chooses TLS 1.3, there are encrypted records only."""
    sent, received = (tap.streams(network[2], direction) for direction in ("sent", "received"))
    assert len(sent) == len(received) == 4  # of each server: the first handshake, and gRPC's connection
    for stream in sent + received:
        (kind, hello), *rest = tap.tls_records(stream)
        assert kind == tap.HANDSHAKE
        assert {kind for kind, _ in rest} <= {tap.CHANGE_CIPHER_SPEC, tap.APPLICATION_DATA}
        assert hello[0] == (1 if stream in sent else 2)
    for stream in received:
        assert b"\x00\x2b\x00\x02\x03\x04" in tap.tls_records(stream)[0][1]  # supported_versions: 1.3


def test_a_server_of_the_network_without_protection_is_refused(network, package):
    """On an address that is there, not only on one that is unknown."""
    assert network
    command = [sys.executable, "-m", "ppidm", "serve", package / "server-0", "--listen", f"{MIDDLE_TO_SERVERS[1]}:9000"]
    run = subprocess.run(on("servers", command), capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 2
    assert f"address {MIDDLE_TO_SERVERS[1]}:9000 is {MIDDLE_TO_SERVERS[1]}; expected a loopback address" in run.stderr


def test_namespaces_are_gone_afterwards():
    with machines("short", "lived"):
        assert list(Path("/run/netns").glob("ppidm-*-lived"))
    assert not list(Path("/run/netns").glob("ppidm-*-lived"))
