"""How vectors are written down: arrays, tensors, inputs."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vectors.cases import Case

    from ppidm.protocol.messages import Tensor
    from ppidm.protocol.ring import Integers

    Vector = dict[str, Any]

LONGEST_CONTENT = 128  # bytes of a tensor that are written out


def inputs(case: Case) -> Vector:
    """What both kinds of vectors begin with."""
    return {
        "ring_bits": case.ring.bits,
        "layers": [layer.model_dump(exclude_defaults=True) for layer in case.layers],
        "weights": [array(weights) for weights in case.weights],
        "checks": [{"v": text(check.v), "u": text(check.u)} for check in case.checks],
        "x": array(case.x),
    }


def array(values: Integers) -> Vector:
    """Shape and values, row-major."""
    return {"shape": list(values.shape), "values": values.reshape(-1).tolist()}


def text(values: Integers) -> Vector:
    """The same with decimal text, for integers that other languages' JSON would round."""
    return {"shape": list(values.shape), "values": [str(value) for value in values.reshape(-1).tolist()]}


def whole(tensor: Tensor) -> Vector:
    """A tensor with its content."""
    described = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
    return described | {"content": tensor.content.hex()}


def short(tensor: Tensor) -> Vector:
    """A tensor with its content, or the digest of a long one."""
    vector = whole(tensor)
    if len(tensor.content) > LONGEST_CONTENT:
        del vector["content"]
        vector["sha256"] = hashlib.sha256(tensor.content).hexdigest()
    return vector
