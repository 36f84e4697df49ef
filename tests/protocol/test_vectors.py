"""The committed vectors: this implementation computes them, and `tools/make_vectors.py` writes just these."""

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from committed_vectors import FOLDER, VECTORS, Inputs, array, assert_same, tensor, tensors
from linear_cases import apply_exactly

from ppidm.protocol import errors
from ppidm.protocol import relay_messages as messages
from ppidm.protocol.audit import inconsistency, whole_request
from ppidm.protocol.check import check_from_v
from ppidm.protocol.linear import Layer
from ppidm.protocol.masks import Mask
from ppidm.protocol.messages import parse_request
from ppidm.protocol.prg import Seed
from ppidm.protocol.relay import elements_of, open_relayed, require_signature
from ppidm.protocol.ring import Ring
from ppidm.protocol.run import ask, open_answers, serve

DIRECT = {name: vector for name, vector in VECTORS.items() if name.startswith("direct_")}
TRUNCATED = {name: vector for name, vector in VECTORS.items() if name.startswith("truncated_")}
BAD = {name: vector for name, vector in VECTORS.items() if name.startswith("bad_")}
PARSERS = {
    "open": messages.parse_open,
    "window": messages.parse_window,
    "connect": messages.parse_connect,
    "place": messages.split_place,
    "share": lambda sent: messages.parse_share("slice", sent),
    "show": messages.parse_show,
    "close": messages.parse_close,
}
LARGEST_FILE = 9000  # bytes


def test_there_are_vectors_of_every_kind():
    assert len(DIRECT) >= 9
    assert len(TRUNCATED) >= 4
    relayed = sum(name.startswith("relay_") for name in VECTORS)
    assert len(DIRECT) + len(TRUNCATED) + relayed + len(BAD) == len(VECTORS)
    assert {vector["ring_bits"] for vector in TRUNCATED.values()} == {24, 32}
    assert {vector["ring_bits"] for vector in DIRECT.values()} == {24, 32}
    assert {len(vector["seeds"]) for vector in DIRECT.values()} == {1, 2, 3}
    assert max(len(vector["layers"]) for vector in DIRECT.values()) == 2
    layers = [Layer.model_validate(layer) for vector in DIRECT.values() for layer in vector["layers"]]
    assert {layer.kind for layer in layers} == {"product", "convolution"}
    for special in ("strides", "pads", "dilations", "groups"):
        default = Layer.model_fields[special].default
        assert any(getattr(layer, special) != default for layer in layers)
    steps = Counter((vector["step"], vector["error"]) for vector in BAD.values())
    assert set(steps) == {
        ("mask", "InputError"),
        ("request", "InputError"),
        ("open", "InputError"),
        ("open", "CheckError"),
        ("audit", "InputError"),
        ("audit", "CheckError"),
        ("relay", "InputError"),
        ("share", "InputError"),
        ("open_relayed", "InputError"),
        ("open_relayed", "CheckError"),
    }
    assert min(steps.values()) >= 2


def test_generating_again_gives_the_same_files(tmp_path):
    subprocess.run([sys.executable, FOLDER.parents[1] / "tools" / "make_vectors.py", tmp_path], check=True)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    committed = {path.name: path.read_bytes() for path in FOLDER.iterdir()}
    assert sorted(made) == sorted(committed)
    assert made == committed
    assert max(map(len, committed.values())) <= LARGEST_FILE


@pytest.mark.parametrize("vector", DIRECT.values(), ids=DIRECT)
def test_every_party_sends_what_the_vector_says(vector):
    given = Inputs(vector)
    mask = Mask(given.ring, given.x.shape, [Seed(bytes.fromhex(seed)) for seed in vector["seeds"]])
    requests = ask(given.ring, given.x, mask).requests
    answers = [serve(given.ring, given.layers, given.weights, request) for request in requests]
    for sent, expected in [(requests, vector["requests"]), (answers, vector["answers"])]:
        assert len(sent) == len(expected) == len(vector["seeds"]) + 1
        for message, vectors in zip(sent, expected, strict=True):
            assert_same(message, vectors)
    opened = open_answers(given.ring, given.layers, given.checks, given.x, answers)
    assert [result.tolist() for result in opened] == [array(result).tolist() for result in vector["opened"]]


@pytest.mark.parametrize("vector", DIRECT.values(), ids=DIRECT)
def test_results_and_check_vectors_are_right(vector):
    given = Inputs(vector)
    for layer, weights, check, opened in zip(given.layers, given.weights, given.checks, vector["opened"], strict=True):
        expected = apply_exactly(layer, weights, given.x)
        assert tuple(opened["shape"]) == layer.output_shape(given.x.shape)
        assert opened["values"] == expected.reshape(-1).tolist()
        assert check_from_v(layer, weights, check.v).u.tolist() == check.u.tolist()


@pytest.mark.parametrize("vector", TRUNCATED.values(), ids=TRUNCATED)
def test_truncated_answers_and_audits(vector):
    given, dropped = Inputs(vector), vector["dropped_bits"]
    mask = Mask(given.ring, given.x.shape, [Seed(bytes.fromhex(seed)) for seed in vector["seeds"]])
    requests = ask(given.ring, given.x, mask, dropped).requests
    answers = [serve(given.ring, given.layers, given.weights, request) for request in requests]
    whole = [serve(given.ring, given.layers, given.weights, whole_request(request)) for request in requests]
    for sent, name in [(requests, "requests"), (answers, "answers"), (whole, "whole_answers")]:
        for message, expected in zip(sent, vector[name], strict=True):
            assert_same(message, expected)
    opened = open_answers(given.ring, given.layers, None, given.x, answers, dropped)
    assert [result.tolist() for result in opened] == [array(result).tolist() for result in vector["opened"]]
    for short, long in zip(answers, whole, strict=True):
        assert inconsistency(given.ring, given.layers, given.x.shape, short, long, dropped) is None
    exact = open_answers(given.ring, given.layers, given.checks, given.x, whole)
    for rounded, result in zip(opened, exact, strict=True):
        assert np.abs(rounded - result).max() <= len(requests) * 2 ** (dropped - 1)


@pytest.mark.parametrize("vector", BAD.values(), ids=BAD)
def test_bad_vectors_are_refused(vector):
    with pytest.raises(errors.PpidmError) as error:
        play(vector)
    assert type(error.value) is getattr(errors, vector["error"])
    assert vector["message"] in str(error.value)


def play(vector):
    ring = Ring(vector["ring_bits"])
    match vector["step"]:
        case "mask":
            Mask(ring, (4, 5), [Seed(bytes.fromhex(seed)) for seed in vector["seeds"]])
        case "request":
            layers = [Layer.model_validate(layer) for layer in vector["layers"]]
            parse_request([tensor(each) for each in vector["request"]], layers, ring)
        case "open":
            given = Inputs(vector)
            answers = [[tensor(each) for each in answer] for answer in vector["answers"]]
            open_answers(ring, given.layers, given.checks, given.x, answers)
        case "audit":
            given, pair = Inputs(vector), ([tensor(vector["truncated"])], [tensor(vector["whole"])])
            if verdict := inconsistency(ring, given.layers, given.x.shape, *pair, vector["dropped_bits"]):
                raise errors.CheckError(verdict)
        case "relay":
            PARSERS[vector["kind"]](tensors(vector["tensors"]))
        case "share":
            share = messages.parse_share(vector["slice"], tensors(vector["tensors"]))
            require_signature(bytes.fromhex(vector["signer"]), bytes.fromhex(vector["session"]), share)
            layers = [Layer.model_validate(layer) for layer in vector["layers"]]
            elements_of(ring, layers, tuple(vector["x_shape"]), share)
        case "open_relayed":
            given, seeds = Inputs(vector), [Seed(bytes.fromhex(seed)) for seed in vector["seeds"]]
            open_relayed(ring, given.layers, given.checks, given.x, seeds, tensors(vector["answer"]))
