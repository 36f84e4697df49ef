"""The committed vectors, and how to read them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from ppidm.protocol.check import CheckVectors
from ppidm.protocol.linear import Layer
from ppidm.protocol.messages import Tensor
from ppidm.protocol.ring import Ring

FOLDER = Path(__file__).parent / "vectors"
VECTORS = {path.stem: json.loads(path.read_bytes()) for path in sorted(FOLDER.glob("*.json"))}


def array(vector):
    return np.array([int(value) for value in vector["values"]], np.int64).reshape(vector["shape"])


def tensor(vector):
    return Tensor(vector["name"], vector["datatype"], tuple(vector["shape"]), bytes.fromhex(vector["content"]))


def tensors(vectors):
    return [tensor(each) for each in vectors]


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
