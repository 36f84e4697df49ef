"""Truncated answers through the whole protocol, and audits of them."""

from dataclasses import replace

import numpy as np
import pytest
from linear_cases import LAYERS, apply_exactly, random_case

from ppidm.protocol.audit import escape_probability, inconsistency, is_chosen, require_share, whole_request
from ppidm.protocol.check import draw_check
from ppidm.protocol.errors import InputError
from ppidm.protocol.masks import Mask
from ppidm.protocol.messages import parse_answer
from ppidm.protocol.precision import Precision
from ppidm.protocol.run import ask, open_answers, serve

TRUNCATED = [Precision.BALANCED, Precision.FAST]
BITS = {Precision.BALANCED: (14, 12), Precision.FAST: (8, 8)}  # of x and of weights


class Played:
    """One slice of one layer, and all messages."""

    def __init__(self, layer, precision, dealers):
        bits, weight_bits = BITS[precision]
        self.case, self.ring, self.dropped = (
            random_case(layer, bits, weight_bits),
            precision.ring,
            precision.dropped_bits,
        )
        self.layers, self.weights = [layer], [self.case.weights]
        self.transcript = ask(self.ring, self.case.x, Mask.fresh(self.ring, self.case.x.shape, dealers), self.dropped)
        self.truncated = [self.serve(request) for request in self.transcript.requests]
        self.whole = [self.serve(whole_request(request)) for request in self.transcript.requests]

    def serve(self, request):
        return serve(self.ring, self.layers, self.weights, request)

    def judged(self, truncated, whole):
        return inconsistency(self.ring, self.layers, self.case.x.shape, truncated, whole, self.dropped)


@pytest.mark.parametrize("dealers", [1, 2, 3])
@pytest.mark.parametrize("precision", TRUNCATED)
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_the_result_is_within_the_bound_and_an_audit_exact(layer, precision, dealers):
    played = Played(layer, precision, dealers)
    expected = apply_exactly(layer, played.case.weights, played.case.x)
    (result,) = open_answers(played.ring, played.layers, None, played.case.x, played.truncated, played.dropped)
    assert np.abs(result.reshape(expected.shape) - expected).max() <= (dealers + 1) * 2 ** (played.dropped - 1)
    assert all(played.judged(*pair) is None for pair in zip(played.truncated, played.whole, strict=True))
    checks = [draw_check(layer, played.case.weights)]
    (whole,) = open_answers(played.ring, played.layers, checks, played.case.x, played.whole)
    assert whole.reshape(expected.shape).tolist() == expected.tolist()


@pytest.mark.parametrize("precision", TRUNCATED)
def test_truncated_answers_have_half_of_the_bytes_and_requests_one_more(precision):
    played = Played(LAYERS["convolution"], precision, 1)
    for short, long in zip(played.truncated, played.whole, strict=True):
        assert [2 * len(tensor.content) for tensor in short] == [len(tensor.content) for tensor in long]
        assert {tensor.datatype for tensor in short} == {"INT16"}
    for request in played.transcript.requests:
        [surplus] = [tensor for tensor in request if tensor not in whole_request(request)]
        assert (surplus.name, surplus.content) == ("answer_bits", b"\x10")


@pytest.mark.parametrize("precision", TRUNCATED)
def test_one_unit_more_is_inconsistent(precision):
    """It is within what truncation itself may err by, so a tolerance would forgive it."""
    played = Played(LAYERS["product"], precision, 1)
    [tensor] = played.truncated[1]
    lie = tensor.array("INT16").copy()
    lie[2, 1] += 1
    verdict = played.judged([replace(tensor, content=lie.tobytes())], played.whole[1])
    assert verdict == "product: 1 values of its truncated answer are not those of its whole one"


@pytest.mark.parametrize("precision", TRUNCATED)
def test_a_change_of_what_is_dropped_is_consistent_and_fails_the_check(precision):
    played = Played(LAYERS["product"], precision, 1)
    [tensor] = played.whole[1]
    values = parse_answer([tensor], played.layers, played.case.x.shape)[0].copy()
    away = np.uint32(1) if values[0, 0] & 1 == 0 else np.uint32(2**32 - 1)  # towards the middle of the unit
    values[:1, :1] += away
    lie = [replace(tensor, content=values.tobytes())]
    assert played.judged(played.truncated[1], lie) is None
    checks = [draw_check(LAYERS["product"], played.case.weights)]
    with pytest.raises(Exception, match="1 rows"):
        open_answers(played.ring, played.layers, checks, played.case.x, [played.whole[0], lie])


def test_a_ring_without_bits_to_drop_refuses():
    played = Played(LAYERS["product"], Precision.FAST, 1)
    with pytest.raises(InputError, match="answer_bits"):
        serve(replace(played.ring, bits=16), played.layers, played.weights, played.transcript.requests[1])


@pytest.mark.parametrize("content", [b"\x08", b"\x00", b"\x20", b"\x10\x10"])
def test_other_numbers_of_bits_are_refused(content):
    played = Played(LAYERS["product"], Precision.BALANCED, 1)
    masked, bits = played.transcript.requests[0]
    with pytest.raises(InputError, match=r"'answer_bits' is .*; expected \[16\]"):
        played.serve([masked, replace(bits, shape=(len(content),), content=content)])


def test_whole_answers_to_a_request_for_truncated_ones_are_malformed():
    played = Played(LAYERS["product"], Precision.BALANCED, 1)
    with pytest.raises(InputError, match="expected INT16"):
        open_answers(played.ring, played.layers, None, played.case.x, played.whole, played.dropped)


def test_the_share_of_requests_that_are_chosen():
    assert not any(is_chosen(0.0) for _ in range(1000))
    assert all(is_chosen(1.0) for _ in range(1000))
    chosen = sum(is_chosen(0.05) for _ in range(20_000))
    assert abs(chosen - 1000) < 6 * (20_000 * 0.05 * 0.95) ** 0.5
    assert escape_probability(0.05, 20) == pytest.approx(0.3585, abs=1e-4)


@pytest.mark.parametrize("share", [-0.01, 1.01, float("nan")])
def test_no_share(share):
    with pytest.raises(InputError, match="--audit"):
        require_share(share)
