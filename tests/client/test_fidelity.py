"""A private picture is diffusers' picture in float32. `make fidelity` compares more of them."""

from pathlib import Path

import numpy as np
import pytest

from ppidm.client import PrivateStableDiffusionPipeline

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

# diffusers 0.42 passes tensors to numpy in a way that numpy 2 deprecates, and calls old names of transformers
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore::UserWarning:transformers",
    "ignore::UserWarning:torch",
)
MODEL = Path(__file__).parents[2] / "models" / "default"
LEAST_DB = 50
CASES = [
    ("red apple, 3d style", "DDIMScheduler"),
    ("rocket, 3d style", "EulerDiscreteScheduler"),
    ("dog face, 3d style", "DPMSolverMultistepScheduler"),
]
STEPS, GUIDANCE = 8, 4.0


@pytest.fixture(scope="module")
def oracle():
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(str(MODEL), dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # its threads spin, and the servers need the cores
    yield pipe
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def private(package, servers):
    client = package / "client"
    with PrivateStableDiffusionPipeline.from_package(client, evaluator=servers[0], dealers=[servers[1]]) as pipe:
        yield pipe


def psnr_db(a, b):
    """Of pictures in [0, 1]."""
    return -10 * np.log10(np.square(np.float64(a) - b).mean())


@pytest.mark.parametrize(("prompt", "scheduler"), CASES)
def test_fidelity(oracle, private, prompt, scheduler):
    latents = np.random.default_rng(len(prompt)).standard_normal((1, 4, 16, 16), np.float32)
    common = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "output_type": "np"}
    oracle.scheduler = getattr(diffusers, scheduler).from_config(oracle.scheduler.config)
    expected = oracle(prompt, negative_prompt="flat style", latents=torch.from_numpy(latents), **common).images
    got = private(prompt, negative_prompt="flat style", latents=latents, scheduler=scheduler, **common).images
    assert expected.std() > 0.1  # a picture, not a plain colour
    assert psnr_db(expected, got) >= LEAST_DB
