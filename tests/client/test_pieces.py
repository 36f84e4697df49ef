"""A picture whose activations travel in pieces is the same, bit for bit; and lies about a piece are caught."""

from collections import defaultdict
from functools import partial

import numpy as np
import pytest

from ppidm.client import PrivateStableDiffusionPipeline
from ppidm.client.exchange import Mode
from ppidm.client.transport import Server
from ppidm.protocol.errors import CheckError
from ppidm.protocol.messages import Tensor
from ppidm.protocol.pieces import pieces_of
from ppidm.protocol.relay_messages import split_place

PICTURE = {"prompt": "red apple", "num_inference_steps": 1, "generator": 11, "output_type": "latent"}


@pytest.fixture
def pipe(package, servers):
    with PrivateStableDiffusionPipeline.from_package(
        package / "client", evaluator=servers[0], dealers=servers[1:2]
    ) as pipe:
        yield pipe


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr("ppidm.client.offload.pieces_of", partial(pieces_of, most=5000))


def test_the_same_picture(pipe, request):
    whole = pipe(**PICTURE)
    request.getfixturevalue("small_pieces")
    cut = pipe(**PICTURE)
    np.testing.assert_array_equal(cut.images, whole.images)
    assert cut.report.rounds == whole.report.rounds
    assert cut.report.offload == whole.report.offload
    sent = [output.report.traffic.evaluator.sent for output in (whole, cut)]
    assert sent[0] < sent[1] < 2 * sent[0]  # strips overlap


@pytest.mark.usefixtures("small_pieces")
def test_a_lie_about_one_piece(pipe, monkeypatch):
    ask, seen = type(pipe._servers.evaluator).ask, []

    def lie(server, name, tensors):
        answer = ask(server, name, tensors)
        seen.append(name)
        return (lambda: [altered(tensor) for tensor in answer()]) if len(seen) == 40 else answer

    monkeypatch.setattr(type(pipe._servers.evaluator), "ask", lie)
    with pytest.raises(CheckError, match="lied or is broken"):
        pipe(**PICTURE)
    assert len(seen) > len(set(seen))


@pytest.mark.usefixtures("small_pieces")
def test_dealers_run_ahead_of_pieces_too(package, servers, monkeypatch):
    """In the second evaluation every piece was dealt before its turn; how many there are was known after the first."""
    ask, dealt, ahead = Server.ask, set(), defaultdict(list)

    def noted(server, name, tensors):
        place, _ = split_place(tensors)
        if place is not None and server.role == "dealer":
            dealt.add(place.ticket)
        elif place is not None:
            ahead[name].append(max(dealt) > place.ticket)
        return ask(server, name, tensors)

    monkeypatch.setattr(Server, "ask", noted)
    with PrivateStableDiffusionPipeline.from_package(
        package / "client", evaluator=servers[0], dealers=servers[1:2], mode=Mode.RELAY
    ) as pipe:
        pipe(**PICTURE | {"num_inference_steps": 2, "guidance_scale": 1})
    pieces = [turns[len(turns) // 2 :] for turns in ahead.values() if len(turns) > 2]
    assert len(pieces) > 10
    assert np.mean([turn for turns in pieces for turn in turns]) > 0.9


def altered(tensor):
    content = bytearray(tensor.content)
    content[0] ^= 128
    return Tensor(tensor.name, tensor.datatype, tensor.shape, bytes(content))
