"""Which inputs engines are compiled for, and how larger ones are cut."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_cases import LAYERS

from ppidm.engines.profiles import FEW_ROWS, MOST_IMAGES, Profile, pieces, profiles_of
from ppidm.protocol.errors import InputError, PackageError
from ppidm.protocol.linear import apply
from ppidm.protocol.records import SelfTest, Subgraph
from ppidm.protocol.ring import Ring


def subgraph(shape, *layers):
    test = SelfTest(shape=shape, digest="0" * 64)
    return Subgraph(name="s", file="s.onnx", sha256="0" * 64, layers=layers, nominal_shape=shape, self_test=test)


def test_one_bucket_reaches_from_the_least_picture_to_twice_the_size():
    [profile] = profiles_of(subgraph((1, 8, 6, 3), LAYERS["convolution"]))
    assert profile == Profile(least=(1, 1, 1, 3), best=(1, 8, 6, 3), most=(MOST_IMAGES, 16, 12, 3))


def test_the_least_picture_is_what_every_kernel_takes():
    wide = LAYERS["strided"].model_copy(update={"kernel": (5, 2), "dilations": (2, 1), "pads": (1, 0, 1, 0)})
    [profile] = profiles_of(subgraph((1, 9, 9, 2), LAYERS["strided"], wide))
    assert profile.least == (1, 7, 2, 2)
    with pytest.raises(InputError):
        wide.output_shape((1, 6, 2, 2))


def test_buckets_of_pictures_are_fastest_at_their_own_size():
    small, large = profiles_of(subgraph((1, 8, 6, 3), LAYERS["convolution"]), (1, 2))
    assert (small.best, small.most) == ((1, 8, 6, 3), (2, 8, 6, 3))
    assert (large.best, large.most) == ((1, 16, 12, 3), (2, 16, 12, 3))


def test_rows_of_products():
    small, large = profiles_of(subgraph((96, 5), LAYERS["product"]), (1, 3))
    assert (small.least, small.best, small.most) == ((1, 5), (96, 5), (192, 5))
    assert (large.best, large.most) == ((864, 5), (1728, 5))
    [timesteps] = profiles_of(subgraph((1, 5), LAYERS["product"]))
    assert timesteps.most == (FEW_ROWS, 5)


CONVOLUTION = profiles_of(subgraph((1, 8, 8, 3), LAYERS["convolution"]), (1, 2))
PRODUCT = profiles_of(subgraph((100, 5), LAYERS["product"]), (1, 2))


@pytest.mark.parametrize(
    ("profiles", "shape", "expected"),
    [
        (CONVOLUTION, (1, 8, 8, 3), [(0, 0, 1)]),
        (CONVOLUTION, (2, 3, 8, 3), [(0, 0, 2)]),
        (CONVOLUTION, (5, 8, 8, 3), [(0, 0, 2), (0, 2, 4), (0, 4, 5)]),
        (CONVOLUTION, (3, 16, 4, 3), [(1, 0, 2), (1, 2, 3)]),
        (PRODUCT, (200, 5), [(0, 0, 200)]),
        (PRODUCT, (201, 5), [(1, 0, 201)]),  # in one piece where a larger bucket takes it
        (PRODUCT, (801, 5), [(1, 0, 800), (1, 800, 801)]),
    ],
)
def test_pieces(profiles, shape, expected):
    assert list(pieces("s", profiles, shape)) == expected


def test_pictures_that_are_too_large():
    with pytest.raises(
        InputError, match=r"s: input of shape \(1, 17, 8, 3\); this server's engines take \(1, 1, 1, 3\) to"
    ):
        list(pieces("s", CONVOLUTION, (1, 17, 8, 3)))


@settings(max_examples=50, deadline=None)
@given(count=st.integers(1, 7), kind=st.sampled_from(["product", "convolution"]), seed=st.integers(0, 2**32 - 1))
def test_pieces_give_what_the_whole_gives(count, kind, seed):
    """Entries of the first axis do not depend on each other."""
    layer, rng, ring = LAYERS[kind], np.random.default_rng(seed), Ring(32)
    inner = (4, 5) if kind == "convolution" else ()
    weights = rng.integers(-9, 9, (layer.out_channels, layer.in_channels, *layer.kernel))
    digits = rng.integers(0, 256, (4, count, *inner, layer.in_channels), np.uint8)
    most = (2, *inner, layer.in_channels)
    profile = Profile(least=(1, *inner, layer.in_channels), best=(1, *inner, layer.in_channels), most=most)
    cut = [digits[:, start:end] for _, start, end in pieces("s", [profile], digits.shape[1:])]
    assert all(profile.covers(piece.shape[1:]) for piece in cut)
    answers = np.concatenate([apply(layer, weights, piece, ring) for piece in cut])
    np.testing.assert_array_equal(answers, apply(layer, weights, digits, ring))


def test_nominal_shapes_that_nothing_can_address():
    large = subgraph((1, 2**12, 2**12, 3), LAYERS["convolution"])
    assert profiles_of(large)
    with pytest.raises(PackageError, match=r"slice s: nominal shape .* build with a smaller --largest"):
        profiles_of(large, (4,))


def test_a_profile_is_a_range():
    with pytest.raises(ValueError, match="profile"):
        Profile(least=(2, 2), best=(1, 2), most=(2, 2))
