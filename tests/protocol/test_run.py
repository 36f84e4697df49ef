from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_cases import LAYERS, apply_exactly, cases, random_case

from ppidm.protocol.check import draw_check
from ppidm.protocol.errors import CheckError, InputError, MaskReuseError
from ppidm.protocol.fixed_point import encode, largest_scale
from ppidm.protocol.linear import Layer
from ppidm.protocol.masks import Mask
from ppidm.protocol.messages import Tensor
from ppidm.protocol.prg import Seed
from ppidm.protocol.ring import Ring
from ppidm.protocol.run import ask, open_answers, run_protocol, serve

RING = Ring(32)
SEEDS = [Seed(bytes([number] * 32)) for number in range(1, 4)]
dealers = pytest.mark.parametrize("seeds", [SEEDS[:1], SEEDS[:2], SEEDS], ids=["1 dealer", "2 dealers", "3 dealers"])


def content(messages):
    return [[tensor.content for tensor in message] for message in messages]


def played(case, seeds, x=None):
    """One slice, one layer: its check, the results and the transcript."""
    checks = [draw_check(case.layer, case.weights)]
    x = case.x if x is None else x
    return checks, *run_protocol(RING, [case.layer], [case.weights], checks, x, seeds)


@dealers
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_the_result_is_exact(layer, seeds):
    case = random_case(layer)
    _, (result,), transcript = played(case, seeds)
    expected = apply_exactly(layer, case.weights, case.x)
    assert result.shape == layer.output_shape(case.x.shape)
    assert result.reshape(expected.shape).tolist() == expected.tolist()
    assert len(transcript.requests) == len(transcript.answers) == len(seeds) + 1


@pytest.mark.parametrize(("bits", "weight_bits"), [(24, 8), (32, 12)])
@settings(max_examples=40)
@given(data=st.data())
def test_whatever_the_norm_rule_lets_through_is_exact(bits, weight_bits, data):
    ring = Ring(bits)
    case = data.draw(cases(x_bits=24, weight_bits=weight_bits))
    norm = np.sqrt(np.square(case.weights).reshape(len(case.weights), -1).sum(axis=1).max())
    layer = case.layer.model_copy(update={"weight_norm": float(norm)})
    floats = case.x.astype(np.float32)
    x = encode(floats, largest_scale(ring, [layer], floats, 1))
    (result,), _ = run_protocol(ring, [layer], [case.weights], [draw_check(layer, case.weights)], x, [Seed.fresh()])
    expected = apply_exactly(layer, case.weights, x)
    assert result.reshape(expected.shape).tolist() == expected.tolist()


def test_layers_that_share_an_input_are_answered_together():
    layers = [LAYERS["product"], Layer(name="second", kind="product", in_channels=5, out_channels=7)]
    each = [random_case(layer, seed=number) for number, layer in enumerate(layers)]
    weights, x = [case.weights for case in each], each[0].x
    checks = [draw_check(layer, w) for layer, w in zip(layers, weights, strict=True)]
    results, transcript = run_protocol(RING, layers, weights, checks, x, SEEDS[:1])
    for layer, w, result in zip(layers, weights, results, strict=True):
        assert result.tolist() == apply_exactly(layer, w, x).tolist()
    assert [len(message) for message in transcript.requests + transcript.answers] == [1, 2, 2, 2]


@dealers
def test_what_dealers_see_and_say_does_not_depend_on_the_activation(seeds):
    case = random_case(LAYERS["strided"])
    _, _, first = played(case, seeds)
    _, _, second = played(case, seeds, np.zeros_like(case.x))
    assert content(first.requests[1:]) == content(second.requests[1:])
    assert content(first.answers[1:]) == content(second.answers[1:])
    assert content(first.requests[:1]) != content(second.requests[:1])


@dealers
def test_sizes_do_not_depend_on_the_activation(seeds):
    case = random_case(LAYERS["strided"])
    transcripts = [played(case, seeds, x)[2] for x in (case.x, np.zeros_like(case.x), np.sign(case.x))]
    described = [[repr(message) for message in run.requests + run.answers] for run in transcripts]
    assert described[0] == described[1] == described[2]


def test_two_runs_share_nothing():
    case = random_case(LAYERS["strided"])
    (_, _, first), (_, _, second) = (played(case, [Seed.fresh(), Seed.fresh()]) for _ in range(2))
    for one, other in zip(first.requests + first.answers, second.requests + second.answers, strict=True):
        for tensor, twin in zip(one, other, strict=True):
            assert tensor.name == "shape" or tensor.content != twin.content


@pytest.mark.parametrize(("count", "liar"), [(count, liar) for count in (1, 2, 3) for liar in range(count + 1)])
def test_one_flipped_bit_of_any_server_is_caught(count, liar):
    case = random_case(LAYERS["convolution"])
    checks, _, transcript = played(case, SEEDS[:count])
    (tensor,) = transcript.answers[liar]
    for bit in (0, 7, 8 * len(tensor.content) - 1):
        wrong = bytearray(tensor.content)
        wrong[bit // 8] ^= 1 << bit % 8
        answers = list(transcript.answers)
        answers[liar] = [replace(tensor, content=bytes(wrong))]
        with pytest.raises(CheckError, match=f"convolution: 1 rows of the sum of {count + 1} answers are wrong"):
            open_answers(RING, [case.layer], checks, case.x, answers)


def test_an_answer_too_few_or_too_many_is_caught():
    case = random_case(LAYERS["product"])
    checks, _, transcript = played(case, SEEDS)
    for answers in (transcript.answers[1:], transcript.answers[:-1], [*transcript.answers, transcript.answers[1]]):
        with pytest.raises(CheckError, match=f"6 rows of the sum of {len(answers)} answers"):
            open_answers(RING, [case.layer], checks, case.x, answers)


def test_the_error_names_the_layer_that_is_wrong():
    layers = [LAYERS["product"], Layer(name="second", kind="product", in_channels=5, out_channels=3)]
    weights = [random_case(layer, seed=number).weights for number, layer in enumerate(layers)]
    x = random_case(layers[0]).x
    checks = [draw_check(layer, w) for layer, w in zip(layers, weights, strict=True)]
    _, transcript = run_protocol(RING, layers, weights, checks, x, SEEDS[:1])
    first, second = transcript.answers[0]
    lie = [first, replace(second, content=first.content)]
    with pytest.raises(CheckError, match=r"^second: 6 rows"):
        open_answers(RING, layers, checks, x, [lie, *transcript.answers[1:]])


def test_a_malformed_answer_is_the_peers_input_error():
    case = random_case(LAYERS["product"])
    checks, _, transcript = played(case, SEEDS[:1])
    (tensor,) = transcript.answers[1]
    cut = replace(tensor, content=tensor.content[:-1])
    with pytest.raises(InputError, match="71 bytes"):
        open_answers(RING, [case.layer], checks, case.x, [transcript.answers[0], [cut]])


def test_a_mask_asks_once():
    case = random_case(LAYERS["product"])
    mask = Mask.fresh(RING, case.x.shape, 2)
    assert len(ask(RING, case.x, mask).requests) == 3
    with pytest.raises(MaskReuseError, match="draw a fresh one"):
        ask(RING, case.x, mask)


def test_without_checks_a_lie_passes():
    case = random_case(LAYERS["product"])
    _, (truth,), transcript = played(case, SEEDS[:1])
    lie = [transcript.answers[0], transcript.answers[0]]
    (opened,) = open_answers(RING, [case.layer], None, case.x, lie)
    assert opened.shape == truth.shape
    assert not np.array_equal(opened, truth)


def test_a_missing_check_is_no_pass():
    case = random_case(LAYERS["product"])
    _, _, transcript = played(case, SEEDS[:1])
    with pytest.raises(ValueError, match="zip"):
        open_answers(RING, [case.layer], [], case.x, transcript.answers)


def test_a_server_refuses_what_is_no_request():
    case = random_case(LAYERS["product"])
    with pytest.raises(InputError, match="expected"):
        serve(RING, [case.layer], [case.weights], [Tensor("x", "FP32", (1,), bytes(4))])


def test_both_roles_compute_the_same_function():
    """The digits that an evaluator gets for zeros are -r; its answer and the dealer's cancel."""
    case = random_case(LAYERS["grouped"])
    shape = case.x.shape
    _, dealer_request = ask(RING, case.x, Mask(RING, shape, SEEDS[:1])).requests
    pretended = ask(RING, np.zeros_like(case.x), Mask(RING, shape, SEEDS[:1])).requests[0]  # digits of -r
    own, other = (serve(RING, [case.layer], [case.weights], request)[0] for request in (dealer_request, pretended))
    total = np.frombuffer(own.content, np.uint32) + np.frombuffer(other.content, np.uint32)
    assert not total.any()
