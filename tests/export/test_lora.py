"""LoRA, merged into a copy of the weights."""

import shutil

import numpy as np
import pytest
from command_line import refused
from conftest import MODEL
from safetensors.numpy import load_file, save_file

from ppidm.export.lora import Lora, lora_from_text, merged_model
from ppidm.protocol.errors import InputError, UnsupportedError

QUERY = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
CONV = "mid_block.resnets.0.conv1"
TEXT = "encoder.layers.1.self_attn.q_proj"
RANK = 3


def weights(model, part="unet"):
    (path,) = (model / part).glob("*.safetensors")
    return load_file(path)


def text_name():
    return next(name for name in weights(MODEL, "text_encoder") if name.endswith(f"{TEXT}.weight"))


def draw(shape, seed):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def pair(name, part="unet"):
    """(up, down) for a stored weight."""
    shape = weights(MODEL, part)[name].shape
    kernel = shape[2:]
    return draw((shape[0], RANK, *(1 for _ in kernel)), 1), draw((RANK, *shape[1:]), 2)


def kohya(folder):
    tensors = {}
    for key, name, part in (
        (f"lora_unet_{QUERY.replace('.', '_')}", f"{QUERY}.weight", "unet"),
        (f"lora_unet_{CONV.replace('.', '_')}", f"{CONV}.weight", "unet"),
        (f"lora_te_text_model_{TEXT.replace('.', '_')}", text_name(), "text_encoder"),
    ):
        up, down = pair(name, part)
        tensors |= {f"{key}.lora_up.weight": up, f"{key}.lora_down.weight": down, f"{key}.alpha": np.float32(1.5)[None]}
    save_file(tensors, folder / "kohya.safetensors")
    return Lora(folder / "kohya.safetensors", 0.5)


def peft(folder):
    up, down = pair(f"{QUERY}.weight")
    names = {f"unet.{QUERY}.lora_A.weight": down, f"unet.{QUERY}.lora_B.weight": up}
    save_file(names, folder / "peft.safetensors")
    return Lora(folder / "peft.safetensors")


def product(name, part="unet"):
    up, down = pair(name, part)
    return np.einsum("or,r...->o...", up.reshape(len(up), RANK), down)


def changes(merged, part="unet"):
    before, after = weights(MODEL, part), weights(merged, part)
    return {
        name: after[name].astype(np.float32) - before[name] for name in before if (after[name] != before[name]).any()
    }


def test_kohya(tmp_path):
    merged = merged_model(MODEL, [kohya(tmp_path)], tmp_path / "merged")
    changed = changes(merged)
    assert set(changed) == {f"{QUERY}.weight", f"{CONV}.weight"}
    for name, change in changed.items():
        np.testing.assert_allclose(change, 0.5 * 1.5 / RANK * product(name), atol=2e-3)
    assert set(changes(merged, "text_encoder")) == {text_name()}
    assert (merged / "vae").is_symlink()
    assert (merged / "unet" / "model.onnx").read_bytes() == (MODEL / "unet" / "model.onnx").read_bytes()


def test_peft_and_several(tmp_path):
    lora = peft(tmp_path)
    once, twice = (merged_model(MODEL, [lora] * count, tmp_path / str(count)) for count in (1, 2))
    name = f"{QUERY}.weight"
    np.testing.assert_allclose(changes(once)[name], product(name), atol=5e-3)
    np.testing.assert_allclose(changes(twice)[name], 2 * product(name), atol=1e-2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {name.replace("down_blocks.0", "down_blocks.7"): v for name, v in t.items()}, "changes layer down_blocks_7"),
        (lambda t: {name.replace("lora_B", "hada_w1"): v for name, v in t.items()}, "is no LoRA of kohya's or PEFT's naming"),
        (lambda t: {name: v for name, v in t.items() if "lora_A" in name}, "has no pair of matrices"),
        (lambda t: {name: v[:, :2] if "lora_B" in name else v for name, v in t.items()}, "its change"),
        (lambda t: {name.replace("unet.", "text_encoder_2."): v for name, v in t.items()}, "changes text_encoder_2"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(tmp_path, change, message):
    lora = peft(tmp_path)
    save_file({name: np.ascontiguousarray(v) for name, v in change(load_file(lora.path)).items()}, lora.path)
    with pytest.raises(UnsupportedError, match=message):
        merged_model(MODEL, [lora], tmp_path / "merged")


def test_options(tmp_path):
    path = tmp_path / "a=b.safetensors"
    shutil.copy(peft(tmp_path).path, path)
    assert lora_from_text(str(path)) == Lora(path)
    assert lora_from_text(f"{path}=0.25") == Lora(path, 0.25)
    for text in ("missing.safetensors", f"{path}=nan", ""):
        with pytest.raises(InputError, match=r"expected FILE\.safetensors"):
            lora_from_text(text)
    assert "--lora is 'none'" in refused("export", MODEL, tmp_path / "out", "--lora", "none")
