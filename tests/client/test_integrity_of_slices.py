"""Every slice of the shipped model with this user's check vectors: wrong answers are caught, honest ones pass.

A flipped top bit passes where the entry of v is a multiple of 2**33 (one in 2**33 is). The tests flip bits in other
columns, so that every flip must be caught; that a layer has two such columns has probability below 1e-11. All other
lies change two rows or more, and pass if all of them do: 2**-66 each, below 1e-16.
"""

import re
from itertools import pairwise

import numpy as np
import pytest
from shipped import RING, apply_torch, extreme_activation, load_slices, masked_answers, rough_activation
from uniformity import assert_uniform

from ppidm.protocol.errors import CheckError
from ppidm.protocol.masks import Mask
from ppidm.protocol.messages import answer
from ppidm.protocol.run import open_answers

BITS, SERVERS = 32, 3


@pytest.fixture(scope="module")
def slices(package):
    return load_slices(package)


@pytest.fixture(scope="module")
def answered(slices):
    """By slice: an activation, and the answers of three servers to it."""
    rng = np.random.default_rng(3)
    inputs = [rough_activation(rng, loaded, doubled(loaded.subgraph.nominal_shape)) for loaded in slices]
    return [(loaded, x, answers_to(loaded, x)) for loaded, x in zip(slices, inputs, strict=True)]


def doubled(shape):
    """A batch of two: every slice has two rows or more."""
    return (2 * shape[0], *shape[1:])


def answers_to(loaded, x):
    return masked_answers(loaded.runner, RING, RING.reduce(x), Mask.fresh(RING, x.shape, SERVERS - 1))


def opened(loaded, x, answers):
    tensors = [answer([values.view(np.int32) for values in layers]) for layers in answers]
    return open_answers(RING, loaded.layers, loaded.checks, x, tensors)


def replaced(answers, server, layer, values):
    """`answers` with another answer of one server for one layer."""
    lie = [list(layers) for layers in answers]
    lie[server][layer] = values
    return lie


def assert_caught(loaded, layer, x, answers, rows=r"\d+"):
    with pytest.raises(CheckError, match=f"^{re.escape(layer.name)}: {rows} rows of the sum of 3 answers are wrong$"):
        opened(loaded, x, answers)


def test_the_vectors_are_uniform_and_of_every_layer(slices):
    for loaded in slices:
        assert [len(check.v) for check in loaded.checks] == [layer.out_channels for layer in loaded.layers]
    assert_uniform(b"".join(check.v.tobytes() for loaded in slices for check in loaded.checks), "v")


def test_every_flipped_bit_of_every_server_is_caught_in_every_layer(answered):
    """One flip in each row, of one bit after the other: the number of wrong rows is the number of flips."""
    rng, flips = np.random.default_rng(4), np.zeros((SERVERS, BITS), np.int64)
    for loaded, x, answers in answered:
        for index, (layer, check) in enumerate(zip(loaded.layers, loaded.checks, strict=True)):
            columns = np.flatnonzero(check.v % 2**33)
            assert len(columns) >= layer.out_channels - 1
            rows = answers[0][index].size // layer.out_channels
            for first in range(0, BITS, rows):
                server, bits = int(rng.integers(SERVERS)), (first + np.arange(rows, dtype=np.uint32)) % BITS
                values = answers[server][index].copy()
                values.reshape(rows, -1)[np.arange(rows), rng.choice(columns, rows)] ^= np.uint32(1) << bits
                assert_caught(loaded, layer, x, replaced(answers, server, index, values), rows)
                np.add.at(flips, (server, bits), 1)
    assert flips.min() > 50


def test_one_flip_among_all_rows_is_enough(answered):
    rng = np.random.default_rng(5)
    for loaded, x, answers in answered:
        values = answers[2][0].copy()
        rows = values.reshape(-1, values.shape[-1])
        rows[rng.integers(len(rows)), rng.choice(np.flatnonzero(loaded.checks[0].v % 2**33))] ^= np.uint32(1 << 31)
        assert_caught(loaded, loaded.layers[0], x, replaced(answers, 2, 0, values), 1)


LIES = {
    "zeros": np.zeros_like,
    "rows reversed": lambda values: values.reshape(-1, values.shape[-1])[::-1].reshape(values.shape),
    "channels rolled": lambda values: np.roll(values, 1, axis=-1),
    "negated": lambda values: -values,
    "top bits of a row": lambda values: values ^ np.uint32(1 << 31),
    "random": lambda values: np.random.default_rng(6).integers(0, 2**32, values.shape).astype(np.uint32),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
@pytest.mark.parametrize("server", range(SERVERS))
def test_lies_are_caught_in_every_slice(answered, lie, server):
    for loaded, x, answers in answered:
        assert_caught(loaded, loaded.layers[0], x, replaced(answers, server, 0, lie(answers[server][0])))


@pytest.mark.parametrize("server", range(SERVERS))
def test_an_answer_to_an_earlier_request_is_caught(answered, server):
    """Even to the same activation: the mask was another."""
    for loaded, x, answers in answered:
        earlier = answers_to(loaded, x)
        for index, layer in enumerate(loaded.layers):
            assert_caught(loaded, layer, x, replaced(answers, server, index, earlier[server][index]))


@pytest.mark.parametrize("server", range(SERVERS))
def test_an_answer_for_another_layer_or_slice_is_caught(answered, server):
    by_shape = {}
    for loaded, x, answers in answered:
        for index, layer in enumerate(loaded.layers):
            by_shape.setdefault(answers[server][index].shape, []).append((loaded, layer, index, x, answers))
    tried = 0
    for same in by_shape.values():
        for (loaded, layer, index, x, answers), (*_, other_index, _, other) in pairwise(same):
            assert_caught(loaded, layer, x, replaced(answers, server, index, other[server][other_index]))
            tried += 1
    assert tried > 90


def test_ten_thousand_honest_answers_pass(slices):
    """35 x 96 openings of three answers each: half of them at the ends of the ring, shares split at random."""
    rng, count = np.random.default_rng(7), 0
    for loaded in slices:
        for number in range(35):
            draw = extreme_activation if number % 2 else rough_activation
            x = draw(rng, loaded, (1, *loaded.small_shape()[1:]))
            expected = list(map(apply_torch, loaded.layers, loaded.weights, [x] * len(loaded.layers)))
            answers = honest_shares(rng, expected)
            assert all(map(np.array_equal, opened(loaded, x, answers), expected))
            count += len(answers)
    assert count > 10_000


def honest_shares(rng, results):
    """Random numbers of every server but one, whose share makes the sum right."""
    others = [[rng.integers(0, 2**32, y.shape, np.uint32) for y in results] for _ in range(SERVERS - 1)]
    rest = [RING.reduce(y) - sum(shares, np.uint32(0)) for y, *shares in zip(results, *others, strict=True)]
    return [rest, *others]
