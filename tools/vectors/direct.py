"""Runs of direct mode, with whole answers and with truncated ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vectors.cases import CONVOLUTION, GROUPED, POINTWISE, PRODUCT, STRIDED, WIDE, ends_case, make_case
from vectors.described import array, inputs, short

from ppidm.protocol.audit import whole_request
from ppidm.protocol.masks import Mask
from ppidm.protocol.precision import truncation
from ppidm.protocol.run import ask, open_answers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vectors.cases import Case
    from vectors.described import Vector

    from ppidm.protocol.ring import Integers
    from ppidm.protocol.run import Transcript


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
