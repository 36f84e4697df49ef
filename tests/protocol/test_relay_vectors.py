"""The committed vectors of relay mode: this implementation computes them."""

import hashlib
from types import SimpleNamespace

import numpy as np
import pytest
from committed_vectors import VECTORS, Inputs, array, assert_same, tensors
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from linear_cases import apply_exactly

from ppidm.protocol import relay_messages as messages
from ppidm.protocol.linear import ANSWER_RING, apply
from ppidm.protocol.masks import Mask, dealer_share
from ppidm.protocol.messages import answer, masked_request, seed_request
from ppidm.protocol.prg import Seed
from ppidm.protocol.relay import add_relayed, elements_of, open_relayed, relayed_tensors, sign_share

RELAY = {name: vector for name, vector in VECTORS.items() if name.startswith("relay_")}


def test_there_are_vectors_of_every_kind():
    assert len(RELAY) >= 5
    kinds = {(vector["ring_bits"], vector["dropped_bits"]) for vector in RELAY.values()}
    assert kinds == {(24, 0), (24, 8), (32, 0), (32, 16)}
    assert {len(vector["seeds"]) for vector in RELAY.values()} == {1, 2, 3}
    assert {len(vector["connects"][0]) for vector in RELAY.values()} == {3, 4}  # with a pin, and without


def outputs_of(given, digits):
    pairs = zip(given.layers, given.weights, strict=True)
    return [apply(layer, weights, digits, ANSWER_RING).view(np.int32) for layer, weights in pairs]


def relay_session(vector):
    """Names, tokens and keys of a session, read from the vector."""
    tokens, keys = ([bytes.fromhex(each) for each in vector[name]] for name in ("tokens", "keys"))
    keys = [Ed25519PrivateKey.from_private_bytes(key) for key in keys]
    signers = [key.public_key().public_bytes_raw() for key in keys]
    return SimpleNamespace(name=bytes.fromhex(vector["session"]), tokens=tokens, keys=keys, signers=signers)


@pytest.mark.parametrize("vector", RELAY.values(), ids=RELAY)
def test_every_party_of_a_relay_sends_what_the_vector_says(vector):
    given, session, dropped = Inputs(vector), relay_session(vector), vector["dropped_bits"]
    seeds = [Seed(bytes.fromhex(seed)) for seed in vector["seeds"]]
    place = messages.Place(session.name, vector["ticket"])
    shares = []
    for seed, key, deal, expected in zip(seeds, session.keys, vector["deals"], vector["shares"], strict=True):
        assert_same([*seed_request(seed, given.x.shape), *messages.place_tensors(place)], deal)
        tensors = relayed_tensors(given.ring, seed, outputs_of(given, dealer_share(given.ring, seed, given.x.shape)))
        shares.append(sign_share(key, session.name, vector["slice"], place.ticket, tensors))
        assert_same(messages.share_tensors(shares[-1]), expected)
    digits = Mask(given.ring, given.x.shape, seeds).hide(given.ring.reduce(given.x))
    released = messages.Place(session.name, place.ticket, tuple(vector["released"]))
    assert_same([*masked_request(digits, dropped), *messages.place_tensors(released)], vector["request"])
    relayed = [elements_of(given.ring, given.layers, given.x.shape, share) for share in shares]
    sent = answer(add_relayed(given.ring, outputs_of(given, digits), relayed), given.ring, dropped)
    assert_same(sent, vector["answer"])
    checks = None if dropped else given.checks
    opened = open_relayed(given.ring, given.layers, checks, given.x, seeds, sent, dropped)
    assert [result.tolist() for result in opened] == [array(result).tolist() for result in vector["opened"]]
    for layer, weights, result in zip(given.layers, given.weights, opened, strict=True):
        error = np.abs(result - apply_exactly(layer, weights, given.x).reshape(result.shape)).max()
        assert error <= (2 ** (dropped - 1) if dropped else 0)


@pytest.mark.parametrize("vector", RELAY.values(), ids=RELAY)
def test_messages_of_a_session_are_read_as_the_vector_says(vector):
    session = relay_session(vector)
    digests = tuple(hashlib.sha256(token).digest() for token in session.tokens)
    opening = messages.OpenRelay(session.name, digests, tuple(session.signers))
    assert messages.parse_open(tensors(vector["open"])) == opening
    assert_same(messages.open_request(opening), vector["open"])
    for token, sent in zip(session.tokens, vector["connects"], strict=True):
        connect = messages.parse_connect(tensors(sent))
        assert (connect.session, connect.token) == (session.name, token)
        assert_same(messages.connect_request(connect), sent)
    for dealer, sent in enumerate(vector["shows"]):
        assert messages.parse_show(tensors(sent)) == (session.name, vector["ticket"], dealer)
    assert messages.parse_window(tensors(vector["window"])) == 1 << 20
    assert messages.parse_close(tensors(vector["close"])) == session.name
