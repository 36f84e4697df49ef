"""`tools/make_model.py`: the sizes of the real models, and folders that diffusers loads."""

import json
import subprocess
import sys
from math import prod

import diffusers
import numpy as np
import pytest
import transformers
from made_models import NAMES, TOOLS, make, tool
from safetensors.numpy import load_file

PARAMETERS = {  # as published, or counted in the published files
    "sd15": {"unet": 859_520_964, "text_encoder": 123_060_480, "vae": 83_653_863},
    "sd21": {"unet": 865_910_724, "text_encoder": 340_387_840, "vae": 83_653_863},
    "sd-turbo": {"unet": 865_910_724, "text_encoder": 340_387_840, "vae": 83_653_863},
    "lcm": {"unet": 859_520_964 + 256 * 320, "text_encoder": 123_060_480, "vae": 83_653_863},
    "sdxl": {
        "unet": 2_567_463_684,
        "text_encoder": 123_060_480,
        "text_encoder_2": 694_659_840,
        "vae": 83_653_863,
    },
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    return {name: make(name, folder / name) for name in NAMES}


def test_every_model_is_here():
    assert tool("making.configurations").names() == list(NAMES) == list(PARAMETERS)


@pytest.mark.parametrize(("name", "part"), [(name, part) for name, parts in PARAMETERS.items() for part in parts])
def test_full_size(name, part):
    config = tool("making.configurations").configuration_from_name(name).components[part]
    library, kind, _ = tool("make_model").CLASSES[part]
    config = config if library == "diffusers" else transformers.CLIPTextConfig(**config)
    module = tool("making.weights").shapes_of(getattr(sys.modules[library], kind), config)
    assert sum(prod(value.shape) for value in module.parameters()) == PARAMETERS[name][part]


@pytest.mark.parametrize("name", NAMES)
def test_diffusers_loads_it(made, name):
    index = json.loads((made[name] / "model_index.json").read_text())
    pipeline = getattr(diffusers, index["_class_name"]).from_pretrained(made[name], local_files_only=True)
    weights = load_file(made[name] / "unet" / "diffusion_pytorch_model.safetensors")
    assert all(value.dtype == np.float16 for value in weights.values())
    loaded = pipeline.unet.state_dict()
    assert {key: value.shape for key, value in weights.items()} == {key: tuple(v.shape) for key, v in loaded.items()}
    np.testing.assert_array_equal(loaded["conv_in.weight"].numpy(), weights["conv_in.weight"].astype(np.float32))
    ids = pipeline.tokenizer(["red apple"], padding="max_length").input_ids[0]
    assert len(ids) == 77
    assert max(ids) == pipeline.text_encoder.config.eos_token_id == 599


def test_the_seed_decides(made, tmp_path):
    path = "vae/diffusion_pytorch_model.safetensors"
    again, other = make("sd15", tmp_path / "again"), make("sd15", tmp_path / "other", seed=1)
    assert (again / path).read_bytes() == (made["sd15"] / path).read_bytes() != (other / path).read_bytes()


def test_command_line(tmp_path):
    command = [sys.executable, TOOLS / "make_model.py", "sd15", tmp_path / "out", "--scale", "small"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["text_encoder", "unet", "vae"]
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "exists; give another folder" in again.stderr
