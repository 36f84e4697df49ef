"""Pictures from the command line, on real servers."""

import json
import shutil
import struct
import warnings

import numpy as np
import pytest
from command_line import ppidm, run_ppidm
from PIL import Image

from ppidm.client.report import Report

STEPS = 2
SHAPE = (1, 4, 16, 16)


@pytest.fixture
def draw(package, servers, tmp_path):
    """`ppidm generate`, two steps without guidance; returns its pictures and report."""

    def draw(*arguments, run=ppidm, client=package / "client", **settings):
        report = tmp_path / "report.json"
        common = {"EVALUATOR": servers[0], "DEALER": servers[1], "NUM_INFERENCE_STEPS": STEPS, "GUIDANCE_SCALE": 1}
        common |= {"OUTPUT": tmp_path / "picture.png", "REPORT": report}
        shown = run("generate", client, "red apple, 3d style", *arguments, **common | settings)
        assert (shown.status, shown.err) == (0, "")
        return [read(path) for path in shown.out.splitlines()], json.loads(report.read_text())

    return draw


def read(path):
    with Image.open(path) as picture:
        picture.load()
    return picture


def pixels(picture):
    return np.asarray(picture, np.int64)


def chunks(path):
    """Type and content of every chunk of a PNG."""
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    place, found = 8, []
    while place < len(content):
        size, kind = struct.unpack(">I4s", content[place : place + 8])
        found.append((kind, content[place + 8 : place + 8 + size]))
        place += size + 12
    return found


def test_a_process_draws_a_picture(draw, package, tmp_path):
    [picture], report = draw("--seed", "3", "--guidance-scale", "4", run=run_ppidm)
    assert (picture.size, picture.mode, picture.format) == ((64, 64), "RGB", "PNG")
    assert pixels(picture).std() > 5
    assert {path.name for path in tmp_path.iterdir()} == {"picture.png", "report.json"}
    assert {kind for kind, _ in chunks(tmp_path / "picture.png")} == {b"IHDR", b"IDAT", b"IEND"}
    assert picture.info == {}
    assert report["evaluations"] == 2 * STEPS
    assert report["package"] == json.loads((package / "client" / "manifest.json").read_text())["package"]


def keys(part, prefix=""):
    """Paths of all values of a JSON object."""
    for name, value in part.items():
        nested = value[0] if isinstance(value, list) else value
        yield from keys(nested, f"{prefix}{name}.") if isinstance(nested, dict) else [prefix + name]


SECONDS = "total", "text_encoder", "unet", "vae_decoder", "client_segments", "mask", "open", "wait"
PROMISED = {  # what the issue promises to whoever reads a report
    "offload.fraction",
    "offload.unet_fraction",
    *(f"traffic.{server}.{way}" for server in ("evaluator", "dealers") for way in ("sent", "received")),
    "rounds",
    "evaluations",
    *(f"seconds.{name}" for name in SECONDS),
}


def test_the_report(draw, servers, tmp_path):
    _, report = draw(DEALER=" ".join(servers[1:3]))
    assert set(keys(report)) >= PROMISED
    assert Report.model_validate(report).model_dump(mode="json") == report
    assert report["evaluations"] == STEPS
    assert 0.8 <= report["offload"]["unet_fraction"] <= 1
    assert 0 < report["offload"]["fraction"] < report["offload"]["unet_fraction"]
    evaluator, dealers = report["traffic"]["evaluator"], report["traffic"]["dealers"]
    assert len(dealers) == 2
    assert dealers[0] == dealers[1]  # they get as many seeds
    assert dealers[0]["sent"] < evaluator["sent"] / 100
    assert dealers[0]["received"] == evaluator["received"]
    seconds = report["seconds"]
    assert seconds.pop("vae_encoder") == 0  # there was no picture to begin with
    assert all(value > 0 for value in seconds.values())
    assert seconds["total"] >= seconds["text_encoder"] + seconds["unet"] + seconds["vae_decoder"]
    assert "apple" not in (tmp_path / "report.json").read_text()


def test_seed_is_numpys_and_guidance_doubles_the_evaluations(draw, tmp_path):
    [seeded], alone = draw("--seed", "7")
    latents = np.random.default_rng(7).standard_normal(SHAPE, np.float32)
    np.save(tmp_path / "latents.npy", latents)
    [given], _ = draw("--latents", tmp_path / "latents.npy")
    assert np.array_equal(pixels(seeded), pixels(given))
    [guided], both = draw("--seed", "7", "--guidance-scale", "4")
    assert both["evaluations"] == 2 * alone["evaluations"] == 2 * STEPS
    assert not np.array_equal(pixels(seeded), pixels(guided))
    [kept_away], _ = draw("--seed", "7", "--guidance-scale", "4", "--negative-prompt", "red")
    assert not np.array_equal(pixels(kept_away), pixels(guided))


def test_without_a_seed_no_two_pictures_are_equal(draw):
    [first], _ = draw(NUM_INFERENCE_STEPS=1)
    [second], _ = draw(NUM_INFERENCE_STEPS=1)
    assert not np.array_equal(pixels(first), pixels(second))


def test_several_pictures_get_numbers(draw, tmp_path):
    pictures, report = draw("--num-images-per-prompt", "2", NUM_INFERENCE_STEPS=1)
    assert [picture.filename for picture in pictures] == [str(tmp_path / f"picture-{index}.png") for index in (0, 1)]
    assert {path.name for path in tmp_path.iterdir()} == {"picture-0.png", "picture-1.png", "report.json"}
    assert not np.array_equal(pixels(pictures[0]), pixels(pictures[1]))
    assert (report["pictures"], report["evaluations"]) == (2, 2)


def test_another_size_and_scheduler(draw):
    [picture], report = draw("--height", "96", "--width", "64", "--scheduler", "EulerDiscreteScheduler")
    assert picture.size == (64, 96)
    assert (report["height"], report["width"], report["scheduler"]) == (96, 64, "EulerDiscreteScheduler")


def test_the_client_directory_alone_and_a_check_folder_elsewhere(draw, package, tmp_path):
    alone = tmp_path / "elsewhere" / "client"
    shutil.copytree(package / "client", alone)
    [checked], report = draw(client=alone, CHECK=package / "check", SEED=1, NUM_INFERENCE_STEPS=1)
    assert report["verified"] is True
    [unchecked], report = draw("--verify", "off", client=alone, SEED=1, NUM_INFERENCE_STEPS=1)
    assert report["verified"] is False
    assert np.array_equal(pixels(checked), pixels(unchecked))


def test_prompt_and_settings_in_the_picture_if_asked(draw):
    [picture], _ = draw("--metadata", "on", "--seed", "3", "--negative-prompt", "dunkel, trüb", "--guidance-scale", "4")
    assert picture.text["Description"] == "red apple, 3d style"
    again = json.loads(picture.text["Comment"])
    assert again == {
        "negative_prompt": "dunkel, trüb",
        "num_inference_steps": STEPS,
        "guidance_scale": 4.0,
        "scheduler": None,
        "seed": 3,
    }
    del again["num_inference_steps"]  # `draw` gives it
    [drawn_again], _ = draw(**{name.upper(): value for name, value in again.items() if value is not None})
    assert drawn_again.text == {}
    np.testing.assert_array_equal(pixels(drawn_again), pixels(picture))


def test_a_long_prompt_is_a_warning(package, servers, tmp_path):
    settings = {"NUM_INFERENCE_STEPS": 1, "GUIDANCE_SCALE": 1, "OUTPUT": tmp_path / "a.png"}
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        arguments = "generate", package / "client", "red " * 100, "--evaluator", servers[0], "--dealer", servers[1]
        shown = ppidm(*arguments, **settings)
    assert (shown.status, shown.out) == (0, f"{tmp_path / 'a.png'}\n")
    assert shown.err == "ppidm: warning: a prompt was truncated to 32 tokens\n"
