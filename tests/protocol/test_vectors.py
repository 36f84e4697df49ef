"""The committed vectors: this implementation computes them, and `tools/make_vectors.py` writes just these."""

import hashlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from linear_cases import apply_exactly

from ppidm.protocol import errors
from ppidm.protocol.audit import inconsistency, whole_request
from ppidm.protocol.check import CheckVectors, check_from_v
from ppidm.protocol.linear import Layer
from ppidm.protocol.masks import Mask
from ppidm.protocol.messages import Tensor, parse_request
from ppidm.protocol.prg import Seed
from ppidm.protocol.ring import Ring
from ppidm.protocol.run import ask, open_answers, serve

ROOT = Path(__file__).parents[2]
VECTORS = {path.stem: json.loads(path.read_bytes()) for path in sorted((ROOT / "tests" / "vectors").glob("*.json"))}
DIRECT = {name: vector for name, vector in VECTORS.items() if name.startswith("direct_")}
TRUNCATED = {name: vector for name, vector in VECTORS.items() if name.startswith("truncated_")}
BAD = {name: vector for name, vector in VECTORS.items() if name.startswith("bad_")}
LARGEST_FILE = 6000  # bytes


def array(vector):
    return np.array([int(value) for value in vector["values"]], np.int64).reshape(vector["shape"])


def tensor(vector):
    return Tensor(vector["name"], vector["datatype"], tuple(vector["shape"]), bytes.fromhex(vector["content"]))


class Inputs:
    """What a vector gives to the parties."""

    def __init__(self, vector):
        self.ring = Ring(vector["ring_bits"])
        self.layers = [Layer.model_validate(layer) for layer in vector["layers"]]
        self.weights = [array(weights) for weights in vector["weights"]]
        self.checks = [CheckVectors(array(check["v"]), array(check["u"])) for check in vector["checks"]]
        self.x = array(vector["x"])


def assert_same(message, expected):
    """Tensor for tensor; a long content is given by its digest."""
    assert len(message) == len(expected)
    for got, vector in zip(message, expected, strict=True):
        assert (got.name, got.datatype, got.shape) == (vector["name"], vector["datatype"], tuple(vector["shape"]))
        if "sha256" in vector:
            assert hashlib.sha256(got.content).hexdigest() == vector["sha256"]
        else:
            assert got.content.hex() == vector["content"]


def test_there_are_vectors_of_every_kind():
    assert len(DIRECT) >= 9
    assert len(TRUNCATED) >= 4
    assert len(DIRECT) + len(TRUNCATED) + len(BAD) == len(VECTORS)
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
    }
    assert min(steps.values()) >= 2


def test_generating_again_gives_the_same_files(tmp_path):
    subprocess.run([sys.executable, ROOT / "tools" / "make_vectors.py", tmp_path], check=True)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    committed = {path.name: path.read_bytes() for path in (ROOT / "tests" / "vectors").iterdir()}
    assert sorted(made) == sorted(committed)
    assert made == committed
    assert max(map(len, committed.values())) <= LARGEST_FILE


@pytest.mark.parametrize("vector", DIRECT.values(), ids=DIRECT)
def test_every_party_sends_what_the_vector_says(vector):
    given = Inputs(vector)
    mask = Mask(given.ring, given.x.shape, [Seed(bytes.fromhex(seed)) for seed in vector["seeds"]])
    requests = ask(given.ring, given.x, mask).requests
    answers = [serve(given.ring, given.layers, given.weights, request) for request in requests]
    for messages, expected in [(requests, vector["requests"]), (answers, vector["answers"])]:
        assert len(messages) == len(expected) == len(vector["seeds"]) + 1
        for message, vectors in zip(messages, expected, strict=True):
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
    for messages, name in [(requests, "requests"), (answers, "answers"), (whole, "whole_answers")]:
        for message, expected in zip(messages, vector[name], strict=True):
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
