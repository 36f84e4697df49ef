"""Image to image: diffusers' pictures with the shipped model, and what is refused."""

import inspect
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from command_line import ppidm, refused
from PIL import Image

from ppidm.client import PrivateStableDiffusionImg2ImgPipeline
from ppidm.client.image_encoder import floats_from_image
from ppidm.protocol.errors import InputError
from ppidm.protocol.manifest import ClientManifest, load_manifest

MODEL = Path(__file__).parents[2] / "models" / "default"
PROMPT = "red apple, 3d style"
CALL = {"num_inference_steps": 4, "strength": 0.5, "guidance_scale": 1.0}


@pytest.fixture(scope="module")
def pipeline(package, servers):
    with PrivateStableDiffusionImg2ImgPipeline.from_package(
        package / "client", evaluator=servers[0], dealers=[servers[1]]
    ) as pipeline:
        yield pipeline


@pytest.fixture(scope="module")
def config(package):
    return load_manifest(package / "client", ClientManifest).image


@pytest.fixture(scope="module")
def picture():
    """A red disc on a grey ground, 64 x 48."""
    y, x = np.mgrid[:48, :64]
    disc = (y - 24) ** 2 + (x - 30) ** 2 < 300
    return Image.fromarray(np.where(disc[..., None], [200, 40, 30], [128, 128, 128]).astype(np.uint8))


class Noise:
    """Numpy's generator, whose noise is torch's: for the same noise as diffusers draws."""

    def __new__(cls, seed):
        torch = pytest.importorskip("torch")
        generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(0)

        class Torch(np.random.Generator):
            def standard_normal(self, size=None, dtype=np.float32, out=None):
                assert (dtype, out) == (np.float32, None)
                return torch.randn(size, generator=generator).numpy()

        return Torch(rng.bit_generator)


def by_diffusers(scheduler, picture, **arguments):
    diffusers, torch = pytest.importorskip("diffusers"), pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = diffusers.StableDiffusionImg2ImgPipeline.from_pretrained(
            MODEL, local_files_only=True, safety_checker=None, torch_dtype=torch.float32
        )
        pipe.set_progress_bar_config(disable=True)
        pipe.scheduler = getattr(diffusers, scheduler).from_config(pipe.scheduler.config)
        return pipe(image=picture, generator=torch.Generator().manual_seed(7), output_type="np", **arguments).images


@pytest.mark.parametrize(
    ("scheduler", "arguments"),
    [
        (
            "DDIMScheduler",
            {"num_inference_steps": 5, "strength": 0.6, "guidance_scale": 4.0, "negative_prompt": "blue"},
        ),
        ("DPMSolverMultistepScheduler", {"num_inference_steps": 6, "strength": 0.7, "guidance_scale": 1.0}),
        ("EulerAncestralDiscreteScheduler", {"num_inference_steps": 3, "strength": 1.0, "num_images_per_prompt": 2}),
    ],
)
def test_a_picture_is_diffusers(pipeline, picture, scheduler, arguments):
    expected = by_diffusers(scheduler, picture, prompt=PROMPT, **arguments)
    got = pipeline(PROMPT, picture, generator=Noise(7), output_type="np", scheduler=scheduler, **arguments)
    assert got.images.shape == expected.shape == (arguments.get("num_images_per_prompt", 1), 48, 64, 3)
    assert -10 * np.log10(np.square(got.images - expected, dtype=np.float64).mean()) > 45
    guided = arguments.get("guidance_scale", 7.5) > 1
    steps = int(arguments["num_inference_steps"] * arguments["strength"])
    assert got.report.evaluations == len(expected) * steps * (2 if guided else 1)
    assert got.report.seconds.vae_encoder > 0
    assert 0.5 < got.report.offload.fraction < got.report.offload.unet_fraction


def test_the_less_strength_the_more_is_left(pipeline, picture):
    call = {"num_inference_steps": 8, "guidance_scale": 1.0, "generator": 3, "output_type": "np"}
    least, half, whole = (pipeline(PROMPT, picture, strength, **call).images for strength in (0.125, 0.5, 1.0))
    assert 0 < np.abs(half - least).mean() < np.abs(whole - least).mean()


def test_arrays_are_pictures_too(pipeline, picture):
    floats = np.asarray(picture, np.float32) / np.float32(255)
    first, second = (
        pipeline(PROMPT, given, generator=1, output_type="np", **CALL).images for given in (picture, floats)
    )
    assert np.array_equal(first, second)


# what a picture may be


def test_pictures_are_upright_and_resampled(config):
    multiple = config.size_multiple
    image = Image.new("RGBA", (3 * multiple + 1, 2 * multiple + multiple - 1), (255, 0, 0, 255))
    image.getexif()[0x0112] = 6  # turn by 90 degrees
    values = floats_from_image(image, config)
    assert values.shape == (1, 3, 3 * multiple, 2 * multiple)
    assert values.dtype == np.float32
    assert np.array_equal(np.unique(values[0, 0]), [1.0])
    assert np.array_equal(np.unique(values[0, 1:]), [-1.0])


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (np.zeros((64, 64, 3)), r"float64\(64, 64, 3\); expected a PIL image"),
        (np.zeros((64, 64), np.float32), r"float32\(64, 64\); expected"),
        (np.zeros((64, 65, 3), np.float32), "width 65; expected multiples of"),
        (np.zeros((64, 8192, 3), np.float32), "width 8192; expected"),
        (np.full((64, 64, 3), 1.5, np.float32), r"outside of \[0, 1\]"),
        (np.full((64, 64, 3), np.nan, np.float32), r"outside of \[0, 1\]"),
        (Image.new("L", (3, 64)), "width 3; expected"),
        ("apple.png", "a str; expected a PIL image"),
    ],
)
def test_other_pictures_are_refused(config, image, problem):
    with pytest.raises(InputError, match=f"^image .*{problem}"):
        floats_from_image(image, config)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"strength": 0.0}, "strength is 0; expected more than 0"),
        ({"strength": 1.5}, "strength is 1.5; expected"),
        ({"strength": float("nan")}, "strength is nan; expected"),
        ({"strength": 0.2}, "leaves none of 4 steps; expected at least 0.25, or more num_inference_steps"),
        ({"scheduler": "NoScheduler"}, "no scheduler 'NoScheduler'"),
        ({"output_type": "jpeg"}, "output_type is 'jpeg'"),
    ],
)
def test_other_arguments_are_refused(pipeline, picture, changes, problem):
    with pytest.raises(InputError, match=problem):
        pipeline(PROMPT, picture, **CALL | changes)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_the_signature_is_diffusers():
    diffusers = pytest.importorskip("diffusers")
    theirs = inspect.signature(diffusers.StableDiffusionImg2ImgPipeline.__call__).parameters
    ours = inspect.signature(PrivateStableDiffusionImg2ImgPipeline.__call__).parameters
    shared = [name for name in ours if name in theirs and name not in ("self", "prompt", "image")]
    assert set(ours) - set(theirs) == {"scheduler"}
    assert {name: ours[name].default for name in shared} == {name: theirs[name].default for name in shared}
    positional = [name for name, parameter in ours.items() if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
    assert positional == list(theirs)[: len(positional)]


# the command line


@pytest.fixture
def generate(package, servers, tmp_path):
    def generate(*arguments, run=ppidm, **settings):
        common = {"EVALUATOR": servers[0], "DEALER": servers[1], "NUM_INFERENCE_STEPS": 2, "GUIDANCE_SCALE": 1}
        output = {"OUTPUT": tmp_path / "picture.png"}
        return run("generate", package / "client", PROMPT, *arguments, **common | output | settings)

    return generate


def test_a_picture_from_the_command_line(generate, picture, tmp_path):
    picture.save(tmp_path / "apple.jpg")
    shown = generate("--image", tmp_path / "apple.jpg", "--strength", "0.5", "--width", "32", SEED=1)
    assert shown.status == 0, shown.err
    with Image.open(tmp_path / "picture.png") as drawn:
        assert drawn.size == (32, 48)


@pytest.mark.parametrize(
    ("content", "arguments", "problem"),
    [
        (None, (), "--image is .*apple.png: No such file or directory; expected a picture"),
        (b"", (), "--image is .*cannot identify image file.*; expected a picture"),
        (b"\x89PNG\r\n\x1a\nxxxx", (), "--image is .*; expected a picture"),
        ("cut", (), "--image is .*; expected a picture"),
        ("whole", ("--strength", "2"), "strength is 2; expected"),
        ("whole", ("--latents", "latents.npy"), "--image and --latents are both given"),
        ("whole", ("--width", "99999"), r"--image has 99999 x 48 pixels; expected at most 4096"),
    ],
)
def test_the_command_line_refuses(generate, picture, tmp_path, content, arguments, problem):
    path = tmp_path / "apple.png"
    if isinstance(content, str):
        picture.save(path)
        path.write_bytes(path.read_bytes()[: -100 if content == "cut" else None])
    elif content is not None:
        path.write_bytes(content)
    message = generate("--image", path, *arguments, run=refused)
    assert re.search(problem, message), message
    assert not (tmp_path / "picture.png").exists()
