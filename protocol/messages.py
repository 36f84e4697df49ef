"""The messages between client and servers, as named tensors of the Open Inference Protocol (PROTOCOL.md, section 4).

One model per slice. A request holds either `masked` (client to evaluator) or `seed` and `shape` (client to dealer), and
`answer_bits` if only the top bits of answers are wanted; an answer holds `answer_<i>` for layer i. This module knows nothing
of gRPC: a transport moves `Tensor`s.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from ppidm.protocol.errors import InputError
from ppidm.protocol.precision import TRUNCATED_BITS, restore, truncate, truncation
from ppidm.protocol.prg import SEED_BYTES, Seed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray

    from ppidm.protocol.linear import Layer, Shape
    from ppidm.protocol.ring import Digits, Elements, Ring

MASKED, SEED, SHAPE, ANSWER, ANSWER_BITS = "masked", "seed", "shape", "answer_", "answer_bits"
MAX_ELEMENTS = 1 << 27  # of one input or output tensor: 512 MiB at 4 bytes; bounds what a 32-byte seed can ask for
_ITEM_BYTES = {"UINT8": 1, "INT16": 2, "INT32": 4, "INT64": 8}
_MAX_RANK = 8
_LONGEST_QUOTE = 200  # characters of a peer's text that an error message repeats


@dataclass(frozen=True, repr=False)
class Tensor:
    """A named tensor as it travels: raw little-endian bytes, row-major.

    Security:
        `repr` shows name, type and shape only.
    """

    name: str
    datatype: str
    shape: Shape
    content: bytes

    def __repr__(self) -> str:
        return f"Tensor({self.name!r}, {self.datatype}, {self.shape})"

    def array(self, datatype: str) -> NDArray[Any]:
        """The content as a read-only array.

        Raises:
            InputError: another datatype, or a number of bytes that the shape does not call for.
        """
        what = f"tensor {_quote(self.name)}"
        if self.datatype != datatype:
            raise InputError(f"{what} is {_quote(self.datatype)}; expected {datatype}")
        if len(self.shape) > _MAX_RANK or min(self.shape, default=1) < 1 or prod(self.shape) > MAX_ELEMENTS:
            raise InputError(f"{what} has shape {_quote(self.shape)}; expected 1 to {MAX_ELEMENTS} elements")
        expected = prod(self.shape) * _ITEM_BYTES[datatype]
        if len(self.content) != expected:
            raise InputError(f"{what} has {len(self.content)} bytes; shape {self.shape} needs {expected}")
        numpy_type = np.dtype(datatype.lower()).newbyteorder("<")
        return np.frombuffer(self.content, numpy_type).reshape(self.shape)


def _quote(value: object) -> str:
    return ascii(value)[:_LONGEST_QUOTE]


def masked_request(digits: Digits, dropped_bits: int = 0) -> list[Tensor]:
    """Client to evaluator: x - r."""
    return [Tensor(MASKED, "UINT8", digits.shape, digits.tobytes()), *_answer_bits(dropped_bits)]


def seed_request(seed: Seed, shape: Shape, dropped_bits: int = 0) -> list[Tensor]:
    """Client to dealer: its seed share of r, and the shape of the input. Never depends on the activation."""
    content = np.array(shape, "<i8").tobytes()
    tensors = [Tensor(SEED, "UINT8", (SEED_BYTES,), seed.reveal()), Tensor(SHAPE, "INT64", (len(shape),), content)]
    return [*tensors, *_answer_bits(dropped_bits)]


def _answer_bits(dropped_bits: int) -> list[Tensor]:
    """Without this tensor answers are whole."""
    return [Tensor(ANSWER_BITS, "UINT8", (1,), bytes([TRUNCATED_BITS]))] if dropped_bits else []


@dataclass(frozen=True)
class MaskedRequest:
    """What an evaluator receives: planar bytes, (limbs, *input shape); and how many low bits answers shall drop."""

    digits: Digits = field(repr=False)
    dropped_bits: int = field(default=0, repr=False)


@dataclass(frozen=True)
class SeedRequest:
    """What a dealer receives: its seed and the input shape; and how many low bits answers shall drop."""

    seed: Seed
    shape: Shape
    dropped_bits: int = field(default=0, repr=False)


def parse_request(tensors: Sequence[Tensor], layers: Sequence[Layer], ring: Ring) -> MaskedRequest | SeedRequest:
    """Read a request for a slice.

    Raises:
        InputError: missing or unknown tensors, wrong types, sizes or shapes.
    """
    named = {tensor.name: tensor for tensor in tensors}
    is_unique = len(named) == len(tensors)
    dropped_bits = _dropped_bits(named.pop(ANSWER_BITS, None), ring)
    if is_unique and set(named) == {MASKED}:
        digits = named[MASKED].array("UINT8")
        if digits.ndim < 2 or digits.shape[0] != ring.limbs:  # noqa: PLR2004
            raise InputError(f"{MASKED!r} has shape {digits.shape}; expected {ring.limbs} limbs of a tensor")
        check_sizes(layers, digits.shape[1:])
        return MaskedRequest(digits, dropped_bits)
    if is_unique and set(named) == {SEED, SHAPE}:
        sizes = named[SHAPE].array("INT64").reshape(-1)
        shape = tuple(int(size) for size in sizes[: _MAX_RANK + 1])  # one too many is refused like a million
        check_sizes(layers, shape)
        content = named[SEED].array("UINT8").tobytes()
        if len(content) != SEED_BYTES:
            raise InputError(f"{SEED!r} has {len(content)} bytes; expected {SEED_BYTES}")
        return SeedRequest(Seed(content), shape, dropped_bits)
    got = sorted(tensor.name for tensor in tensors)
    raise InputError(f"a request with tensors {_quote(got)}; expected [{MASKED!r}], or [{SEED!r}, {SHAPE!r}]")


def _dropped_bits(tensor: Tensor | None, ring: Ring) -> int:
    if tensor is None:
        return 0
    bits = tensor.array("UINT8").reshape(-1).tolist()
    if bits != [TRUNCATED_BITS] or ring.bits <= TRUNCATED_BITS:
        raise InputError(
            f"{ANSWER_BITS!r} is {_quote(bits)}; expected [{TRUNCATED_BITS}], for a ring of more bits, or none"
        )
    return truncation(ring)


def check_sizes(layers: Sequence[Layer], shape: Shape) -> None:
    """Check that a slice of `layers` may get an input of `shape`.

    Raises:
        InputError: no shape for the layers, or more than `MAX_ELEMENTS` elements in the input or an output.
    """
    for layer in layers:
        output = layer.output_shape(shape)
        if max(prod(shape), prod(output)) > MAX_ELEMENTS:
            raise InputError(f"{layer.name}: {shape} -> {output}; expected at most {MAX_ELEMENTS} elements")


def answer(outputs: Sequence[NDArray[np.int32]], ring: Ring | None = None, dropped_bits: int = 0) -> list[Tensor]:
    """Server to client: one tensor of elements, as two's complement int32, per layer of the slice; int16 if truncated."""
    if ring is not None and dropped_bits:
        return [_truncated(f"{ANSWER}{index}", output, ring, dropped_bits) for index, output in enumerate(outputs)]
    return [
        Tensor(f"{ANSWER}{index}", "INT32", output.shape, output.astype("<i4", copy=False).tobytes())
        for index, output in enumerate(outputs)
    ]


def _truncated(name: str, output: NDArray[np.int32], ring: Ring, dropped_bits: int) -> Tensor:
    top = truncate(ring, output.view(np.uint32) & ring.mask, dropped_bits)
    return Tensor(name, "INT16", output.shape, top.astype("<u2", copy=False).tobytes())


def parse_answer(
    tensors: Sequence[Tensor], layers: Sequence[Layer], shape: Shape, dropped_bits: int = 0
) -> list[Elements]:
    """Read an answer to a request with an input of `shape`. The low bits of a truncated one are 0.

    Raises:
        InputError: missing or unknown tensors, wrong types, sizes or shapes.
    """
    names = [f"{ANSWER}{index}" for index in range(len(layers))]
    if (got := [tensor.name for tensor in tensors]) != names:
        raise InputError(f"an answer with tensors {_quote(got)}; expected {names}")
    for layer, tensor in zip(layers, tensors, strict=True):
        if tensor.shape != (expected := layer.output_shape(shape)):
            raise InputError(f"{layer.name}: answer of shape {_quote(tensor.shape)}; expected {expected}")
    if dropped_bits:
        return [restore(tensor.array("INT16").view("<u2"), dropped_bits) for tensor in tensors]
    return [tensor.array("INT32").view("<u4") for tensor in tensors]
