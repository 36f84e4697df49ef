"""Well-known models at a reduced size, whole pictures against diffusers with the same weights."""

import warnings

import diffusers
import numpy as np
import pytest
import torch
from in_process import serving_here
from made_models import NAMES, make

from ppidm.client import PrivateStableDiffusionPipeline
from ppidm.export import samplers
from ppidm.export.package import export_package
from ppidm.export.settings import ExportSettings
from ppidm.export.torch_modules import quiet

STEPS = 4
SIZE = 64
OWN = {
    "lcm": ("LCMScheduler",),
    "sd-turbo": ("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "LCMScheduler"),
}
FAST = {("sdxl", "EulerDiscreteScheduler")}  # what is most unlike the shipped model
CASES = [
    pytest.param(name, scheduler, marks=() if (name, scheduler) in FAST else pytest.mark.slow, id=f"{name}-{scheduler}")
    for name in NAMES
    for scheduler in OWN.get(name, samplers.SCHEDULERS)
]
CALLS = {
    "lcm": {"guidance_scale": 8.5},
    "sd-turbo": {"guidance_scale": 0.0},
    "sdxl": {"guidance_scale": 5.0},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


def exported(folder, name):
    """A model and its package, made when they are first asked for."""
    model, out = folder / name, folder / f"{name}-package"
    if not out.exists():
        make(name, model)
        with pytest.MonkeyPatch.context() as patch, quiet():
            patch.setattr(samplers, "MAX_STEPS", STEPS)  # of 100: tables take longer than everything else
            components = ("unet", "vae") if name == "sd-turbo" else ("unet",)
            result = export_package(ExportSettings(str(model), out, components=components))
        assert result.snr_db > 45
    return model, out


def by_diffusers(model, scheduler, latents, arguments):
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        pipe = diffusers.DiffusionPipeline.from_pretrained(model, local_files_only=True, torch_dtype=torch.float32)
        pipe.set_progress_bar_config(disable=True)
        pipe.scheduler = getattr(diffusers, scheduler).from_config(pipe.scheduler.config)
        return pipe(**arguments, latents=torch.from_numpy(latents), output_type="np").images


@pytest.mark.parametrize(("name", "scheduler"), CASES)
def test_a_picture(folder, name, scheduler):
    model, out = exported(folder, name)
    steps = 1 if name == "sd-turbo" and "Ancestral" not in scheduler else STEPS
    arguments = {"prompt": "a red apple", "height": SIZE, "width": SIZE, "num_inference_steps": steps} | CALLS.get(
        name, {}
    )
    latents = np.random.default_rng(1).standard_normal((1, 4, SIZE // 8, SIZE // 8), np.float32)
    noise = torch.Generator().manual_seed(3)
    expected = by_diffusers(model, scheduler, latents, arguments | {"generator": noise})
    with (
        serving_here(out) as (evaluator, dealer),
        PrivateStableDiffusionPipeline.from_package(out / "client", evaluator=evaluator, dealers=[dealer]) as pipe,
        pytest.MonkeyPatch.context() as patch,
    ):
        drawn = torch.Generator().manual_seed(3)
        patch.setattr(
            "ppidm.client.arguments.Request.draw",
            lambda self, image, _rng: torch.randn(self.latents_shape(image), generator=drawn).numpy(),
        )
        got = pipe(**arguments, scheduler=scheduler, latents=latents, output_type="np")
    psnr = -10 * np.log10(np.square(got.images - expected, dtype=np.float64).mean())
    assert psnr > 45, psnr
    assert got.report.offload.unet_fraction > 0.5
    evaluations = steps + (scheduler == "PNDMScheduler")  # it begins with two evaluations of half a step
    assert got.report.evaluations == evaluations * (1 if name in {"lcm", "sd-turbo"} else 2)


def test_sdxl_with_a_negative_prompt(folder):
    """Without one its embeddings are zeros, with one they are the text's: pictures differ, and both are diffusers'."""
    model, out = exported(folder, "sdxl")
    latents = np.random.default_rng(2).standard_normal((2, 4, 8, 16), np.float32)
    arguments = {"prompt": ["a red apple", "a dog"], "negative_prompt": ["blurry", "dark"], "height": 64, "width": 128}
    arguments |= {"num_inference_steps": 2, "guidance_scale": 5.0}
    expected = by_diffusers(model, "EulerDiscreteScheduler", latents, arguments)
    with (
        serving_here(out) as (evaluator, dealer),
        PrivateStableDiffusionPipeline.from_package(out / "client", evaluator=evaluator, dealers=[dealer]) as pipe,
    ):
        got = pipe(**arguments, latents=latents, output_type="np").images
    assert -10 * np.log10(np.square(got - expected, dtype=np.float64).mean()) > 45
