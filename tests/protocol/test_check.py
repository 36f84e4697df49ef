import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_cases import LAYERS, apply_exactly, cases, random_case
from uniformity import assert_uniform

from ppidm.protocol.check import CheckVectors, check_from_v, draw_check, wrong_rows
from ppidm.protocol.linear import apply
from ppidm.protocol.ring import Ring

RING = Ring(32)
every_layer = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)


def honest(case):
    """W x by the parties' own code."""
    return RING.signed(apply(case.layer, case.weights, RING.to_digits(RING.reduce(case.x)), RING))


def flipped(y, bit, place):
    """`y` as opened after one bit of one element of an answer was flipped."""
    elements = RING.reduce(y)
    elements.reshape(-1)[place] ^= np.uint32(1 << bit)
    return RING.signed(elements)


@every_layer
def test_u_is_the_product_of_v_and_the_weights(layer):
    case = random_case(layer)
    v = np.random.default_rng(1).integers(-(2**63), 2**63, layer.out_channels)
    check = check_from_v(layer, case.weights, v)
    per_out, per_in = layer.out_channels // layer.groups, layer.in_channels // layer.groups
    assert check.u.shape == (layer.in_channels, *layer.kernel)
    for (channel, row, column), got in np.ndenumerate(check.u):
        group, inner = divmod(channel, per_in)
        outputs = range(group * per_out, (group + 1) * per_out)
        expected = sum(int(v[c]) * int(case.weights[c, inner, row, column]) for c in outputs)
        assert (int(got) - expected) % 2**64 == 0


@settings(max_examples=100)
@given(case=cases(x_bits=32, weight_bits=12))
def test_true_results_pass(case):
    y = apply_exactly(case.layer, case.weights, case.x).astype(np.int64)
    shaped = y.reshape(case.layer.output_shape(case.x.shape))
    assert wrong_rows(case.layer, draw_check(case.layer, case.weights), case.x, shaped) == 0


@every_layer
def test_ten_thousand_honest_answers_raise_no_alarm(layer):
    case = random_case(layer)
    y = honest(case)
    share = 10_000 // len(LAYERS)
    assert not any(wrong_rows(layer, draw_check(layer, case.weights), case.x, y) for _ in range(share))


@every_layer
def test_every_flipped_bit_is_caught(layer):
    """False alarm of this test: 2**-33 for the top bit, half of that for the next, ...: 2**-32 per layer."""
    case = random_case(layer)
    check, y = draw_check(layer, case.weights), honest(case)
    places = np.random.default_rng().integers(0, y.size, 32)
    assert [wrong_rows(layer, check, case.x, flipped(y, bit, place)) for bit, place in enumerate(places)] == [1] * 32


@every_layer
def test_it_counts_the_wrong_rows(layer):
    case = random_case(layer)
    check, y = draw_check(layer, case.weights), honest(case)
    rows = y.reshape(-1, layer.out_channels)
    rows[[0, 3, -1]] += 1
    assert wrong_rows(layer, check, case.x, y) == 3


def test_rows_and_channels_that_change_places_are_caught():
    case = random_case(LAYERS["product"])
    check, y = draw_check(case.layer, case.weights), honest(case)
    assert wrong_rows(case.layer, check, case.x, y[::-1]) == 6
    assert wrong_rows(case.layer, check, case.x, y[:, ::-1]) == 6


def test_a_flipped_top_bit_passes_half_of_the_time_modulo_2_to_the_32():
    """Why the check has 64 bits.

    The error is 2**31; times v it is 0 modulo 2**32 whenever v is even. 2,000 draws miss 1,000 +- 160 times but for a
    probability of 1e-12 (7.2 standard deviations). With 64 bits it takes v = 0 modulo 2**33: none in 2,000 draws but
    for a probability of 2.4e-7.
    """
    case = random_case(LAYERS["product"])
    y = flipped(honest(case), 31, 4)
    missed_by_32_bits = missed_by_64_bits = 0
    for _ in range(2_000):
        check = draw_check(case.layer, case.weights)
        difference = y @ check.v - case.x @ check.u.reshape(case.layer.in_channels)
        missed_by_32_bits += not (difference % 2**32).any()
        missed_by_64_bits += wrong_rows(case.layer, check, case.x, y) == 0
    assert 840 <= missed_by_32_bits <= 1160
    assert missed_by_64_bits == 0


@settings(max_examples=30)
@given(valuation=st.integers(0, 31), odd=st.integers(0, 2**31 - 1))
def test_an_error_passes_for_one_v_in_2_to_the_64_less_its_valuation(valuation, odd):
    """The proof in the docstring, by construction: v passes if and only if 2**(64 - valuation) divides it."""
    case = random_case(LAYERS["product"])
    error = ((2 * odd + 1) << valuation) % 2**32
    y = honest(case)
    y[2, 1] += error  # as integers: the largest lie that a sum of int32 can hide
    v = np.arange(1, 4)
    for exponent, passes in [(64 - valuation, True), (63 - valuation, False)]:
        v[1] = np.array(2**exponent % 2**64, np.uint64).astype(np.int64)
        check = check_from_v(case.layer, case.weights, v)
        assert (wrong_rows(case.layer, check, case.x, y) == 0) == (passes or error == 0)


def test_vectors_are_64_bit_uniform_and_fresh():
    case = random_case(LAYERS["product"])
    draws = np.array([draw_check(case.layer, case.weights).v for _ in range(200)])
    assert_uniform(draws.view(np.uint8).reshape(-1, 8).T, "v, byte by byte")
    assert len({v.tobytes() for v in draws}) == 200


def test_repr_hides_the_content():
    check = CheckVectors(np.array([123456789, 5, 6]), np.array([987654321]).reshape(1, 1, 1))
    assert repr(check) == str(check) == "CheckVectors(out_channels=3)"
