"""Masks that hide nothing, requests and audits that must be refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from vectors.cases import PRODUCT, make_case, make_seeds, pseudorandom
from vectors.described import inputs, whole

from ppidm.protocol.audit import whole_request
from ppidm.protocol.masks import Mask
from ppidm.protocol.messages import MAX_ELEMENTS, Tensor, masked_request, seed_request
from ppidm.protocol.precision import truncation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vectors.described import Vector


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
