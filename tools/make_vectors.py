"""Write the test vectors of the protocol into `tests/vectors` (or a directory that is named): `make vectors`.

Inputs come from SHAKE-256 of the vector's name, so the files are the same on every machine; a test compares them.

`direct_*.json` is a run of all parties; `truncated_*.json` one with answers of 16 bits, and an audit. Integers are exact; `v`
and `u` of a check are 64-bit, as decimal text; the content of a tensor is hexadecimal, or its SHA-256 if it is long.

`bad_*.json` must be refused. `step` says by whom: `mask` (the client draws masks from `seeds`), `request` (a server
reads it), `open` (the client opens `answers`) or `audit` (it compares a truncated answer with a whole one); `error` and
`message` are the class and a part of the text.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ppidm.protocol.audit import whole_request
from ppidm.protocol.check import check_from_v
from ppidm.protocol.linear import Layer
from ppidm.protocol.masks import Mask
from ppidm.protocol.messages import MAX_ELEMENTS, Tensor, masked_request, seed_request
from ppidm.protocol.precision import truncation
from ppidm.protocol.prg import SEED_BYTES, Seed
from ppidm.protocol.ring import Ring
from ppidm.protocol.run import Transcript, ask, open_answers, run_protocol, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ppidm.protocol.check import CheckVectors
    from ppidm.protocol.ring import Integers

    Vector = dict[str, Any]

COMMITTED = Path(__file__).parents[1] / "tests" / "vectors"
LONGEST_CONTENT = 128  # bytes of a tensor that are written out
X_BITS = {24: 9, 32: 14}  # of the encoded activation; with the weights below no result leaves the ring
WEIGHT_BITS = {24: 8, 32: 12}

PRODUCT = Layer(name="product", kind="product", in_channels=5, out_channels=3)
TWIN = PRODUCT.model_copy(update={"name": "twin"})
WIDE = Layer(name="wide", kind="product", in_channels=5, out_channels=4)
CONVOLUTION = Layer(
    name="convolution", kind="convolution", in_channels=3, out_channels=2, kernel=(3, 3), pads=(1, 1, 1, 1)
)
STRIDED = Layer(
    name="strided", kind="convolution", in_channels=2, out_channels=3, kernel=(3, 2), strides=(2, 1), pads=(0, 1, 1, 2)
)
GROUPED = Layer(
    name="grouped",
    kind="convolution",
    in_channels=4,
    out_channels=6,
    kernel=(2, 3),
    pads=(1, 0, 0, 2),
    dilations=(1, 2),
    groups=2,
)
POINTWISE = Layer(name="pointwise", kind="convolution", in_channels=3, out_channels=2, strides=(2, 2))


@dataclass(frozen=True)
class Case:
    """The inputs of one run."""

    ring: Ring
    layers: list[Layer]
    weights: list[Integers]
    checks: list[CheckVectors]
    x: Integers
    seeds: list[Seed]

    def run(self) -> tuple[list[Integers], Transcript]:
        """Play all parties."""
        return run_protocol(self.ring, self.layers, self.weights, self.checks, self.x, self.seeds)

    def serve(self, request: list[Tensor]) -> list[Tensor]:
        """What a server answers."""
        return serve(self.ring, self.layers, self.weights, request)


def main() -> None:
    """Write every vector into the directory that the command line names, or where they are committed."""
    directory = Path(sys.argv[1]) if sys.argv[1:] else COMMITTED
    for name, vector in [*direct_vectors(), *truncated_vectors(), *bad_vectors()]:
        lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in vector.items()]
        (directory / f"{name}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def direct_vectors() -> Iterator[tuple[str, Vector]]:
    """Every kind of layer, one to three dealers, both rings."""
    for name, case in {
        "direct_product": make_case("product", 32, [PRODUCT], (4, 5), 1),
        "direct_product_24": make_case("product 24", 24, [PRODUCT], (4, 5), 2),
        "direct_convolution": make_case("convolution", 32, [CONVOLUTION], (1, 4, 3, 3), 2),
        "direct_strided": make_case("strided", 32, [STRIDED], (2, 5, 4, 2), 1),
        "direct_strided_24": make_case("strided 24", 24, [STRIDED], (1, 6, 3, 2), 3),
        "direct_grouped": make_case("grouped", 32, [GROUPED], (1, 2, 4, 4), 3),
        "direct_pointwise_24": make_case("pointwise 24", 24, [POINTWISE], (1, 5, 4, 3), 1),
        "direct_shared_input": make_case("shared input", 32, [PRODUCT, WIDE], (3, 5), 2),
        "direct_ends": ends_case(),
    }.items():
        opened, transcript = case.run()
        yield name, run_vector(case, opened, transcript)


def truncated_vectors() -> Iterator[tuple[str, Vector]]:
    """Answers of 16 bits, and the whole ones of an audit."""
    for name, case in {
        "truncated_product": make_case("truncated product", 32, [PRODUCT], (4, 5), 1),
        "truncated_product_24": make_case("truncated product 24", 24, [PRODUCT], (4, 5), 1),
        "truncated_strided_24": make_case("truncated strided 24", 24, [STRIDED], (1, 6, 3, 2), 3),
        "truncated_shared_input": make_case("truncated shared input", 32, [PRODUCT, WIDE], (3, 5), 2),
    }.items():
        dropped = truncation(case.ring)
        transcript = ask(case.ring, case.x, Mask(case.ring, case.x.shape, case.seeds), dropped)
        transcript.answers = [case.serve(request) for request in transcript.requests]
        opened = open_answers(case.ring, case.layers, None, case.x, transcript.answers, dropped)
        whole = [case.serve(whole_request(request)) for request in transcript.requests]
        audited = {"whole_answers": [[short(tensor) for tensor in answer] for answer in whole]}
        yield name, run_vector(case, opened, transcript) | {"dropped_bits": dropped} | audited


def run_vector(case: Case, opened: list[Integers], transcript: Transcript) -> Vector:
    """All of a run."""
    return {
        **inputs(case),
        "seeds": [seed.reveal().hex() for seed in case.seeds],
        "requests": [[short(tensor) for tensor in request] for request in transcript.requests],
        "answers": [[short(tensor) for tensor in answer] for answer in transcript.answers],
        "opened": [array(result) for result in opened],
    }


def bad_vectors() -> Iterator[tuple[str, Vector]]:
    """What must be refused."""
    yield from bad_masks()
    yield from bad_requests()
    yield from bad_answers()
    yield from bad_audits()


def bad_masks() -> Iterator[tuple[str, Vector]]:
    """Seeds that would hide nothing."""
    seeds = [seed.reveal().hex() for seed in make_seeds("bad masks", 2)]
    message = "expected one distinct seed per dealer"
    for name, used in [("equal_seeds", [*seeds, seeds[0]]), ("no_seed", [])]:
        yield f"bad_{name}", {"step": "mask", "error": "InputError", "message": message, "ring_bits": 32, "seeds": used}


def bad_requests() -> Iterator[tuple[str, Vector]]:
    """What a server must not try to compute."""
    layers = [PRODUCT]
    x_shape = (4, 5)
    (masked,) = masked_request(pseudorandom("bad requests", (4, *x_shape)))
    seed, shape = seed_request(make_seeds("bad requests", 1)[0], x_shape)

    def of_shape(*sizes: int) -> list[Tensor]:
        return [seed, Tensor("shape", "INT64", (len(sizes),), np.array(sizes, "<i8").tobytes())]

    def answer_bits(bits: int) -> Tensor:
        return Tensor("answer_bits", "UINT8", (1,), bytes([bits]))

    either = "expected ['masked'], or ['seed', 'shape']"
    too_large = f"expected at most {MAX_ELEMENTS} elements"
    for name, message, request in [
        ("empty", either, []),
        ("unknown_tensor", either, [masked, replace(seed, name="prompt")]),
        ("both_roles", either, [masked, seed, shape]),
        ("seed_without_shape", either, [seed]),
        ("tensor_twice", either, [seed, seed, shape]),
        ("masked_datatype", "tensor 'masked' is 'INT32'; expected UINT8", [replace(masked, datatype="INT32")]),
        ("masked_truncated", "has 79 bytes", [replace(masked, content=masked.content[:-1])]),
        ("masked_other_ring", "expected 4 limbs", [replace(masked, shape=(3, 4, 5), content=masked.content[:60])]),
        ("masked_rank", "input shape is (20,)", [replace(masked, shape=(4, 20))]),
        ("masked_channels", "with C = 5", [replace(masked, shape=(4, 5, 4))]),
        ("masked_negative", "has shape (4, -4, -5)", [replace(masked, shape=(4, -4, -5))]),
        ("seed_short", "'seed' has 31 bytes", [replace(seed, shape=(31,), content=seed.content[:31]), shape]),
        ("seed_datatype", "'seed' is 'BYTES'", [replace(seed, datatype="BYTES"), shape]),
        ("shape_datatype", "'shape' is 'INT32'", [seed, replace(shape, datatype="INT32", shape=(4,))]),
        ("shape_huge", too_large, of_shape(2**40, 5)),
        ("shape_just_too_large", too_large, of_shape(MAX_ELEMENTS // 5 + 1, 5)),
        ("shape_wraps_int64", too_large, of_shape(2**62, 5)),
        ("shape_zero", "input shape is (0, 5)", of_shape(0, 5)),
        ("shape_negative", "input shape is (-4, 5)", of_shape(-4, 5)),
        ("shape_rank", "expected (rows, C) with C = 5", of_shape(*[1] * 60)),
        ("answer_bits_other", "'answer_bits' is [8]; expected [16]", [masked, answer_bits(8)]),
        ("answer_bits_twice", either, [masked, answer_bits(16), answer_bits(16)]),
        ("answer_bits_alone", either, [answer_bits(16)]),
        ("answer_bits_datatype", "'answer_bits' is 'INT32'", [masked, replace(answer_bits(16), datatype="INT32")]),
    ]:
        yield (
            f"bad_request_{name}",
            {
                "step": "request",
                "error": "InputError",
                "message": message,
                "ring_bits": 32,
                "layers": [layer.model_dump(exclude_defaults=True) for layer in layers],
                "request": [whole(tensor) for tensor in request],
            },
        )


def bad_answers() -> Iterator[tuple[str, Vector]]:
    """Lies and malformed answers. The first answer is the evaluator's."""
    one = make_case("bad answers", 32, [PRODUCT], (4, 5), 1)
    two = make_case("bad answers, two layers", 32, [PRODUCT, TWIN], (4, 5), 2)
    convolution = make_case("bad answers, convolution", 32, [STRIDED], (1, 4, 3, 2), 1)
    small = make_case("bad answers 24", 24, [PRODUCT], (4, 5), 1)
    for name, case, error, message, server, answer in [
        ("flipped_bit", one, "CheckError", "product: 1 rows of the sum of 2 answers", 0, flip(one, 0, 100)),
        ("flipped_top_bit", one, "CheckError", "product: 1 rows", 0, flip(one, 0, 31)),
        ("flipped_bit_of_a_dealer", one, "CheckError", "product: 1 rows", 1, flip(one, 1, 7)),
        ("flipped_bit_convolution", convolution, "CheckError", "strided: 1 rows", 0, flip(convolution, 0, 255)),
        ("flipped_bit_24", small, "CheckError", "product: 1 rows", 0, flip(small, 0, 23)),
        ("rows_swapped", one, "CheckError", "product: 2 rows", 0, move(one, [1, 0, 2, 3])),
        ("rows_rotated", one, "CheckError", "product: 4 rows", 0, move(one, [1, 2, 3, 0])),
        ("zeros", one, "CheckError", "product: 4 rows", 0, [edit(one, 0, content=bytes(48))]),
        ("other_role", one, "CheckError", "product: 4 rows", 0, answers(one)[1]),
        ("replayed", one, "CheckError", "product: 4 rows", 0, replayed(one)),
        ("layers_swapped", two, "CheckError", "product: 4 rows of the sum of 3 answers", 1, swapped(two)),
        ("missing_layer", two, "InputError", "expected ['answer_0', 'answer_1']", 2, answers(two)[2][:1]),
        ("surplus_tensor", one, "InputError", "expected ['answer_0']", 0, answers(one)[0] * 2),
        ("other_name", one, "InputError", "expected ['answer_0']", 0, [edit(one, 0, name="answer_1")]),
        ("other_shape", one, "InputError", "answer of shape (3, 4); expected (4, 3)", 0, [edit(one, 0, shape=(3, 4))]),
        ("other_rank", one, "InputError", "answer of shape (12,); expected (4, 3)", 0, [edit(one, 0, shape=(12,))]),
        ("other_datatype", one, "InputError", "is 'FP32'; expected INT32", 0, [edit(one, 0, datatype="FP32")]),
        ("truncated", one, "InputError", "has 47 bytes; shape (4, 3) needs 48", 1, [cut(one, 1, 47)]),
        ("empty_content", one, "InputError", "has 0 bytes; shape (4, 3) needs 48", 0, [cut(one, 0, 0)]),
    ]:
        given = list(answers(case))
        given[server] = answer
        yield f"bad_answer_{name}", bad_answer(case, error, message, given)
    for name, given in [("too_few", answers(one)[:1]), ("too_many", [*answers(one), answers(one)[1]])]:
        yield f"bad_answer_{name}", bad_answer(one, "CheckError", "product: 4 rows", given)


def bad_audits() -> Iterator[tuple[str, Vector]]:
    """A server's truncated answer, and a whole one that it is not the top of; or no answers that can be compared."""
    case = make_case("bad audits", 32, [PRODUCT], (4, 5), 1)
    dropped = truncation(case.ring)
    request = masked_request(Mask(case.ring, case.x.shape, case.seeds).hide(case.ring.reduce(case.x)), dropped)
    [truncated], [exact] = case.serve(request), case.serve(whole_request(request))

    def changed(tensor: Tensor, byte: int) -> Tensor:
        content = bytearray(tensor.content)
        content[byte] ^= 1
        return replace(tensor, content=bytes(content))

    wrong = "product: 1 values of its truncated answer"
    for name, error, message, first, second in [
        ("one_unit", "CheckError", wrong, changed(truncated, 0), exact),
        ("top_of_the_whole", "CheckError", wrong, truncated, changed(exact, 2)),
        ("whole_as_truncated", "InputError", "is 'INT32'; expected INT16", exact, exact),
        ("truncated_as_whole", "InputError", "is 'INT16'; expected INT32", truncated, truncated),
        ("truncated_short", "InputError", "has 23 bytes", replace(truncated, content=truncated.content[:-1]), exact),
    ]:
        step = {"step": "audit", "error": error, "message": message, "dropped_bits": dropped}
        yield f"bad_audit_{name}", step | inputs(case) | {"truncated": whole(first), "whole": whole(second)}


def bad_answer(case: Case, error: str, message: str, given: list[list[Tensor]]) -> Vector:
    """A vector of step `open`."""
    step = {"step": "open", "error": error, "message": message}
    return step | inputs(case) | {"answers": [[whole(tensor) for tensor in answer] for answer in given]}


def answers(case: Case) -> list[list[Tensor]]:
    """The honest ones."""
    return case.run()[1].answers


def edit(case: Case, server: int, **fields: Any) -> Tensor:  # noqa: ANN401
    """The first tensor of a server's answer, with other fields."""
    return replace(answers(case)[server][0], **fields)


def cut(case: Case, server: int, length: int) -> Tensor:
    """The first tensor of a server's answer, shortened."""
    return edit(case, server, content=answers(case)[server][0].content[:length])


def flip(case: Case, server: int, bit: int) -> list[Tensor]:
    """A server's answer with one bit flipped."""
    content = bytearray(answers(case)[server][0].content)
    content[bit // 8] ^= 1 << bit % 8
    return [edit(case, server, content=bytes(content))]


def move(case: Case, order: list[int]) -> list[Tensor]:
    """The evaluator's answer with its rows in another order."""
    (tensor,) = answers(case)[0]
    rows = np.frombuffer(tensor.content, "<i4").reshape(tensor.shape)
    return [replace(tensor, content=rows[order].tobytes())]


def replayed(case: Case) -> list[Tensor]:
    """The evaluator's honest answer to the same activation under another mask."""
    return answers(replace(case, seeds=make_seeds("bad answers, replayed", 1)))[0]


def swapped(case: Case) -> list[Tensor]:
    """A dealer's answer with the contents of two layers exchanged."""
    first, second = answers(case)[1]
    return [replace(first, content=second.content), replace(second, content=first.content)]


def make_case(name: str, bits: int, layers: list[Layer], shape: tuple[int, ...], dealers: int) -> Case:
    """A case within the norm rule, all of it from `name`."""
    weights = [signed(f"{name} weights {layer.name}", weight_shape(layer), WEIGHT_BITS[bits]) for layer in layers]
    checks = [
        check_from_v(layer, w, signed(f"{name} check {layer.name}", (layer.out_channels,), 64))
        for layer, w in zip(layers, weights, strict=True)
    ]
    x = signed(f"{name} x", shape, X_BITS[bits])
    return Case(Ring(bits), layers, weights, checks, x, make_seeds(name, dealers))


def ends_case() -> Case:
    """The largest activations there are, the ends of the ring, and check vectors at the ends of theirs."""
    layer = Layer(name="ends", kind="product", in_channels=2, out_channels=2)
    weights = np.array([[1, 0], [0, -1]]).reshape(2, 2, 1, 1)
    x = np.array([[2**31 - 1, 2**31 - 1], [-(2**31) + 1, -(2**31) + 1], [0, 1], [-1, 0]])
    check = check_from_v(layer, weights, np.array([-(2**63), 2**63 - 1]))
    return Case(Ring(32), [layer], [weights], [check], x, make_seeds("ends", 1))


def weight_shape(layer: Layer) -> tuple[int, ...]:
    """ONNX's order."""
    return (layer.out_channels, layer.in_channels // layer.groups, *layer.kernel)


def make_seeds(name: str, dealers: int) -> list[Seed]:
    """One per dealer. For test vectors only: these are public."""
    return [Seed(pseudorandom(f"{name} seed {dealer}", (SEED_BYTES,)).tobytes()) for dealer in range(dealers)]


def signed(name: str, shape: tuple[int, ...], bits: int) -> Integers:
    """Integers of `bits`, uniform."""
    wide = pseudorandom(name, (8 * prod(shape),)).view("<i8").astype(np.int64)
    return (wide >> (64 - bits)).reshape(shape)


def pseudorandom(name: str, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Bytes that depend on `name` only."""
    stream = hashlib.shake_256(f"ppidm test vector: {name}".encode()).digest(prod(shape))
    return np.frombuffer(stream, np.uint8).reshape(shape)


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


if __name__ == "__main__":
    main()
