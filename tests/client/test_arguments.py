"""The arguments of a call."""

import numpy as np
import pytest

from ppidm.client.arguments import make_generator, make_request
from ppidm.protocol.errors import InputError
from ppidm.protocol.records import ImageConfig

IMAGE = ImageConfig(height=64, width=128, latent_channels=4, vae_scale_factor=4, size_multiple=16, scaling_factor=1.2)
SHAPE = (1, 4, 16, 32)


def noise(shape=SHAPE, dtype=np.float32):
    return np.ones(shape, dtype)


def test_defaults():
    request = make_request(IMAGE, "red apple")
    assert request.prompts == ("red apple",)
    assert request.texts == ("", "red apple")
    assert (request.height, request.width, request.pictures) == (64, 128, 1)
    assert request.latents_shape(IMAGE) == SHAPE
    assert request.latents is None


@pytest.mark.parametrize(("scale", "guided"), [(7.5, True), (1.01, True), (1, False), (0.5, False), (-1, False)])
def test_guidance_as_in_diffusers(scale, guided):
    request = make_request(IMAGE, ["a", "b"], "c", guidance_scale=scale)
    assert request.guided is guided
    assert request.texts == (("c", "c", "a", "b") if guided else ("a", "b"))


def test_negative_prompts():
    assert make_request(IMAGE, ["a", "b"], ["c", "d"]).texts == ("c", "d", "a", "b")
    assert make_request(IMAGE, ("a", "b"), ["c"]).texts == ("c", "c", "a", "b")
    assert make_request(IMAGE, "a", "").texts == ("", "a")


def test_a_picture_for_each_prompt_and_number():
    request = make_request(IMAGE, ["a", "b"], pictures=3, size=(32, None))
    assert request.latents_shape(IMAGE) == (6, 4, 8, 32)
    latents = noise((6, 4, 8, 32))
    assert make_request(IMAGE, ["a", "b"], pictures=3, size=(32, None), latents=latents).latents is latents


def test_initial_latents_are_given_or_drawn():
    latents, rng = noise(), np.random.default_rng(1)
    assert make_request(IMAGE, "a", latents=latents).initial_latents(IMAGE, rng) is latents
    drawn = make_request(IMAGE, "a").initial_latents(IMAGE, rng)
    assert np.array_equal(drawn, np.random.default_rng(1).standard_normal(SHAPE, np.float32))
    assert drawn.dtype == np.float32
    assert not np.array_equal(drawn, make_request(IMAGE, "a").initial_latents(IMAGE, rng))


def test_a_request_shows_no_prompt():
    assert "apple" not in repr(make_request(IMAGE, "red apple"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": None}, "prompt is not text; expected a string or a non-empty list of strings"),
        ({"prompt": []}, "prompt is not text; expected "),
        ({"prompt": ["a", 1]}, "prompt is not text; expected "),
        ({"prompt": b"a"}, "prompt is not text; expected "),
        ({"prompt": 1}, "prompt is not text; expected "),
        ({"negative_prompt": [None]}, "negative_prompt is not text; expected "),
        ({"negative_prompt": []}, "negative_prompt is not text; expected "),
        ({"negative_prompt": ["a", "b"]}, "negative_prompt has 2 texts; expected 1 or 1, as many as prompt"),
        ({"pictures": 0}, "num_images_per_prompt is 0; expected a whole number, at least 1"),
        ({"pictures": 1.5}, "num_images_per_prompt is 1.5; expected a whole number, at least 1"),
        ({"guidance_scale": float("nan")}, "guidance_scale is nan; expected a finite number"),
        ({"guidance_scale": float("inf")}, "guidance_scale is inf; expected a finite number"),
        ({"size": (63, None)}, "height is 63; expected a multiple of 16 pixels from 16 to 4096, for example 64"),
        ({"size": (None, 72)}, "width is 72; expected a multiple of 16 pixels from 16 to 4096, for example 128"),
        ({"size": (0, None)}, "height is 0; expected "),
        ({"size": (-16, None)}, "height is -16; expected "),
        ({"size": (4112, None)}, "height is 4112; expected "),
        ({"size": ("64", None)}, "height is '64'; expected "),
        ({"size": (64.5, None)}, "height is 64.5; expected "),
        ({"latents": noise((1, 4, 32, 16))}, "latents is float32(1, 4, 32, 16); expected float32(1, 4, 16, 32): (pict"),
        ({"latents": noise((2, *SHAPE[1:]))}, "latents is float32(2, 4, 16, 32); expected float32(1, 4, 16, 32)"),
        ({"latents": noise(dtype=np.float64)}, "latents is float64(1, 4, 16, 32); expected float32(1, 4, 16, 32)"),
        ({"latents": noise(dtype=np.dtype(">f4"))}, "latents is >f4(1, 4, 16, 32); expected float32(1, 4, 16, 32)"),
        ({"latents": [1.0]}, "latents is a builtins.list; expected a numpy array, float32(1, 4, 16, 32)"),
        ({"latents": noise() * np.float32("nan")}, "latents holds inf or nan; expected finite noise"),
        ({"latents": noise() * np.float32("-inf")}, "latents holds inf or nan; expected finite noise"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(InputError) as raised:
        make_request(IMAGE, **{"prompt": "red apple"} | arguments)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize("latents", [[0.125], noise((1, 2)) / 8, noise() / 8 * np.float32("nan")])
def test_an_error_shows_no_content(latents):
    with pytest.raises(InputError) as raised:
        make_request(IMAGE, "red apple", latents=latents)
    assert "0.125" not in str(raised.value)
    with pytest.raises(InputError) as raised:
        make_request(IMAGE, ["red apple", 1])
    assert "apple" not in str(raised.value)


def test_generators():
    rng = np.random.default_rng(2)
    assert make_generator(rng) is rng
    assert make_generator(5).integers(1 << 30) == np.random.default_rng(5).integers(1 << 30)
    assert make_generator(np.int64(5)).integers(1 << 30) == np.random.default_rng(5).integers(1 << 30)
    assert make_generator(None).bit_generator.state != make_generator(None).bit_generator.state


@pytest.mark.parametrize(
    ("generator", "shown"), [(-1, "-1"), ("5", "a builtins.str"), (1.0, "a builtins.float"), ([1], "a builtins.list")]
)
def test_bad_generators(generator, shown):
    with pytest.raises(InputError, match=f"^generator is {shown}; expected a seed of at least 0, or a numpy.random.G"):
        make_generator(generator)
