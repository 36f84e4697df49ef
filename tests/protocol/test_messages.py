from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_cases import LAYERS, input_shape

from ppidm.protocol.errors import InputError
from ppidm.protocol.linear import Layer
from ppidm.protocol.messages import (
    MAX_ELEMENTS,
    MaskedRequest,
    SeedRequest,
    Tensor,
    answer,
    check_sizes,
    masked_request,
    parse_answer,
    parse_request,
    seed_request,
)
from ppidm.protocol.prg import Seed
from ppidm.protocol.ring import Ring

RING = Ring(32)
SEED = Seed(bytes(range(32)))
LAYER = LAYERS["product"]
PAIR = [LAYER, Layer(name="second", kind="product", in_channels=5, out_channels=2)]
DIGITS = np.arange(4 * 6 * 5, dtype=np.uint8).reshape(4, 6, 5)
every_layer = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)

sizes = st.integers(-1, 6) | st.sampled_from([0, -(2**63), 2**31, 2**62, 2**63 - 1, MAX_ELEMENTS, MAX_ELEMENTS + 1])
tensors = st.builds(
    Tensor,
    name=st.sampled_from(["masked", "seed", "shape", "answer_0", "answer_1", "answer_2"]) | st.text(max_size=5),
    datatype=st.sampled_from(["UINT8", "INT32", "INT64", "FP32", "BYTES", "BOOL", ""]) | st.text(max_size=5),
    shape=st.lists(sizes, max_size=10).map(tuple),
    content=st.binary(max_size=150),
)


@st.composite
def damaged(draw, good):
    """The tensors of a good message with one of them changed, dropped, doubled or moved."""
    message = list(good)
    index = draw(st.integers(0, len(message) - 1))
    tensor, other = message[index], draw(tensors)
    size = len(tensor.content)
    change = draw(
        st.sampled_from(["name", "datatype", "shape", "content", "cut", "grow", "drop", "double", "add", "swap"])
    )
    match change:
        case "name" | "datatype" | "shape" | "content":
            message[index] = replace(tensor, **{change: getattr(other, change)})
        case "cut":
            message[index] = replace(tensor, content=tensor.content[: draw(st.integers(0, size - 1))])
        case "grow":
            message[index] = replace(tensor, content=tensor.content + draw(st.binary(min_size=1, max_size=9)))
        case "drop":
            del message[index]
        case "double":
            message.append(tensor)
        case "add":
            message.append(other)
        case "swap":
            message.reverse()
    return message


def outcome(parse, *arguments):
    """What `parse` returns, or the text of its InputError. Other exceptions come through."""
    try:
        return parse(*arguments)
    except InputError as error:
        return str(error)


@every_layer
@pytest.mark.parametrize("bits", [24, 32])
def test_a_masked_request_round_trips(layer, bits):
    ring = Ring(bits)
    digits = np.random.default_rng(1).integers(0, 256, (ring.limbs, *input_shape(layer)), np.uint8)
    parsed = parse_request(masked_request(digits), [layer], ring)
    assert isinstance(parsed, MaskedRequest)
    assert np.array_equal(parsed.digits, digits)
    assert parsed.digits.dtype == np.uint8


@every_layer
def test_a_seed_request_round_trips(layer):
    request = seed_request(SEED, input_shape(layer))
    assert parse_request(request, [layer], RING) == SeedRequest(SEED, input_shape(layer))
    assert parse_request(request[::-1], [layer], RING) == SeedRequest(SEED, input_shape(layer))


def test_an_answer_round_trips():
    ends = [-(2**31), 2**31 - 1, -1, 0, 1, 258]
    outputs = [np.resize(np.array(ends, np.int32), shape) for shape in [(6, 3), (6, 2)]]
    parsed = parse_answer(answer(outputs), PAIR, (6, 5))
    assert [elements.dtype for elements in parsed] == [np.uint32, np.uint32]
    assert [elements.view(np.int32).tolist() for elements in parsed] == [output.tolist() for output in outputs]


def test_the_bytes_are_little_endian_and_row_major():
    ((masked,), (seed, shape)) = masked_request(DIGITS), seed_request(SEED, (258, 5))
    assert masked == Tensor("masked", "UINT8", (4, 6, 5), bytes(range(120)))
    assert seed == Tensor("seed", "UINT8", (32,), bytes(range(32)))
    assert shape == Tensor("shape", "INT64", (2,), bytes.fromhex("0201000000000000 0500000000000000"))
    (column_major,) = answer([np.asfortranarray(np.array([[1, 2], [-2, 2**24]], np.int32))])
    content = bytes.fromhex("01000000 02000000 feffffff 00000001")
    assert column_major == Tensor("answer_0", "INT32", (2, 2), content)


def test_what_is_parsed_cannot_be_written_to():
    assert not parse_request(masked_request(DIGITS), [LAYER], RING).digits.flags.writeable


@settings(max_examples=300)
@given(message=st.lists(tensors, max_size=4))
def test_from_any_tensors_only_input_errors_come_out(message):
    for error in (outcome(parse_request, message, [LAYER], RING), outcome(parse_answer, message, PAIR, (6, 5))):
        assert isinstance(error, str)  # that all of this is a message by chance is out of the question
        assert len(error) < 1000


@settings(max_examples=300)
@given(data=st.data())
@pytest.mark.parametrize("good", [masked_request(DIGITS), seed_request(SEED, (6, 5))], ids=["masked", "seed"])
def test_a_damaged_request_is_refused_or_still_a_request(good, data):
    message = data.draw(damaged(good))
    parsed = outcome(parse_request, message, PAIR, RING)
    if isinstance(parsed, str):
        assert len(parsed) < 1000
        return
    shape = parsed.digits.shape[1:] if isinstance(parsed, MaskedRequest) else parsed.shape
    assert len(shape) == 2
    assert shape[1] == 5
    assert 1 <= shape[0] <= MAX_ELEMENTS // 5


@settings(max_examples=300)
@given(data=st.data())
def test_a_damaged_answer_is_refused_or_still_an_answer(data):
    good = answer([np.ones((6, 3), np.int32), np.ones((6, 2), np.int32)])
    message = data.draw(damaged(good))
    parsed = outcome(parse_answer, message, PAIR, (6, 5))
    if isinstance(parsed, str):
        assert len(parsed) < 1000
        return
    assert [(elements.shape, elements.dtype) for elements in parsed] == [((6, 3), np.uint32), ((6, 2), np.uint32)]


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (Tensor("a", "INT32", (2,), bytes(8)), "tensor 'a' is 'INT32'; expected UINT8"),
        (Tensor("a", "UINT8", (2,), bytes(3)), r"tensor 'a' has 3 bytes; shape \(2,\) needs 2"),
        (Tensor("a", "UINT8", (-1, -1), bytes(1)), r"has shape \(-1, -1\); expected 1 to 134217728 elements"),
        (Tensor("a", "UINT8", (0, 2**62, 2**62), b""), "expected 1 to 134217728 elements"),
        (Tensor("a", "UINT8", (1,) * 9, bytes(1)), "expected 1 to 134217728 elements"),
        (Tensor("a", "UINT8", (2**14, 2**14), b""), "expected 1 to 134217728 elements"),
        (Tensor("\x1b[2J", "a\n" * 999, (1,), bytes(1)), r"tensor '\\x1b\[2J' is 'a\\na\\n"),
    ],
)
def test_a_bad_tensor_is_described(tensor, message):
    with pytest.raises(InputError, match=message) as error:
        tensor.array("UINT8")
    assert len(str(error.value)) < 500
    assert str(error.value).isprintable()


@pytest.mark.parametrize("shape", [(2**27, 5), (2**62, 5), (MAX_ELEMENTS // 5 + 1, 5)])
def test_what_32_bytes_can_ask_for_is_bounded(shape):
    with pytest.raises(InputError, match=r"product: .* expected at most 134217728 elements"):
        parse_request(seed_request(SEED, shape), [LAYER], RING)


def test_what_32_bytes_can_make_of_outputs_is_bounded():
    wide = Layer(name="wide", kind="product", in_channels=1, out_channels=4096)
    check_sizes([wide], (MAX_ELEMENTS // 4096, 1))
    with pytest.raises(InputError, match=r"wide: .* expected at most 134217728 elements"):
        check_sizes([wide], (MAX_ELEMENTS // 4096 + 1, 1))


def test_a_shape_of_a_million_sizes_is_refused_in_a_few_words():
    seed, _ = seed_request(SEED, (6, 5))
    long = Tensor("shape", "INT64", (1_000_000,), b"\1" * 8_000_000)
    with pytest.raises(InputError, match="product: input shape is") as error:
        parse_request([seed, long], [LAYER], RING)
    assert len(str(error.value)) < 1000


def test_every_layer_of_a_slice_must_accept_the_input():
    other = Layer(name="other", kind="product", in_channels=6, out_channels=1)
    for request in (masked_request(DIGITS), seed_request(SEED, (6, 5))):
        with pytest.raises(InputError, match="other: input shape"):
            parse_request(request, [LAYER, other], RING)


@pytest.mark.parametrize("limbs", [2, 3, 5])
def test_digits_of_another_ring_are_refused(limbs):
    with pytest.raises(InputError, match="expected 4 limbs of a tensor"):
        parse_request(masked_request(np.zeros((limbs, 6, 5), np.uint8)), [LAYER], RING)


@pytest.mark.parametrize("shape", [(), (4,)])
def test_digits_of_no_tensor_are_refused(shape):
    with pytest.raises(InputError, match=r"'masked' has shape .*; expected 4 limbs"):
        parse_request(masked_request(np.zeros(shape, np.uint8)), [LAYER], RING)


@pytest.mark.parametrize("length", [1, 31, 33, 64])
def test_a_seed_of_another_length_is_refused(length):
    _, shape = seed_request(SEED, (6, 5))
    with pytest.raises(InputError, match=f"'seed' has {length} bytes; expected 32"):
        parse_request([Tensor("seed", "UINT8", (length,), bytes(length)), shape], [LAYER], RING)


def test_a_request_is_either_masked_or_a_seed():
    masked, seed = masked_request(DIGITS), seed_request(SEED, (6, 5))
    for request in ([], masked + seed, masked * 2, seed + seed[:1], seed[:1], seed[1:], masked + seed[1:]):
        with pytest.raises(InputError, match=r"expected \['masked'\], or \['seed', 'shape'\]"):
            parse_request(request, [LAYER], RING)


def test_answers_must_come_in_order_and_all():
    good = answer([np.ones((6, 3), np.int32), np.ones((6, 2), np.int32)])
    for message in ([], good[:1], good[::-1], [*good, good[0]], [good[0]] * 2):
        with pytest.raises(InputError, match=r"expected \['answer_0', 'answer_1'\]"):
            parse_answer(message, PAIR, (6, 5))


@pytest.mark.parametrize("shape", [(3, 6), (18,), (6, 3, 1), (1, 6, 3), (9, 2)])
def test_an_answer_of_another_shape_and_the_same_size_is_refused(shape):
    (tensor,) = answer([np.ones((6, 3), np.int32)])
    with pytest.raises(InputError, match=r"product: answer of shape .*; expected \(6, 3\)"):
        parse_answer([replace(tensor, shape=shape)], [LAYER], (6, 5))


def test_repr_shows_no_content():
    secret = b"\xabSECRET"
    texts = [
        repr(Tensor("seed", "UINT8", (7,), secret)),
        repr(SeedRequest(Seed(secret * 4 + b"1234"), (6, 5))),
        repr(MaskedRequest(np.full((4, 1, 2), 171, np.uint8))),
    ]
    assert texts == ["Tensor('seed', UINT8, (7,))", "SeedRequest(seed=Seed(<secret>), shape=(6, 5))", "MaskedRequest()"]
