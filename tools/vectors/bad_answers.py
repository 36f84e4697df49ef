"""Answers that the client must refuse."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from vectors.cases import PRODUCT, STRIDED, TWIN, make_case, make_seeds
from vectors.described import inputs, whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vectors.cases import Case
    from vectors.described import Vector

    from ppidm.protocol.messages import Tensor


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
