"""The tables do what the real schedulers do: whole trajectories, float32, against diffusers as a pipeline calls it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ppidm.client.sampler import Sampler
from ppidm.export.samplers import SCHEDULERS, StepsRefusedError, extract
from ppidm.protocol.errors import UnsupportedError
from ppidm.protocol.sampler_table import Kind

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

# diffusers 0.42 passes tensors to numpy in a way that numpy 2 deprecates
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

MODEL = Path(__file__).parents[2] / "models" / "default"
SHAPE = (2, 4, 3, 5)
RELATIVE = 1e-5  # of the largest value, at any evaluation; measured: 1.1e-6 and less
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
CASES = [
    (name, steps) for name in SCHEDULERS for steps in (1, 2, 4, 20, 50, 100) if (name, steps) != ("LCMScheduler", 100)
]


def scheduler(name, **config):
    return getattr(diffusers, name).from_config({**CONFIG, **config})


def model(model_input, timestep, call):
    """Stands in for the U-Net: depends on all it is given."""
    drift = np.random.default_rng(call).standard_normal(SHAPE) * np.cos(timestep)
    return (0.7 * np.tanh(model_input) + 0.7 * drift).astype(np.float32)


def noise(seed):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def run_diffusers(real, steps, change=None):
    """Model inputs and samples of every evaluation, with the calls of diffusers' own pipelines."""
    real.set_timesteps(steps)
    latents = noise(1) * real.init_noise_sigma
    extra = {"generator": torch.Generator().manual_seed(2)} if "generator" in real.step.__code__.co_varnames else {}
    seen = []
    for call, t in enumerate(real.timesteps):
        scaled = real.scale_model_input(latents, t)
        predicted = torch.from_numpy(model(scaled.numpy(), float(t), call))
        latents = real.step(predicted, t, latents, **extra, return_dict=False)[0]
        seen += [scaled.numpy(), latents.numpy()]
        if change:
            latents = torch.from_numpy(change(latents.numpy(), call))
    return seen


def run_table(table, change=None):
    """The same with the table."""
    sampler = Sampler(table)
    generator = torch.Generator().manual_seed(2)
    state = sampler.start(noise(1).numpy())
    seen = []
    for call, t in enumerate(sampler.timesteps):
        scaled = state.model_input()
        state.step(model(scaled, t, call), lambda: torch.randn(SHAPE, generator=generator).numpy())
        seen += [scaled, state.latents]
        if change:
            state.latents = change(state.latents, call)
    return seen


def error(seen, expected):
    """The largest error of any evaluation, relative to the largest value of that evaluation."""
    assert len(seen) == len(expected)
    return max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(seen, expected, strict=True))


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(("name", "steps"), CASES)
def test_a_table_reproduces_its_scheduler(name, steps, prediction_type, record_property):
    real = scheduler(name, prediction_type=prediction_type)
    table = extract(real, steps)
    worst = error(run_table(table), run_diffusers(real, steps))
    record_property("relative_error", worst)
    assert worst < RELATIVE
    assert np.array_equal(Sampler(table).timesteps, real.timesteps.double().numpy())


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("EulerDiscreteScheduler", {"use_karras_sigmas": True}),
        ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
        ("UniPCMultistepScheduler", {"use_karras_sigmas": True}),
        ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
        ("DPMSolverMultistepScheduler", {"solver_order": 3}),
        ("UniPCMultistepScheduler", {"solver_order": 3}),
        ("PNDMScheduler", {"skip_prk_steps": False}),
        (
            "DDIMScheduler",
            {"timestep_spacing": "trailing", "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
        ),
        ("EulerDiscreteScheduler", {"timestep_spacing": "linspace"}),  # fractional timesteps
        ("DDPMScheduler", {}),
        ("HeunDiscreteScheduler", {}),
        ("TCDScheduler", {}),
    ],
)
@pytest.mark.parametrize("steps", [4, 25])
def test_variants_and_other_schedulers(name, config, steps):
    real = scheduler(name, **config)
    assert error(run_table(extract(real, steps)), run_diffusers(real, steps)) < RELATIVE


def test_the_model_in_the_repository():
    config = json.loads((MODEL / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    real = getattr(diffusers, config["_class_name"]).from_config(config)
    assert error(run_table(extract(real, 20)), run_diffusers(real, 20)) < RELATIVE


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_callback_may_change_the_latents(name):
    real = scheduler(name)

    def change(latents, call):
        return latents * np.float32(0.9) + np.float32(0.1 * call) if call in (2, 5) else latents

    table = extract(real, 10)
    assert error(run_table(table, change), run_diffusers(real, 10, change)) < RELATIVE
    assert error(run_table(table), run_diffusers(real, 10, change)) > 0.01


@pytest.mark.parametrize("name", ["EulerAncestralDiscreteScheduler", "UniPCMultistepScheduler", "PNDMScheduler"])
def test_every_wrong_coefficient_is_noticed(name):
    real = scheduler(name)
    table = extract(real, 6)
    expected = run_diffusers(real, 6)
    for place in np.flatnonzero((table["value"] != 0) & (table["kind"] != Kind.TIMESTEP)):
        wrong = table.copy()
        wrong["value"][place] *= 1.1
        assert error(run_table(wrong), expected) > RELATIVE, wrong[place]


@pytest.mark.parametrize(
    "name", ["DDIMScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "PNDMScheduler"]
)
def test_rows_are_short(name):
    table = extract(scheduler(name), 100)
    assert np.bincount(table["row"][table["kind"] >= Kind.SAMPLE]).max() <= 8


def test_extract_leaves_the_scheduler_alone():
    real = scheduler("UniPCMultistepScheduler")
    real.set_timesteps(7)
    before = real.timesteps.clone()
    extract(real, 3)
    assert torch.equal(real.timesteps, before)
    assert real.step_index is None
    assert sys.modules[diffusers.DDIMScheduler.__module__].randn_tensor.__module__ == "diffusers.utils.torch_utils"


@pytest.mark.parametrize(
    ("name", "config", "flag"),
    [
        ("DDIMScheduler", {"clip_sample": True}, "clip_sample"),
        ("DDIMScheduler", {"clip_sample": True, "clip_sample_range": 1e5}, "clip_sample"),
        ("LCMScheduler", {"clip_sample": True}, "clip_sample"),
        ("DDIMScheduler", {"thresholding": True}, "thresholding"),
        ("DPMSolverMultistepScheduler", {"thresholding": True, "sample_max_value": 1e9}, "thresholding"),
        ("UniPCMultistepScheduler", {"thresholding": True}, "thresholding"),
    ],
)
def test_a_non_linear_scheduler_is_refused_by_name_and_flag(name, config, flag):
    with pytest.raises(UnsupportedError, match=f"{name} is not linear.*{flag}"):
        extract(scheduler(name, **config), 4)


def test_non_linearity_is_measured_and_not_only_looked_up():
    class Offset(diffusers.DDIMScheduler):
        def step(self, *args, **more):
            return (super().step(*args, **more)[0] + 1e-3,)

    with pytest.raises(UnsupportedError, match=r"Offset is not linear, so that a client cannot run it exactly$"):
        extract(Offset(**{key: CONFIG[key] for key in ("beta_start", "beta_end", "clip_sample")}), 4)


def test_a_step_count_that_diffusers_refuses_is_refused():
    with pytest.raises(StepsRefusedError, match="LCMScheduler refuses 100 steps"):
        extract(scheduler("LCMScheduler"), 100)


def test_a_step_count_without_finite_results_is_refused():
    blind = scheduler("DDIMScheduler", rescale_betas_zero_snr=True, timestep_spacing="trailing")  # divides by zero
    with pytest.raises(StepsRefusedError, match="inf or nan"):
        extract(blind, 4)


def test_the_modules_can_be_imported_without_torch():
    blocked = (
        "import sys; sys.modules.update(torch=None, diffusers=None); import ppidm.export.samplers, ppidm.client.sampler"
    )
    subprocess.run([sys.executable, "-c", blocked], check=True)
