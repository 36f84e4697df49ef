import io

import numpy as np
import pytest
from PIL import Image
from tools.train.compose import COLOURS, HALF, on_background, side_by_side
from tools.train.examples import Example, split, training_set
from tools.train.pictures import Picture, load_pictures, rgba_of_size
from training_pictures import CONCEPTS, drawn, write_packages


@pytest.fixture
def made(tmp_path, monkeypatch):
    write_packages(tmp_path, monkeypatch)
    return load_pictures(tmp_path)


def picture(concept="red apple", style="3d", group=4, colour=(255, 0, 0)):
    rgba = np.zeros((64, 64, 4), np.uint8)
    rgba[8:56, 8:56] = (*colour, 255)
    return Picture(concept, group, style, rgba)


def test_every_concept_has_three_styles_without_flags_and_skin_tones(made):
    assert {(p.concept, p.style, p.group) for p in made} == {
        (name, style, group) for name, group in CONCEPTS.values() for style in ("3d", "flat", "noto")
    }
    assert all(p.rgba.shape == (64, 64, 4) and p.rgba.dtype == np.uint8 for p in made)


def test_a_picture_shows_what_its_file_shows(made):
    code = next(code for code, (name, _) in CONCEPTS.items() if name == "banana")
    expected = np.asarray(Image.open(io.BytesIO(drawn(code, 256))))[128, 128]
    (found,) = [p for p in made if (p.concept, p.style) == ("banana", "3d")]
    assert np.abs(found.rgba[32, 32].astype(int) - expected).max() <= 1
    assert found.rgba[0, 0, 3] == 0


def test_the_decoded_pictures_are_kept(made, tmp_path):
    for path in tmp_path.glob("*.tgz"):
        path.unlink()
    again = load_pictures(tmp_path)
    assert [(p.concept, p.group, p.style) for p in again] == [(p.concept, p.group, p.style) for p in made]
    assert all(np.array_equal(a.rgba, b.rgba) for a, b in zip(again, made, strict=True))


def test_transparent_colours_do_not_bleed():
    pixels = np.zeros((128, 128, 4), np.uint8)
    pixels[..., :3] = (0, 255, 0)  # green, and invisible
    pixels[32:96, 32:96] = (255, 0, 0, 255)
    small = rgba_of_size(Image.fromarray(pixels))
    assert small[small[..., 3] > 32][:, 1].max() < 16


def test_an_object_stands_on_its_background():
    pixels = on_background(picture(), COLOURS["blue"])
    assert tuple(pixels[0, 0]) == COLOURS["blue"]
    assert tuple(pixels[32, 32]) == (255, 0, 0)


def test_two_objects_stand_left_and_right():
    pixels = side_by_side(picture(colour=(255, 0, 0)), picture(colour=(0, 0, 255)))
    assert tuple(pixels[32, HALF // 2]) == (255, 0, 0)
    assert tuple(pixels[32, 64 - HALF // 2]) == (0, 0, 255)
    assert tuple(pixels[0, 0]) == (255, 255, 255)


def test_held_out_pairs_are_known_from_their_other_styles():
    pictures = [picture(f"thing {index}", style) for index in range(300) for style in ("3d", "flat", "noto")]
    pictures.append(picture("only one", "3d"))
    learned, held = split(pictures)
    assert len(held) == 100
    assert len({p.concept for p in held}) == 100
    assert len(learned) + len(held) == len(pictures)
    assert {p.concept for p in held} <= {p.concept for p in learned}
    assert not {(p.concept, p.style) for p in held} & {(p.concept, p.style) for p in learned}
    assert split(pictures)[1] == held


def test_composed_examples_share_a_third_to_a_half_of_the_weight():
    pictures = [picture(f"thing {index}") for index in range(20)]
    examples = training_set(pictures, on_colour=30, pairs=50)
    total = {kind: sum(e.weight for e in examples if _kind(e) == kind) for kind in ("one", "colour", "pair")}
    assert total["colour"] == pytest.approx(total["one"] / 6)
    assert total["pair"] == pytest.approx(total["one"] / 3)
    assert [_facts(e) for e in examples] == [_facts(e) for e in training_set(pictures, on_colour=30, pairs=50)]


def _kind(example):
    return "pair" if len(example.parts) > 1 else "colour" if example.colour else "one"


def _facts(example):
    return [p.concept for p in example.parts], example.colour, example.weight


def test_captions_say_what_is_seen():
    rng = np.random.default_rng(0)
    pair = Example((picture("lemon"), picture("orange fruit")))
    assert {pair.caption(rng) for _ in range(50)} == {
        "a lemon and an orange fruit", "a lemon and an orange fruit, 3d style",
    }  # fmt: skip
    flat = Example((picture("lemon", "flat"),), "orange")
    assert {flat.caption(rng) for _ in range(20)} == {"a lemon on an orange background, flat style"}
    single = {Example((picture("automobile", "noto"),)).caption(rng) for _ in range(200)}
    assert single == {
        f"{words}, noto style" for name in ("automobile", "car", "red car") for words in (name, _article(name))
    }


def _article(name):
    return f"{'an' if name == 'automobile' else 'a'} {name}"
