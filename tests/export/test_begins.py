"""Runs that begin in the middle do what diffusers' image to image does with the real schedulers, in float32."""

import numpy as np
import pytest

from ppidm.client.sampler import Sampler
from ppidm.export.samplers import SCHEDULERS, extract
from ppidm.export.scheduler_begins import extract_begins
from ppidm.protocol.errors import UnsupportedError
from ppidm.protocol.sampler_begins import begin, skipped_steps

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SHAPE = (2, 4, 3, 5)
RELATIVE = 1e-5  # of the largest value, at any evaluation
CONFIG = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}
RARE = ("HeunDiscreteScheduler", "DDPMScheduler", "DPMSolverSinglestepScheduler")
CASES = [
    (name, steps, strength)
    for name in (*SCHEDULERS, *RARE)
    for steps, strength in ((1, 1.0), (4, 0.5), (20, 0.3), (20, 0.8), (20, 1.0), (41, 0.97))
]


def scheduler(name, **config):
    return getattr(diffusers, name).from_config({**CONFIG, **config})


def model(model_input, timestep, call):
    """Stands in for the U-Net: depends on all it is given."""
    drift = np.random.default_rng(call).standard_normal(SHAPE) * np.cos(timestep)
    return (0.7 * np.tanh(model_input) + 0.7 * drift).astype(np.float32)


def noise(seed):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def run_diffusers(real, steps, strength):
    """Model inputs and samples of every evaluation, with the calls of StableDiffusionImg2ImgPipeline."""
    real.set_timesteps(steps)
    first = max(steps - min(int(steps * strength), steps), 0) * real.order
    timesteps = real.timesteps[first:]
    if hasattr(real, "set_begin_index"):
        real.set_begin_index(first)
    latents = real.add_noise(noise(5), noise(1), timesteps[:1].repeat(SHAPE[0]))
    extra = {"generator": torch.Generator().manual_seed(2)} if "generator" in real.step.__code__.co_varnames else {}
    seen = []
    for call, t in enumerate(timesteps):
        scaled = real.scale_model_input(latents, t)
        predicted = torch.from_numpy(model(scaled.numpy(), float(t), call))
        latents = real.step(predicted, t, latents, **extra, return_dict=False)[0]
        seen += [scaled.numpy(), latents.numpy()]
    return seen


def run_tables(real, steps, strength):
    """The same with tables."""
    table = extract(real, steps)
    begun = begin(table, extract_begins(real, steps, table), skipped_steps(strength, steps), "here")
    sampler = Sampler(*begun)
    generator = torch.Generator().manual_seed(2)
    state = sampler.start(noise(1).numpy(), noise(5).numpy())
    seen = []
    for call, t in enumerate(sampler.timesteps):
        scaled = state.model_input()
        state.step(model(scaled, t, call), lambda: torch.randn(SHAPE, generator=generator).numpy())
        seen += [scaled, state.latents]
    return seen


@pytest.mark.parametrize(("name", "steps", "strength"), CASES)
def test_a_run_that_begins_with_a_picture(name, steps, strength):
    expected = run_diffusers(scheduler(name), steps, strength)
    got = run_tables(scheduler(name), steps, strength)
    assert len(got) == len(expected)
    assert max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(got, expected, strict=True)) < RELATIVE


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("DPMSolverMultistepScheduler", {"solver_order": 3, "use_karras_sigmas": True}),
        ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "final_sigmas_type": "sigma_min"}),
        ("UniPCMultistepScheduler", {"solver_order": 3}),
        (
            "DDIMScheduler",
            {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
        ),
        ("EulerDiscreteScheduler", {"use_karras_sigmas": True, "timestep_spacing": "trailing"}),
    ],
)
def test_options_of_schedulers(name, options):
    expected = run_diffusers(scheduler(name, **options), 12, 0.7)
    got = run_tables(scheduler(name, **options), 12, 0.7)
    assert max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(got, expected, strict=True)) < RELATIVE


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_beginning_is_there_and_can_be_run(name):
    real = scheduler(name)
    table = extract(real, 15)
    begins = extract_begins(real, 15, table)
    for skipped in range(15):
        assert len(Sampler(*begin(table, begins, skipped, "here")).timesteps) == len(real_timesteps(real, 15)) - skipped


def real_timesteps(real, steps):
    real.set_timesteps(steps)
    return real.timesteps


def test_a_scheduler_that_cannot_add_noise_is_refused():
    real = scheduler("DDIMScheduler")
    table = extract(real, 3)
    real.add_noise = None
    with pytest.raises(UnsupportedError, match="DDIMScheduler cannot begin with a picture"):
        extract_begins(real, 3, table)
