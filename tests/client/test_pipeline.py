"""`PrivateStableDiffusionPipeline` is used as diffusers' pipeline is. That it draws the same: test_fidelity.py."""

import inspect

import numpy as np
import pytest

from ppidm.client import PrivateStableDiffusionOutput, PrivateStableDiffusionPipeline
from ppidm.protocol.errors import InputError

QUICK = {"num_inference_steps": 2, "guidance_scale": 1.0}
SHAPE = (1, 4, 16, 16)


@pytest.fixture(scope="module")
def open_pipeline(package, servers):
    def open_pipeline(**options):
        return PrivateStableDiffusionPipeline.from_package(
            package / "client", evaluator=servers[0], dealers=[servers[1]], **options
        )

    return open_pipeline


@pytest.fixture(scope="module")
def pipeline(open_pipeline):
    with open_pipeline() as pipeline:
        yield pipeline


def latents(seed, count=1):
    return np.random.default_rng(seed).standard_normal((count, *SHAPE[1:]), np.float32)


def psnr_db(a, b):
    """Of pictures in [0, 1]."""
    with np.errstate(divide="ignore"):
        return -10 * np.log10(np.square(np.float64(a) - b).mean())


# the call


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_the_signature_is_diffusers():
    diffusers = pytest.importorskip("diffusers")
    theirs = inspect.signature(diffusers.StableDiffusionPipeline.__call__).parameters
    ours = inspect.signature(PrivateStableDiffusionPipeline.__call__).parameters
    shared = [name for name in ours if name in theirs and name not in ("self", "prompt")]
    assert set(ours) - set(theirs) == {"scheduler"}
    assert {name: ours[name].default for name in shared} == {name: theirs[name].default for name in shared}
    positional = [name for name, parameter in ours.items() if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
    assert positional == list(theirs)[: len(positional)]  # beyond these, a position could mean another argument
    assert len(positional) == 5


def test_every_argument_is_documented():
    documented = inspect.getdoc(PrivateStableDiffusionPipeline.__call__)
    for name in inspect.signature(PrivateStableDiffusionPipeline.__call__).parameters:
        assert name == "self" or f"\n    {name}: " in documented


def test_output_types(pipeline):
    outputs = {kind: pipeline("red apple", generator=1, output_type=kind, **QUICK) for kind in ("pil", "np", "latent")}
    assert all(isinstance(output, PrivateStableDiffusionOutput) for output in outputs.values())
    [picture] = outputs["pil"].images
    assert (picture.size, picture.mode) == ((64, 64), "RGB")
    floats = outputs["np"].images
    assert (floats.shape, floats.dtype) == ((1, 64, 64, 3), np.float32)
    assert 0 <= floats.min() < floats.max() <= 1
    assert np.array_equal(np.asarray(picture), np.rint(floats[0] * 255))
    assert (outputs["latent"].images.shape, outputs["latent"].images.dtype) == (SHAPE, np.float32)
    assert outputs["pil"].nsfw_content_detected is None
    assert outputs["pil"].report.steps == 2


def test_a_tuple_instead(pipeline):
    images, flags = pipeline("red apple", output_type="latent", return_dict=False, **QUICK)
    assert images.shape == SHAPE
    assert flags is None


def test_the_order_of_a_batch(pipeline):
    """Prompts one after the other, each with all of its pictures; as many as one by one."""
    noise = latents(2, 4)
    common = {"num_inference_steps": 1, "guidance_scale": 3.0, "output_type": "np"}
    prompts, negative = ["red apple, 3d style", "rocket, 3d style"], ["blue", "dark"]
    batch = pipeline(prompts, negative_prompt=negative, num_images_per_prompt=2, latents=noise, **common)
    assert batch.report.evaluations == 4 * 2
    for index, image in enumerate(batch.images):
        texts = {"prompt": prompts[index // 2], "negative_prompt": negative[index // 2]}
        alone = pipeline(**texts, latents=noise[index : index + 1], **common).images[0]
        assert psnr_db(image, alone) > 50
    assert psnr_db(batch.images[0], batch.images[2]) < 40


def test_the_callback_sees_and_replaces_latents(pipeline):
    seen, replacement = [], latents(4)

    def callback(pipe, step, timestep, tensors):
        assert set(tensors) == {"latents"}
        seen.append((pipe, step, timestep, tensors["latents"]))
        return {"latents": replacement} if step == 0 else {}

    common = {"generator": 1, "output_type": "latent", "guidance_scale": 1.0}
    last = pipeline("rose", num_inference_steps=3, callback_on_step_end=callback, **common).images
    assert [(pipe, step) for pipe, step, *_ in seen] == [(pipeline, 0), (pipeline, 1), (pipeline, 2)]
    assert [timestep for _, _, timestep, _ in seen] == [667, 334, 1]
    assert np.array_equal(seen[-1][-1], last)

    def again(_pipe, step, _timestep, _tensors):
        return {"latents": replacement} if step == 0 else {}

    other = {"prompt": "rose", "num_inference_steps": 3, **common, "generator": 9}
    assert np.array_equal(pipeline(**other, callback_on_step_end=again).images, last)  # the past is forgotten
    assert not np.array_equal(pipeline(**other).images, last)


def test_some_schedulers_evaluate_more_than_once_per_step(pipeline):
    steps = []

    def callback(pipe, step, _timestep, _tensors):
        steps.append((step, pipe.num_evaluations))
        return {}

    common = {"scheduler": "PNDMScheduler", "output_type": "latent", "guidance_scale": 1.0}
    pipeline("rose", num_inference_steps=4, callback_on_step_end=callback, **common)
    assert steps == [(index, 13) for index in range(13)]  # three Runge-Kutta steps of four, and one more


@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "EulerAncestralDiscreteScheduler"])
def test_a_seed_repeats_a_picture(pipeline, scheduler):
    """The ancestral sampler draws noise in every step, from the same generator."""
    common = {"scheduler": scheduler, "output_type": "latent", **QUICK}
    first, again, other = (pipeline("rose", generator=seed, **common).images for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    rng = np.random.default_rng(5)
    assert np.array_equal(pipeline("rose", generator=rng, **common).images, first)
    assert not np.array_equal(pipeline("rose", generator=rng, **common).images, first)


def test_a_long_prompt_is_truncated_with_a_warning(pipeline):
    common = {"generator": 1, "output_type": "latent", **QUICK}
    with pytest.warns(UserWarning, match="^a prompt was truncated to 32 tokens$") as caught:
        long = pipeline("red " * 100, **common).images
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="truncated"):
        longer = pipeline("red " * 100 + "rocket", **common).images
    assert np.array_equal(long, longer)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"output_type": "pt"}, 'output_type is \'pt\'; expected "pil", "np" or "latent"'),
        ({"scheduler": "DDIM"}, "this package has no scheduler 'DDIM'; it has DDIMScheduler, EulerDiscreteScheduler, "),
        ({"num_inference_steps": 0}, "DDIMScheduler cannot do 0 steps in this package; it can do 1-100"),
        ({"num_inference_steps": 2.5}, "DDIMScheduler cannot do 2.5 steps in this package; it can do 1-100"),
        ({"height": 8}, "height is 8; expected a multiple of 16 pixels"),
        ({"generator": "seed"}, "generator is a builtins.str; expected a seed"),
        ({"latents": latents(1, 2)}, "latents is float32(2, 4, 16, 16); expected float32(1, 4, 16, 16)"),
        ({"negative_prompt": ["a", "b"]}, "negative_prompt has 2 texts; expected 1 or 1"),
    ],
)
def test_bad_arguments_cost_nothing(pipeline, arguments, message):
    before = [server.traffic for server in pipeline._servers.all]
    with pytest.raises(InputError) as raised:
        pipeline(**{"prompt": "red apple"} | arguments)
    assert str(raised.value).startswith(message)
    assert [server.traffic for server in pipeline._servers.all] == before


def test_latents_of_another_shape_from_the_callback(pipeline):
    with pytest.raises(InputError, match=r"the new latents: got shape \(2, 4, 16, 16\), expected \(1, 4, 16, 16\)"):
        pipeline("rose", callback_on_step_end=lambda *_: {"latents": latents(1, 2)}, **QUICK)


# opening and closing


def test_a_context_manager_closes(open_pipeline):
    with open_pipeline() as pipeline:
        assert pipeline("rose", output_type="latent", **QUICK).images.shape == SHAPE
    with pytest.raises((ValueError, RuntimeError)):
        pipeline("rose", output_type="latent", **QUICK)


@pytest.mark.parametrize(
    ("addresses", "message"),
    [
        ({"dealers": []}, "no dealer; expected at least one"),
        ({"evaluator": "here"}, "address 'here'; expected HOST:PORT"),
        ({"dealers": ["192.0.2.7:80"]}, "address 192.0.2.7:80 is 192.0.2.7; expected a loopback address"),
    ],
)
def test_bad_addresses(package, servers, addresses, message):
    with pytest.raises(InputError) as raised:
        PrivateStableDiffusionPipeline.from_package(
            package / "client", **{"evaluator": servers[0], "dealers": servers[1:]} | addresses
        )
    assert str(raised.value).startswith(message)
