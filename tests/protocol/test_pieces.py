"""Pieces put together are the whole: for any geometry, and for every sum of which kind ever."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppidm.protocol.errors import InputError
from ppidm.protocol.linear import Layer, apply, largest_row_norm
from ppidm.protocol.pieces import MAX_VALUES, pieces_of, put_together
from ppidm.protocol.ring import Ring

RING = Ring(32)
small = st.integers(1, 3)
convolutions = st.builds(
    lambda kernel, strides, pads, dilations, out: Layer(
        name="conv", kind="convolution", in_channels=2, out_channels=out, kernel=kernel, strides=strides, pads=pads,
        dilations=dilations,
    ),
    st.tuples(st.integers(1, 4), small), st.tuples(small, small), st.tuples(*[st.integers(0, 3)] * 4),
    st.tuples(small, small), small,
)  # fmt: skip


def fits(layers, shape):
    try:
        return [layer.output_shape(shape) for layer in layers]
    except InputError:
        return None


def composed(layers, weights, x, most):
    """What a client makes of the answers to all pieces."""
    pieces = pieces_of(layers, x.shape, most)
    answers = [
        [applied(layer, w, x[piece.index]) for piece in pieces] for layer, w in zip(layers, weights, strict=True)
    ]
    return [put_together(pieces, results, index) for index, results in enumerate(answers)]


def applied(layer, weights, x):
    return RING.signed(apply(layer, weights, RING.to_digits(RING.reduce(x)), RING))


@settings(deadline=None, max_examples=150)
@given(st.lists(convolutions, min_size=1, max_size=3), st.integers(1, 2), st.integers(3, 14), st.integers(1, 90))
def test_strips_are_the_image(layers, batch, height, most):
    shape = (batch, height, 7, 2)
    if (outputs := fits(layers, shape)) is None:
        return
    rng = np.random.default_rng(0)
    x = rng.integers(-1000, 1000, shape)
    weights = [rng.integers(-50, 50, (layer.out_channels, 2, *layer.kernel)) for layer in layers]
    try:
        got = composed(layers, weights, x, most)
    except InputError:  # a strip that is lower than its kernel's reach
        pytest.fail("a strip does not fit its kernel")
    for layer, w, output, result in zip(layers, weights, outputs, got, strict=True):
        assert result.shape == output
        np.testing.assert_array_equal(result, applied(layer, w, x))


@settings(deadline=None, max_examples=50)
@given(convolutions, st.integers(3, 14), st.integers(1, 90))
def test_no_row_of_a_strip_is_longer_than_those_of_the_image(layer, height, most):
    """So one scale serves all strips."""
    shape = (1, height, 7, 2)
    if fits([layer], shape) is None:
        return
    x = np.random.default_rng(0).standard_normal(shape)
    whole = largest_row_norm(layer, x)
    strips = [largest_row_norm(layer, x[piece.index]) for piece in pieces_of([layer], shape, most)]
    assert max(strips) <= whole * (1 + 1e-12)


@pytest.mark.parametrize("rows", [1, 7, 100])
def test_rows_of_a_product(rows):
    layer = Layer(name="product", kind="product", in_channels=3, out_channels=5)
    pieces = pieces_of([layer], (rows, 3), 20)
    sizes = [len(range(rows)[piece.reads]) for piece in pieces]
    assert sum(sizes) == rows
    assert max(sizes) * 5 <= 20


def test_what_fits_is_sent_whole():
    layer = Layer(name="product", kind="product", in_channels=4, out_channels=4)
    [piece] = pieces_of([layer], (MAX_VALUES // 4, 4))
    assert piece.index == piece.kept(0) == (slice(None),)
    assert len(pieces_of([layer], (MAX_VALUES // 4 + 1, 4))) == 2
