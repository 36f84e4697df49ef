"""A picture whose activations travel in pieces is the same, bit for bit; and lies about a piece are caught."""

from functools import partial

import numpy as np
import pytest

from ppidm.client import PrivateStableDiffusionPipeline
from ppidm.protocol.errors import CheckError
from ppidm.protocol.messages import Tensor
from ppidm.protocol.pieces import pieces_of

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


def altered(tensor):
    content = bytearray(tensor.content)
    content[0] ^= 128
    return Tensor(tensor.name, tensor.datatype, tensor.shape, bytes(content))
