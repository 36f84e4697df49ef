"""Relay mode in one process: results, errors of truncation, signatures, messages."""

from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from linear_cases import LAYERS, apply_exactly, input_shape, random_case

from ppidm.protocol import relay_messages as messages
from ppidm.protocol.check import draw_check
from ppidm.protocol.cost import relay_cost
from ppidm.protocol.errors import CheckError, InputError
from ppidm.protocol.linear import ANSWER_RING, Layer, apply
from ppidm.protocol.masks import Mask, dealer_share
from ppidm.protocol.messages import Tensor, answer, masked_request, seed_request
from ppidm.protocol.precision import Precision
from ppidm.protocol.prg import Seed
from ppidm.protocol.relay import (
    add_relayed,
    elements_of,
    open_relayed,
    relayed_bytes,
    relayed_tensors,
    require_signature,
    sign_share,
)
from ppidm.protocol.ring import Ring

SESSION = bytes(range(16))
BITS = {24: (8, 8), 32: (14, 12)}
SECOND = Layer(name="second", kind="product", in_channels=5, out_channels=7)


def outputs_of(layers, weights, digits):
    return [apply(layer, w, digits, ANSWER_RING).view(np.int32) for layer, w in zip(layers, weights, strict=True)]


class Played:
    """All parties, for one request."""

    def __init__(self, ring, layers, dealers, dropped_bits=0):
        bits, weight_bits = BITS[ring.bits]
        cases = [random_case(layer, bits, weight_bits, seed) for seed, layer in enumerate(layers)]
        self.ring, self.layers, self.dropped, self.x = ring, layers, dropped_bits, cases[0].x
        self.weights = [case.weights for case in cases]
        self.seeds = [Seed.fresh() for _ in range(dealers)]
        digits = Mask(ring, self.x.shape, self.seeds).hide(ring.reduce(self.x))
        self.request = masked_request(digits, dropped_bits)
        shares = [outputs_of(layers, self.weights, dealer_share(ring, seed, self.x.shape)) for seed in self.seeds]
        self.relayed = [relayed_tensors(ring, seed, share) for seed, share in zip(self.seeds, shares, strict=True)]
        keys = [Ed25519PrivateKey.generate() for _ in self.seeds]
        self.signers = [key.public_key().public_bytes_raw() for key in keys]
        self.shares = [
            sign_share(key, SESSION, "slice", 5, tensors) for key, tensors in zip(keys, self.relayed, strict=True)
        ]
        elements = [elements_of(ring, layers, self.x.shape, share) for share in self.shares]
        self.sums = add_relayed(ring, outputs_of(layers, self.weights, digits), elements)

    def opened(self, checks=None):
        sent = answer(self.sums, self.ring, self.dropped)
        return open_relayed(self.ring, self.layers, checks, self.x, self.seeds, sent, self.dropped)


@pytest.mark.parametrize("dealers", [1, 2, 3])
@pytest.mark.parametrize("bits", [24, 32])
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_whole_answers_are_exact(layer, bits, dealers):
    played = Played(Ring(bits), [layer], dealers)
    checks = [draw_check(layer, played.weights[0])]
    expected = apply_exactly(layer, played.weights[0], played.x)
    assert played.opened(checks)[0].reshape(expected.shape).tolist() == expected.tolist()


@pytest.mark.parametrize("dealers", [1, 4])
@pytest.mark.parametrize("precision", [Precision.BALANCED, Precision.FAST])
def test_truncated_ones_err_by_half_a_unit_whatever_the_number_of_dealers(precision, dealers):
    layers = [LAYERS["product"], SECOND]
    played = Played(precision.ring, layers, dealers, precision.dropped_bits)
    for layer, weights, result in zip(layers, played.weights, played.opened(), strict=True):
        error = np.abs(result - apply_exactly(layer, weights, played.x).astype(np.int64))
        assert 0 < error.max() <= 2 ** (precision.dropped_bits - 1)


@pytest.mark.parametrize("bits", [24, 32])
def test_what_is_relayed_is_reduced_modulo_the_ring(bits):
    """Every byte of it is masked: with 24 bits, three per element, and not the high byte of an int32."""
    played = Played(Ring(bits), [LAYERS["convolution"]], 1)
    [[tensor]] = played.relayed
    assert tensor.shape == (bits // 8, *LAYERS["convolution"].output_shape(played.x.shape))
    assert len(tensor.content) == relayed_bytes(Ring(bits), [LAYERS["convolution"]], played.x.shape)
    again = Played(Ring(bits), [LAYERS["convolution"]], 1)
    equal = np.frombuffer(tensor.content, np.uint8) == np.frombuffer(again.relayed[0][0].content, np.uint8)
    assert equal.mean() < 0.02  # the same W and x; other seeds


def test_a_wrong_share_fails_the_check():
    played = Played(Ring(32), [LAYERS["product"]], 2)
    checks = [draw_check(LAYERS["product"], played.weights[0])]
    played.sums[0] = played.sums[0] ^ np.int32(1)
    with pytest.raises(CheckError, match="rows of the relayed answer are wrong"):
        played.opened(checks)


def test_a_signature_is_of_one_session_ticket_slice_and_content():
    played = Played(Ring(32), [LAYERS["product"]], 1)
    [share], [signer] = played.shares, played.signers
    require_signature(signer, SESSION, share)
    [tensor] = share.tensors
    changed = replace(tensor, content=bytes([tensor.content[0] ^ 1]) + tensor.content[1:])
    reshaped = replace(tensor, shape=(*tensor.shape, 1))
    for session, other in [
        (bytes(16), share),
        (SESSION, replace(share, ticket=6)),
        (SESSION, replace(share, slice="other")),
        (SESSION, replace(share, tensors=(changed,))),
        (SESSION, replace(share, tensors=(reshaped,))),
        (SESSION, replace(share, signature=bytes(64))),
    ]:
        with pytest.raises(InputError, match="not signed"):
            require_signature(signer, session, other)
    with pytest.raises(InputError, match="not signed"):
        require_signature(Ed25519PrivateKey.generate().public_key().public_bytes_raw(), SESSION, share)


def test_shares_of_another_shape_are_refused():
    played = Played(Ring(32), [LAYERS["product"]], 1)
    with pytest.raises(InputError, match="relayed share"):
        elements_of(Ring(32), [LAYERS["product"]], (7, 5), played.shares[0])
    with pytest.raises(InputError, match="relayed share"):
        elements_of(Ring(24), [LAYERS["product"]], (6, 5), played.shares[0])


def payload(tensors):
    return sum(len(tensor.content) for tensor in tensors)


@pytest.mark.parametrize("precision", Precision)
def test_the_declared_cost_is_true(precision):
    layers, shape = [LAYERS["product"], SECOND], input_shape(LAYERS["product"])
    played = Played(precision.ring, layers, 2, precision.dropped_bits)
    cost = relay_cost(precision.ring, layers, shape, precision.dropped_bits)
    place = messages.Place(SESSION, 9, (8,))
    assert payload([*played.request, *messages.place_tensors(place)]) == cost.evaluator_sent
    dealt = [*seed_request(played.seeds[0], shape), *messages.place_tensors(messages.Place(SESSION, 9))]
    assert payload(dealt) == cost.dealer_sent
    assert payload(answer(played.sums, precision.ring, precision.dropped_bits)) == cost.received
    assert {payload(tensors) for tensors in played.relayed} == {cost.relayed}


OPENED = messages.OpenRelay(SESSION, (b"\1" * 32, b"\2" * 32), (b"\3" * 32, b"\4" * 32))
CONNECTS = [messages.ConnectRelay(SESSION, "192.0.2.1:8001", pin, b"\5" * 32) for pin in (None, "ab" * 32)]


def test_messages_are_read_as_they_were_written():
    assert messages.parse_open(messages.open_request(OPENED)) == OPENED
    for connect in CONNECTS:
        assert messages.parse_connect(messages.connect_request(connect)) == connect
        assert "\5" not in repr(connect)
    assert messages.parse_window(messages.window_answer(77)) == 77
    assert messages.parse_show(messages.show_request(SESSION, 3, 1)) == (SESSION, 3, 1)
    assert messages.parse_close(messages.close_request(SESSION)) == SESSION
    [share] = Played(Ring(32), [LAYERS["product"]], 1).shares
    assert messages.parse_share("slice", messages.share_tensors(share)) == share
    place, masked = messages.Place(SESSION, 4, (1, 2)), Tensor("masked", "UINT8", (1,), b"x")
    assert messages.split_place([masked, *messages.place_tensors(place)]) == (place, [masked])
    assert messages.split_place([masked]) == (None, [masked])


def without(tensors, name):
    return [tensor for tensor in tensors if tensor.name != name]


def resized(tensors, name, size):
    return [replace(t, shape=(size,), content=bytes(size)) if t.name == name else t for t in tensors]


BAD = {
    "session": (messages.parse_open, resized(messages.open_request(OPENED), "session", 15)),
    "no signer": (messages.parse_open, without(messages.open_request(OPENED), "signers")),
    "fewer keys than tokens": (messages.parse_open, resized(messages.open_request(OPENED), "signers", 32)),
    "equal tokens": (messages.parse_open, resized(messages.open_request(OPENED), "token_digests", 64)),
    "half a token": (messages.parse_open, resized(messages.open_request(OPENED), "token_digests", 48)),
    "short token": (messages.parse_connect, resized(messages.connect_request(CONNECTS[0]), "token", 31)),
    "short pin": (messages.parse_connect, resized(messages.connect_request(CONNECTS[1]), "pin", 31)),
    "long peer": (messages.parse_connect, resized(messages.connect_request(CONNECTS[0]), "peer", 301)),
    "half a place": (messages.split_place, messages.place_tensors(messages.Place(SESSION, 1))[:1]),
    "a tensor twice": (messages.parse_close, messages.close_request(SESSION) * 2),
    "no layers": (lambda t: messages.parse_share("slice", t), messages.show_request(SESSION, 1, 1)),
    "too many released": (
        messages.split_place,
        messages.place_tensors(messages.Place(SESSION, 1, tuple(range(messages.MAX_RELEASED + 1)))),
    ),
}


@pytest.mark.parametrize(("parse", "tensors"), BAD.values(), ids=BAD)
def test_malformed_messages_are_refused(parse, tensors):
    with pytest.raises(InputError):
        parse(tensors)
