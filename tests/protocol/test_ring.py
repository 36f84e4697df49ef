import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from ppidm.protocol.errors import InputError
from ppidm.protocol.ring import Ring

RINGS = [Ring(16), Ring(24), Ring(32)]
in_every_ring = pytest.mark.parametrize("ring", RINGS, ids=lambda ring: f"k={ring.bits}")


def ends(ring):
    """Integers at the ends of the ring, beyond them, and around 0."""
    half, full = 2 ** (ring.bits - 1), 2**ring.bits
    return [*(sign * end + step for sign in (-1, 1) for end in (0, half, full) for step in (-1, 0, 1)), 2**62, -(2**62)]


def signed_by_definition(ring, value):
    half = 2 ** (ring.bits - 1)
    return (value + half) % 2**ring.bits - half


@pytest.mark.parametrize("bits", [0, 8, 17, 31, 33, 64, -32])
def test_other_rings_are_refused(bits):
    with pytest.raises(InputError, match=f"ring_bits is {bits}; expected 16, 24 or 32"):
        Ring(bits)


@in_every_ring
def test_limbs_mask_and_centre(ring):
    assert ring.limbs * 8 == ring.bits
    assert ring.mask == 2**ring.bits - 1
    assert ring.centre == int("80" * ring.limbs, 16)


@in_every_ring
def test_reduce_is_the_residue(ring):
    reduced = ring.reduce(np.array(ends(ring)))
    assert reduced.dtype == np.uint32
    assert reduced.tolist() == [value % 2**ring.bits for value in ends(ring)]


@in_every_ring
def test_signed_is_the_residue_nearest_to_zero(ring):
    opened = ring.signed(ring.reduce(np.array(ends(ring))))
    assert opened.dtype == np.int64
    assert opened.tolist() == [signed_by_definition(ring, value) for value in ends(ring)]


@in_every_ring
@given(data=st.data())
def test_reduce_then_signed_is_the_identity(ring, data):
    half = 2 ** (ring.bits - 1)
    x = data.draw(arrays(np.int64, array_shapes(max_dims=4, max_side=4), elements=st.integers(-half, half - 1)))
    assert np.array_equal(ring.signed(ring.reduce(x)), x)


@in_every_ring
@given(data=st.data())
def test_digits_round_trip(ring, data):
    shape = array_shapes(min_dims=0, max_dims=4, max_side=4)
    x = data.draw(arrays(np.uint32, shape, elements=st.integers(0, int(ring.mask))))
    digits = ring.to_digits(x)
    assert digits.dtype == np.uint8
    assert digits.shape == (ring.limbs, *x.shape)
    assert np.array_equal(ring.from_digits(digits), x)


@in_every_ring
@given(data=st.data())
def test_every_byte_string_is_an_element(ring, data):
    shape = data.draw(array_shapes(max_dims=3, max_side=4))
    digits = data.draw(arrays(np.uint8, (ring.limbs, *shape)))
    elements = ring.from_digits(digits)
    assert (elements <= ring.mask).all()
    assert np.array_equal(ring.to_digits(elements), digits)


@in_every_ring
def test_a_byte_is_the_digit_plus_128_least_significant_limb_first(ring):
    elements = ring.reduce(np.array(ends(ring)))
    digits = ring.to_digits(elements).astype(int) - 128
    values = sum(digits[limb] * 256**limb for limb in range(ring.limbs))
    assert (values % 2**ring.bits).tolist() == elements.tolist()


@in_every_ring
def test_zero_is_the_byte_of_padding(ring):
    assert ring.to_digits(np.zeros((2, 3), np.uint32)).tolist() == np.full((ring.limbs, 2, 3), 128).tolist()


@in_every_ring
def test_layout_of_the_input_does_not_matter(ring):
    x = ring.reduce(np.arange(24).reshape(2, 3, 4) * 123_456_789)
    swapped = np.ascontiguousarray(x.T).T  # the same values, Fortran order
    assert np.array_equal(ring.to_digits(swapped), ring.to_digits(x))
    assert np.array_equal(ring.signed(swapped), ring.signed(x))
    digits = ring.to_digits(x)
    assert np.array_equal(ring.from_digits(np.asfortranarray(digits)), x)
    assert digits.flags.c_contiguous
