"""The stages end to end, with a model as narrow as the layers permit, on a few made-up emoji."""

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from tools.train import denoiser, models, publish, sheet, stages, vae
from tools.train.__main__ import app
from tools.train.checkpoint import Checkpoint, Schedule
from tools.train.examples import Example, training_set
from tools.train.pictures import load_pictures
from tools.train.sheet import Drawing
from tools.train.stages import Places
from training_pictures import write_packages
from typer.testing import CliRunner

from ppidm.export import samplers
from ppidm.export.trace import is_traced
from ppidm.protocol.errors import InputError


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """A small model and small batches."""
    monkeypatch.setattr(stages, "new_unet", lambda: models.new_unet((32, 32, 32)))
    monkeypatch.setattr(stages, "new_vae", lambda: models.new_vae((16, 16, 16)))
    monkeypatch.setattr(stages, "new_text_encoder", lambda: models.new_text_encoder(1))
    for module in (models, stages):
        monkeypatch.setattr(module, "VOCABULARY", 600)
    monkeypatch.setattr(vae, "BATCH", 4)
    monkeypatch.setattr(publish, "sheet_of", lambda _prompts, _seeds: [Drawing("red apple", 0)])
    monkeypatch.setattr(stages, "training_set", lambda pictures: training_set(pictures, on_colour=2, pairs=2))
    torch.manual_seed(0)


@pytest.fixture
def places(tmp_path, monkeypatch):
    data = tmp_path / "data"
    data.mkdir()
    write_packages(data, monkeypatch)
    return Places(data, tmp_path / "state")


def quiet(*_):
    """No progress."""


@pytest.mark.filterwarnings("ignore")
def test_from_packages_to_a_traced_pipeline(places, tmp_path, monkeypatch):
    monkeypatch.setattr(samplers, "MAX_STEPS", 2)  # of 100
    monkeypatch.setattr(sheet, "_STEPS", 2)  # of 25
    stages.fetch(places.data, quiet)
    assert stages.vae(places, None, 2, None, quiet).updates == 2
    assert stages.unet(places, None, 2, None, 0.5, quiet).updates == 2
    stages.export(places, None, tmp_path / "model", "Made for a test.", quiet)
    assert is_traced(tmp_path / "model")
    pipe = StableDiffusionPipeline.from_pretrained(str(tmp_path / "model"), torch_dtype=torch.float32)
    assert len(pipe.tokenizer) > 512
    trained = stages.trained_pipeline(places.state, None)
    expected = trained.unet.state_dict()["conv_in.weight"].half().float()
    assert torch.equal(pipe.unet.state_dict()["conv_in.weight"], expected)
    assert pipe.vae.config.scaling_factor == trained.vae.config.scaling_factor != 0.18215
    card = (tmp_path / "model" / "README.md").read_text()
    assert "autoencoder 2 updates of 32" in card
    assert not [path for path in (tmp_path / "model").glob("*/*.json") if str(tmp_path) in path.read_text()]
    assert "begun with random weights. Made for a test." in card
    assert "| `@lobehub/fluent-emoji-3d` | 1.1.0 | MIT |" in card
    assert Image.open(tmp_path / "model" / "samples.png").width > 64


@pytest.mark.filterwarnings("ignore")
def test_with_earlier_weights_only_the_decoder_learns(places, tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "trace", lambda *_, **__: None)
    stages.vae(places, None, 1, None, quiet)
    stages.unet(places, None, 1, None, 0.5, quiet)
    stages.export(places, None, tmp_path / "first", "", quiet)
    later = Places(places.data, tmp_path / "later")
    stages.vae(later, tmp_path / "first", 2, None, quiet)
    before = models.load_pipeline(tmp_path / "first").vae.state_dict()
    after = Checkpoint(later.state / "vae.pt").load()["vae"]
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"decoder", "post_quant_conv"}


def test_the_unet_waits_for_the_autoencoder(places):
    with pytest.raises(InputError, match=r"holds no trained autoencoder; run `python -m tools\.train vae` first"):
        stages.unet(places, None, 1, None, 0.5, quiet)


def test_samples_wait_for_the_unet(tmp_path):
    shown = CliRunner().invoke(app, ["sample", str(tmp_path / "sheet.png"), "--state", str(tmp_path)])
    assert "holds no trained U-Net; run `python -m tools.train unet` first" in str(shown.exception)


@pytest.mark.filterwarnings("ignore")
def test_a_failed_export_leaves_the_folder_alone(places, tmp_path, monkeypatch):
    stages.vae(places, None, 1, None, quiet)
    stages.unet(places, None, 1, None, 0.5, quiet)
    monkeypatch.setattr(publish, "LARGEST_BYTES", 1000)
    monkeypatch.setattr(publish, "trace", lambda *_, **__: None)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine").write_text("kept")
    with pytest.raises(InputError, match=r"the model has \d+ MB; the project ships at most"):
        stages.export(places, None, tmp_path / "model", "", quiet)
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["mine"]


def fresh(places):
    torch.manual_seed(0)
    pictures = load_pictures(places.data)
    pipeline = stages._new_pipeline(places)
    examples = training_set(pictures, on_colour=2, pairs=2)
    latents = torch.from_numpy(np.random.default_rng(0).standard_normal((len(examples), 4, 16, 16), np.float32))
    return pipeline, denoiser.TrainingSet(examples, latents)


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(places, tmp_path):
    whole, data = fresh(places)
    denoiser.train_denoiser(whole, data, Schedule(4, 1e-3), Checkpoint(tmp_path / "whole.pt"), quiet, batch=2)
    parts, data = fresh(places)
    with pytest.raises(KeyboardInterrupt):
        denoiser.train_denoiser(parts, data, Schedule(4, 1e-3), Checkpoint(tmp_path / "parts.pt"), _interrupt, batch=2)
    made = denoiser.train_denoiser(
        fresh(places)[0], data, Schedule(4, 1e-3), Checkpoint(tmp_path / "parts.pt"), quiet, batch=2
    )
    assert made == 4
    expected, got = (torch.load(tmp_path / f"{name}.pt") for name in ("whole", "parts"))
    for kind in ("model", "average"):
        for name, value in expected[kind].items():
            # Sums of two threads may be ordered otherwise; an update lost or made twice differs by 1e-3.
            torch.testing.assert_close(got[kind][name], value, rtol=1e-4, atol=2e-5)


def _interrupt(done, _total):
    if done == 2:
        raise KeyboardInterrupt


def test_training_lowers_the_error(places, tmp_path):
    pipeline, data = fresh(places)
    before = denoiser.held_out_error(pipeline, data, repeats=2)
    denoiser.train_denoiser(pipeline, data, Schedule(30, 3e-3, warmup=5), Checkpoint(tmp_path / "u.pt"), quiet, batch=4)
    assert denoiser.held_out_error(pipeline, data, repeats=2) < 0.9 * before


def test_the_autoencoder_learns_to_reconstruct(places, tmp_path):
    pictures = [Example((picture,)).pixels() for picture in load_pictures(places.data)]
    made = models.new_vae((16, 16, 16))
    before = vae.psnr_db(made, pictures)
    vae.train_vae(made, lambda _: pictures, Schedule(20, 2e-3, warmup=3), Checkpoint(tmp_path / "v.pt"), quiet)
    assert vae.psnr_db(made, pictures) > before + 1


def test_every_update_has_its_own_batch_which_is_the_same_every_time(places):
    _, data = fresh(places)
    first, again, other = data.batch(5, 4), data.batch(5, 4), data.batch(6, 4)
    assert first[1] == again[1]
    assert torch.equal(first[2], again[2])
    assert not torch.equal(first[2], other[2])


def test_help_names_the_stages_in_order():
    shown = CliRunner().invoke(app, ["--help"]).output
    positions = [shown.index(f" {name} ") for name in ("fetch", "vae", "unet", "sample", "export")]
    assert positions == sorted(positions)
