"""`write_samplers` makes one file of all schedulers, and says which it left out and which it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest

from ppidm.client.sampler import Sampler
from ppidm.export import samplers
from ppidm.export.samplers import SCHEDULERS, write_samplers
from ppidm.protocol.errors import InputError, UnsupportedError
from ppidm.protocol.sampler_table import FILE, load_missing, load_table

pytest.importorskip("torch")
pytest.importorskip("diffusers")

MODEL = Path(__file__).parents[2] / "models" / "default"
CONFIG = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
}


def write_model(folder, name="DDIMScheduler", **config):
    (folder / "scheduler").mkdir()
    text = json.dumps({"_class_name": name, **CONFIG, **config})
    (folder / "scheduler" / "scheduler_config.json").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def _few_steps(monkeypatch):
    monkeypatch.setattr(samplers, "MAX_STEPS", 6)


@pytest.mark.usefixtures("_few_steps")
def test_the_file_has_all_schedulers_and_the_same_bytes_each_time(tmp_path):
    calls = []
    path = write_samplers(write_model(tmp_path), lambda name, steps: calls.append((name, steps)))
    assert path == tmp_path / FILE
    assert calls == [(name, steps) for name in SCHEDULERS for steps in range(1, 7)]
    assert load_missing(path) == {}
    for name in SCHEDULERS:
        table = load_table(path, name)
        assert np.unique(table["steps"]).tolist() == [1, 2, 3, 4, 5, 6]
        assert Sampler.load(path, name, 5).timesteps.size == 5 + (name == "PNDMScheduler")
    first_bytes = path.read_bytes()
    write_samplers(tmp_path)
    assert path.read_bytes() == first_bytes
    assert {file.name for file in path.parent.iterdir()} == {"scheduler_config.json", "samplers.npz"}


@pytest.mark.usefixtures("_few_steps")
def test_the_own_scheduler_is_in_the_file_even_if_it_is_a_rare_one(tmp_path):
    path = write_samplers(write_model(tmp_path, name="HeunDiscreteScheduler"))
    assert Sampler.load(path, "HeunDiscreteScheduler", 6).timesteps.size == 11


@pytest.mark.usefixtures("_few_steps")
def test_other_schedulers_that_are_not_linear_are_left_out_with_a_reason(tmp_path):
    path = write_samplers(write_model(tmp_path, name="PNDMScheduler", thresholding=True))
    left_out = {"DDIMScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "LCMScheduler"}
    assert set(load_missing(path)) == left_out
    with pytest.raises(InputError, match=r"'DDIMScheduler' .*not linear.*thresholding.*; it has PNDMScheduler, Euler"):
        Sampler.load(path, "DDIMScheduler", 4)


@pytest.mark.usefixtures("_few_steps")
def test_the_own_scheduler_must_be_linear(tmp_path):
    with pytest.raises(UnsupportedError, match="DDIMScheduler is not linear"):
        write_samplers(write_model(tmp_path, clip_sample=True))
    assert [file.name for file in (tmp_path / "scheduler").iterdir()] == ["scheduler_config.json"]


@pytest.mark.usefixtures("_few_steps")
def test_an_own_scheduler_that_never_works_is_refused_with_what_diffusers_says(tmp_path):
    with pytest.raises(UnsupportedError, match=r"no number of steps from 1 to 6: .*EulerAncestral.*not implemented"):
        write_samplers(write_model(tmp_path, name="EulerAncestralDiscreteScheduler", prediction_type="sample"))


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        (None, InputError, "cannot read"),
        ("{", InputError, "cannot read"),
        ("[]", InputError, "no _class_name"),
        ('{"_class_name": 3}', InputError, "no _class_name"),
        ('{"_class_name": "NoScheduler"}', UnsupportedError, "'NoScheduler'"),
        ('{"_class_name": "UNet2DConditionModel"}', UnsupportedError, "'UNet2DConditionModel'"),
        ('{"_class_name": "DDIMScheduler", "beta_schedule": "none"}', UnsupportedError, "cannot be made"),
    ],
)
def test_an_unusable_configuration_is_refused(tmp_path, text, kind, message):
    (tmp_path / "scheduler").mkdir()
    if text is not None:
        (tmp_path / "scheduler" / "scheduler_config.json").write_text(text, encoding="utf-8")
    with pytest.raises(kind, match=message):
        write_samplers(tmp_path)


@pytest.mark.slow
def test_all_step_counts_of_the_model_in_the_repository_are_small(tmp_path):
    (tmp_path / "scheduler").mkdir()
    config = (MODEL / "scheduler" / "scheduler_config.json").read_bytes()
    (tmp_path / "scheduler" / "scheduler_config.json").write_bytes(config)
    path = write_samplers(tmp_path)
    assert path.stat().st_size < 2.5e6
    assert np.unique(load_table(path, "DDIMScheduler")["steps"]).tolist() == list(range(1, 101))
