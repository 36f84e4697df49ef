"""The trace stage, on a pipeline of a few thousand random weights whose files look like those on the Hub."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import onnx
import onnx_ir as ir
import onnxruntime
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ppidm.export import component, external, samplers, tokenizer, torch_modules, trace
from ppidm.protocol.errors import InputError, UnsupportedError

TOKENS = 16
DIM = 32
BEGIN, END = "<|startoftext|>", "<|endoftext|>"


# a pipeline as people upload it


def vocabulary():
    letters = "abcdefghijklmnopqrstuvwxyz"
    merges = ["r e", "re d</w>", "d o", "do g</w>"]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *(merge.replace(" ", "") for merge in merges)]
    return {token: number for number, token in enumerate([*tokens, BEGIN, END])}, merges


def write_vocabulary(folder):
    folder.mkdir()
    vocab, merges = vocabulary()
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    config = {"model_max_length": TOKENS, "bos_token": BEGIN, "eos_token": END, "pad_token": END, "unk_token": END}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def write_text_encoder(folder):
    """float16 as `fp16` variant, names and the stored position ids of older versions of transformers."""
    config = CLIPTextConfig(
        vocab_size=len(vocabulary()[0]),
        hidden_size=DIM,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        bos_token_id=vocabulary()[0][BEGIN],
        eos_token_id=vocabulary()[0][END],
    )
    CLIPTextModel(config).half().save_pretrained(folder)
    old = {f"text_model.{name}": value for name, value in load_file(folder / "model.safetensors").items()}
    old["text_model.embeddings.position_ids"] = torch.arange(TOKENS)[None]
    save_file(old, folder / "model.fp16.safetensors", {"format": "pt"})
    (folder / "model.safetensors").unlink()


def write_unet(folder):
    """float16 in shards; linear projections as in SD 2."""
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        mid_block_type=None,
        cross_attention_dim=DIM,
        attention_head_dim=4,
        norm_num_groups=8,
        use_linear_projection=True,
        upcast_attention=True,
    )
    unet.half().save_pretrained(folder, max_shard_size="400KB")


def write_vae(folder):
    """float32, an attention layer with the names of SD 1."""
    vae = AutoencoderKL(block_out_channels=(16, 32), norm_num_groups=8, **blocks(2))
    vae.save_pretrained(folder)
    file = folder / "diffusion_pytorch_model.safetensors"
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    old = {}
    for name, value in load_file(file).items():
        for new, ancient in names.items():
            name = name.replace(new, ancient)  # noqa: PLW2901
        old[name] = value
    save_file(old, file, {"format": "pt"})


def blocks(count):
    return {"down_block_types": ("DownEncoderBlock2D",) * count, "up_block_types": ("UpDecoderBlock2D",) * count}


def write_pipeline(folder):
    folder.mkdir()
    with torch.random.fork_rng(), torch_modules.quiet():
        torch.manual_seed(0)
        write_text_encoder(folder / "text_encoder")
        write_unet(folder / "unet")
        write_vae(folder / "vae")
    write_vocabulary(folder / "tokenizer")
    DDIMScheduler(clip_sample=False).save_pretrained(folder / "scheduler")
    index = {name: ["some library", kind] for name, kind in trace.COMPONENTS.items()}
    (folder / "model_index.json").write_text(json.dumps({**index, "safety_checker": [None, None]}))


@pytest.fixture(scope="session")
def untraced(tmp_path_factory):
    folder = tmp_path_factory.mktemp("untraced") / "pipeline"
    write_pipeline(folder)
    return folder


@pytest.fixture(scope="session")
def traced(untraced, tmp_path_factory):
    """A traced copy; `said` is what was told on the way and the folder that the samplers were asked for."""
    folder = tmp_path_factory.mktemp("traced") / "pipeline"
    shutil.copytree(untraced, folder)
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samplers, "write_samplers", lambda model: said.append((model, trace.is_traced(model))))
        trace.trace(folder, progress=said.append)
    folder.joinpath("said.json").write_text(json.dumps(said, default=str))
    return folder


@pytest.fixture
def copy(untraced, tmp_path):
    return Path(shutil.copytree(untraced, tmp_path / "pipeline"))


@pytest.fixture(scope="session")
def graphs(traced):
    return {name: ir.load(traced / name / "model.onnx").graph for name in trace.COMPONENTS}


def onnx_files(folder):
    return [path.name for path in folder.rglob("*onnx*")]


# what the traced files are


def test_everything_is_written_and_told(untraced, traced):
    assert not trace.is_traced(untraced)
    assert trace.is_traced(traced)
    assert (traced / "tokenizer" / "tokenizer.json").is_file()
    *told, samplers_told, (samplers_folder, complete) = json.loads((traced / "said.json").read_text())
    assert [name for name in trace.COMPONENTS if any(name in sentence for sentence in told)] == [*trace.COMPONENTS]
    assert "samplers" in samplers_told
    assert (samplers_folder, complete) == (str(traced), True)
    assert sorted(onnx_files(traced)) == ["encoder.onnx"] + ["model.onnx"] * 3


def test_the_encoder_of_the_vae_is_traced_too(traced, untraced):
    model = ir.load(traced / "vae" / trace.ENCODER)
    assert [f"{value.name} {value.shape}" for value in model.graph.inputs] == ["sample [batch,3,height,width]"]
    assert [f"{value.name} {value.shape}" for value in model.graph.outputs] == [
        "latent_parameters [batch,8,height/2,width/2]"
    ]
    stored = load_file(external.weight_files(untraced / "vae")[0])
    outside = {
        name for name, value in model.graph.initializers.items() if isinstance(value.const_value, ir.ExternalTensor)
    }
    assert outside == {name for name in stored if name.startswith(("encoder.", "quant_conv"))}


@pytest.mark.parametrize("name", trace.COMPONENTS)
def test_weights_stay_where_they_are_stored(traced, name):
    folder = traced / name
    stored = {key: value for file in external.weight_files(folder) for key, value in load_file(file).items()}
    proto = onnx.load(folder / "model.onnx", load_external_data=False)
    outside = [tensor for tensor in proto.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    for tensor in outside:
        place = {entry.key: entry.value for entry in tensor.external_data}
        data = (folder / place["location"]).read_bytes()[int(place["offset"]) :][: int(place["length"])]
        assert data == stored[tensor.name].contiguous().numpy().tobytes()
        assert list(tensor.dims) == list(stored[tensor.name].shape)
    used = {key for key in stored if not key.startswith(("encoder.", "quant_conv")) and "position_ids" not in key}
    assert {tensor.name for tensor in outside} == used
    inside = sum(tensor.ByteSize() for tensor in proto.graph.initializer if tensor not in outside)
    assert inside < 4096
    assert (folder / "model.onnx").stat().st_size < 500_000


def test_shards_and_variants_are_what_the_fixture_says(traced):
    assert [file.name for file in external.weight_files(traced / "text_encoder")] == ["model.fp16.safetensors"]
    assert len(external.weight_files(traced / "unet")) > 1


@pytest.mark.parametrize("name", trace.COMPONENTS)
def test_graph_is_standard_and_tidy(traced, name):
    path = traced / name / "model.onnx"
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path, load_external_data=False)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 23)]
    assert not model.functions
    operators = {node.op_type for node in model.graph.node}
    assert not operators & {"Identity", "Constant", "SplitToSequence", "SequenceAt", "CastLike", "If", "Loop"}
    read = Counter(value for node in model.graph.node for value in node.input)
    read.update(value.name for value in model.graph.output)
    assert [node.name for node in model.graph.node if not any(read[output] for output in node.output)] == []
    assert [tensor.name for tensor in model.graph.initializer if not read[tensor.name]] == []
    assert max(Counter(node.name for node in model.graph.node).values()) == 1


def test_interfaces(graphs):
    def interface(values):
        return {value.name: f"{value.dtype.name} {value.shape}" for value in values}

    assert {name: interface(graph.inputs) for name, graph in graphs.items()} == {
        "text_encoder": {"input_ids": f"INT64 [batch,{TOKENS}]"},
        "unet": {
            "sample": "FLOAT [batch,4,height,width]",
            "timestep": "FLOAT [batch]",
            "encoder_hidden_states": f"FLOAT [batch,tokens,{DIM}]",
        },
        "vae": {"latent_sample": "FLOAT [batch,4,height,width]"},
    }
    assert {name: interface(graph.outputs) for name, graph in graphs.items()} == {
        "text_encoder": {"last_hidden_state": f"FLOAT [batch,{TOKENS},{DIM}]"},
        "unet": {"out_sample": "FLOAT [batch,4,height,width]"},
        "vae": {"sample": "FLOAT [batch,3,2*height,2*width]"},
    }


def test_every_value_has_type_and_simple_shape(graphs):
    values = [value for graph in graphs.values() for node in graph for value in node.outputs]
    assert [value.name for value in values if value.dtype is None or value.shape is None] == []
    shapes = {str(value.shape) for value in values}
    assert not [shape for shape in shapes if "//" in shape or "None" in shape]
    assert "[batch,64,height/2,width/2]" in shapes


def test_nodes_are_named_after_modules(graphs):
    operators = {node.name: node.op_type for node in graphs["unet"]}
    block = "down_blocks.0.attentions.0.transformer_blocks.0"
    assert operators["conv_in"] == "Conv"
    assert operators["time_embedding.linear_1"] == "Gemm"
    assert {operators[f"{block}.{layer}"] for layer in ("attn1.to_q", "attn2.to_k", "ff.net.0.proj")} == {"MatMul"}
    assert operators[f"{block}.attn1.Attention"] == "Attention"
    assert operators[f"{block}.attn1.to_q.weight.Cast"] == "Cast"
    decoder = {node.name: node.op_type for node in graphs["vae"]}
    assert decoder["decoder.mid_block.attentions.0.to_q"] == "MatMul"


def inputs_of(value):
    """The graph inputs that a value depends on, through shapes too."""
    if value is None or value.is_graph_input():
        return set() if value is None else {value.name}
    node = value.producer()
    return set().union(*map(inputs_of, node.inputs)) if node is not None else set()


def test_timestep_and_prompt_can_be_hoisted(graphs):
    nodes = {node.name: node for node in graphs["unet"]}
    assert inputs_of(nodes["time_embedding.linear_2"].outputs[0]) == {"timestep"}
    assert [node for node in nodes.values() if node.op_type in {"Sin", "Cos"}]
    prompt_only = [name for name in nodes if name.endswith(("attn2.to_k", "attn2.to_v"))]
    assert len(prompt_only) == 2 * sum(name.endswith("attn2.to_q") for name in nodes) > 0
    for name in prompt_only:
        assert inputs_of(nodes[name].outputs[0]) == {"encoder_hidden_states"}
        (reshape,) = [node for node, _ in nodes[name].outputs[0].uses()]
        assert inputs_of(reshape.outputs[0]) == {"encoder_hidden_states"}


def test_reshapes_look_no_further_than_their_own_module(graphs):
    for node in graphs["unet"]:
        if node.op_type == "Reshape":
            target = node.inputs[1].producer()
            assert target is None or target.op_type == "Shape"
            assert target is None or target.inputs[0].name.rpartition(".")[0] == node.name.rpartition(".")[0]


# what they compute


@contextmanager
def torch_modules_of(folder):
    with torch_modules.quiet(), torch.inference_mode():
        yield (
            CLIPTextModel.from_pretrained(folder / "text_encoder", variant="fp16").float().eval(),
            UNet2DConditionModel.from_pretrained(folder / "unet", low_cpu_mem_usage=False).float().eval(),
            AutoencoderKL.from_pretrained(folder / "vae", low_cpu_mem_usage=False).float().eval(),
        )


def session(folder, name):
    return onnxruntime.InferenceSession(folder / name / "model.onnx", providers=["CPUExecutionProvider"])


def test_prompt_to_picture_is_what_torch_computes(traced):
    ids = torch.randint(len(vocabulary()[0]), (3, TOKENS), generator=torch.Generator().manual_seed(1))
    latents = torch.randn((3, 4, 10, 6), generator=torch.Generator().manual_seed(2))
    steps = torch.tensor([981.0, 0.5, 1.0])
    with torch_modules_of(traced) as (text_encoder, unet, vae):
        hidden = text_encoder(ids).last_hidden_state
        expected = vae.decode(latents - unet(latents, steps, hidden).sample).sample.numpy()
    (hidden,) = session(traced, "text_encoder").run(None, {"input_ids": ids.numpy()})
    inputs = {"sample": latents.numpy(), "timestep": steps.numpy(), "encoder_hidden_states": hidden}
    (noise,) = session(traced, "unet").run(None, inputs)
    (got,) = session(traced, "vae").run(None, {"latent_sample": latents.numpy() - noise})
    assert got.shape == (3, 3, 20, 12)
    np.testing.assert_allclose(got, expected, atol=1e-5 * np.abs(expected).max(), rtol=0)


def test_a_different_graph_is_refused_by_number(untraced, traced):
    loaded = component.load(untraced / "text_encoder", TOKENS)
    path = traced / "text_encoder" / "model.onnx"
    assert component.compare(loaded, path, untraced / "text_encoder") < 1e-5
    with torch.no_grad():
        loaded.module.model.final_layer_norm.bias[3] += 0.01
    with pytest.raises(UnsupportedError, match=r"^text_encoder: .*differs from torch by [3-5]\.\de-03"):
        component.compare(loaded, path, untraced / "text_encoder")


def test_nan_is_a_difference(untraced, traced):
    loaded = component.load(untraced / "text_encoder", TOKENS)
    with torch.no_grad():
        loaded.module.model.final_layer_norm.bias[3] = torch.nan
    with pytest.raises(UnsupportedError, match="differs"):
        component.compare(loaded, traced / "text_encoder" / "model.onnx", untraced / "text_encoder")


def test_bfloat16_weights(copy):
    folder = copy / "text_encoder"
    (file,) = external.weight_files(folder)
    save_file(
        {name: value.bfloat16() if value.is_floating_point() else value for name, value in load_file(file).items()},
        file,
    )
    error = component.write_onnx(component.load(folder, TOKENS), folder)
    assert error < 1e-5
    stored = ir.load(folder / "model.onnx").graph.initializers["text_model.final_layer_norm.bias"]
    assert stored.dtype is ir.DataType.BFLOAT16


# failures


def test_a_failed_trace_leaves_what_was_there(copy, monkeypatch):
    folder = copy / "text_encoder"
    (folder / "model.onnx").write_text("an older trace")
    loaded = component.load(folder, TOKENS)
    seen = []

    def fail(_component, path, _name):
        seen.append(path.stat().st_size)
        raise UnsupportedError("no")

    monkeypatch.setattr(component, "compare", fail)
    with pytest.raises(UnsupportedError, match="no"):
        component.write_onnx(loaded, folder)
    assert seen[0] > 1000
    assert (folder / "model.onnx").read_text() == "an older trace"
    assert onnx_files(copy) == ["model.onnx"]


def cut(file, size):
    file.write_bytes(file.read_bytes()[:size])


@pytest.mark.parametrize("name", trace.COMPONENTS)
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda file: cut(file, -1), id="one byte short"),
        pytest.param(lambda file: cut(file, 100), id="in the header"),
        pytest.param(lambda file: cut(file, 5), id="in the length"),
        pytest.param(lambda file: cut(file, 0), id="empty"),
        pytest.param(lambda file: file.write_bytes(b"\0" * 4096), id="zeros"),
        pytest.param(lambda file: file.write_text("<html>not found</html>" * 99), id="an error page"),
        pytest.param(lambda file: file.write_bytes(b"\2" + b"\0" * 7 + b"[]"), id="a list"),
    ],
)
def test_damaged_weights_are_named(copy, name, damage):
    file = external.weight_files(copy / name)[-1]
    damage(file)
    with pytest.raises(
        InputError, match=rf"{file.name} \({file.stat().st_size} bytes\) is truncated or no safetensors"
    ):
        component.load(copy / name, TOKENS)


def test_trace_of_damaged_weights_writes_nothing(copy):
    cut(copy / "text_encoder" / "model.fp16.safetensors", -1)
    with pytest.raises(InputError, match="truncated"):
        trace.trace(copy)
    assert onnx_files(copy) == []


def test_bytes_that_do_not_fit_the_shape_are_refused(tmp_path):
    header = json.dumps({"w": {"dtype": "F16", "shape": [3], "data_offsets": [0, 4]}}).encode()
    file = tmp_path / "model.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(InputError, match="w has 4 bytes"):
        external.stored_tensors([file])


def test_a_missing_weight_is_named(copy):
    (file,) = external.weight_files(copy / "text_encoder")
    tensors = load_file(file)
    del tensors["text_model.encoder.layers.1.mlp.fc2.weight"]
    save_file(tensors, file)
    with pytest.raises(UnsupportedError, match=r"encoder\.layers\.1\.mlp\.fc2\.weight .*missing"):
        component.write_onnx(component.load(copy / "text_encoder", TOKENS), copy / "text_encoder")
    assert onnx_files(copy) == []


def test_a_missing_shard_is_named(copy):
    shard = external.weight_files(copy / "unet")[1]
    shard.unlink()
    with pytest.raises(InputError, match=shard.name):
        component.load(copy / "unet", TOKENS)


def test_pickled_weights_are_refused(copy):
    (copy / "text_encoder" / "model.fp16.safetensors").rename(copy / "text_encoder" / "pytorch_model.bin")
    with pytest.raises(InputError, match="safetensors only"):
        component.load(copy / "text_encoder", TOKENS)


def test_a_large_constant_is_no_weight():
    value = ir.Value(name="mask", const_value=ir.tensor(np.zeros(external.EMBED_LIMIT + 1, np.uint8)))
    node = ir.node("Neg", [value])
    graph = ir.Graph([], node.outputs, nodes=[node], initializers=[value], opset_imports={"": 23})
    with pytest.raises(UnsupportedError, match="mask"):
        external.move_weights_out(graph, [], {})


@pytest.mark.parametrize(
    ("setting", "value"), [("class_embed_type", "timestep"), ("addition_embed_type", "text"), ("in_channels", 9)]
)
def test_a_unet_with_other_inputs_is_refused(setting, value, monkeypatch, tmp_path):
    config = {"in_channels": 4, "out_channels": 4, setting: value}
    model = type("Model", (), {"config": type("Config", (dict,), {"__getattr__": dict.get})(config)})
    monkeypatch.setattr(torch_modules, "_structure", lambda *_args, **_options: model)
    with pytest.raises(UnsupportedError, match=setting if setting != "in_channels" else "more channels"):
        torch_modules.load_unet(tmp_path)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        pytest.param(shutil.rmtree, InputError, "model_index.json is not there", id="no folder"),
        pytest.param(lambda model: (model / "model_index.json").write_text("{"), InputError, "JSON", id="no JSON"),
        pytest.param(
            lambda model: (model / "vae" / "config.json").unlink(),
            InputError,
            r"vae.config\.json is not there",
            id="no VAE",
        ),
        pytest.param(
            lambda model: add_to_index(model, unet=["diffusers", "UNet3DConditionModel"]),
            UnsupportedError,
            "unet is UNet3DConditionModel",
            id="a video U-Net",
        ),
        pytest.param(
            lambda model: add_to_index(model, text_encoder_2=["transformers", "CLIPTextModelWithProjection"]),
            UnsupportedError,
            "text_encoder_2",
            id="SDXL",
        ),
        pytest.param(
            lambda model: add_to_index(model, controlnet=["diffusers", "ControlNetModel"]),
            UnsupportedError,
            "controlnet too; .* Export the pipeline that it was added to, without ControlNet",
            id="ControlNet",
        ),
    ],
)
def test_other_folders_are_refused(copy, change, error, message):
    change(copy)
    with pytest.raises(error, match=message):
        trace.trace(copy)
    assert onnx_files(copy) == []


def add_to_index(model, **entries):
    path = model / "model_index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def test_a_file_is_not_a_model(tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"")
    with pytest.raises(InputError, match="is not there"):
        trace.trace(file)


# the tokenizer


def test_tokenizer_reads_as_clip_does(traced):
    vocab, _ = vocabulary()
    encoding = Tokenizer.from_file(str(traced / "tokenizer" / "tokenizer.json")).encode("Red  dog cat")
    assert encoding.ids == [vocab[token] for token in (BEGIN, "red</w>", "dog</w>", "c", "a", "t</w>", END)]


def test_a_vocabulary_of_two_tokens_is_refused(copy, monkeypatch):
    """What `CLIPTokenizer(vocab_file=...)` of transformers 5 makes without a word."""
    folder = copy / "tokenizer"
    trap = CLIPTokenizer(vocab_file=str(folder / "vocab.json"), merges_file=str(folder / "merges.txt"))
    monkeypatch.setattr(tokenizer.CLIPTokenizerFast, "from_pretrained", lambda *_args, **_options: trap)
    if len(trap) == len(vocabulary()[0]):
        pytest.skip("this version of transformers has no such trap")
    with pytest.raises(InputError, match=r"vocab\.json has 2 tokens, the text encoder 58"):
        tokenizer.write_tokenizer(folder, 58)
    assert not (folder / "tokenizer.json").exists()


@pytest.mark.parametrize(("rows", "fits"), [(57, False), (58, True), (64, True), (115, True), (116, False)])
def test_vocabulary_must_fit_the_embedding(traced, rows, fits):
    folder = traced / "tokenizer"
    if fits:
        tokenizer.write_tokenizer(folder, rows)
    else:
        with pytest.raises(InputError, match=rf"has 58 tokens, the text encoder {rows}"):
            tokenizer.write_tokenizer(folder, rows)


def test_missing_vocabulary_is_named(copy):
    (copy / "tokenizer" / "merges.txt").unlink()
    with pytest.raises(InputError, match=r"merges\.txt"):
        tokenizer.write_tokenizer(copy / "tokenizer", 58)


@pytest.mark.parametrize(("longest", "expected"), [(12, 12), (10**30, 1 << 20), (None, 1 << 20)])
def test_unlimited_tokenizers(copy, longest, expected):
    (copy / "tokenizer" / "tokenizer_config.json").write_text(json.dumps({"model_max_length": longest}))
    assert trace._tokens(copy) == expected


def test_text_encoder_limits_the_tokens(untraced):
    loaded = component.load(untraced / "text_encoder", 1 << 20)
    assert loaded.inputs == {"input_ids": ("batch", TOKENS)}


# without torch, without network


def test_without_torch(untraced):
    script = f"""
import sys
sys.modules["torch"] = None
from ppidm.export.trace import is_traced, resolve_model, trace
model = resolve_model({str(untraced)!r})
assert not is_traced(model)
try:
    trace(model)
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("InputError tracing needs torch, which is not installed: pip install 'ppidm[export]'")


def test_importing_imports_none_of_it():
    script = "import sys, ppidm.export.trace; print({'torch', 'onnx', 'onnx_ir', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


HUB = [
    "README.md",
    "model_index.json",
    "v1-5-pruned.safetensors",
    "text_encoder/config.json",
    "text_encoder/model.fp16.safetensors",
    "text_encoder/model.safetensors",
    "text_encoder/pytorch_model.bin",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
    "safety_checker/model.safetensors",
]


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A stand-in for the Hub; returns the cache folder."""

    def snapshot_download(repo_id, *, local_dir, allow_patterns, ignore_patterns=()):
        assert repo_id == "owner/model"
        for name in HUB:
            if any(fnmatch(name, p) for p in allow_patterns) and not any(fnmatch(name, p) for p in ignore_patterns):
                (local_dir / name).parent.mkdir(parents=True, exist_ok=True)
                (local_dir / name).touch()

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "ppidm" / "models"


def test_download_takes_half_precision_and_only_what_is_read(hub):
    folder = trace.resolve_model("owner/model")
    assert folder == hub / "owner--model"
    got = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert got == [
        "model_index.json",
        "text_encoder/config.json",
        "text_encoder/model.fp16.safetensors",
        "tokenizer/merges.txt",
        "tokenizer/vocab.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ]
    assert [file.name for file in external.weight_files(folder / "unet")] == [
        "diffusion_pytorch_model.fp16.safetensors"
    ]


@pytest.mark.usefixtures("hub")
def test_failed_download_says_what_to_do(monkeypatch):
    def fail(*_args, **_options):
        raise OSError("no route to host\nand more")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(
        InputError, match=r"'owner/model' is not a folder, .*OSError: no route to host\)\. Check"
    ) as error:
        trace.resolve_model("owner/model")
    assert "pass its folder" in str(error.value)


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("name", ["no_such_folder", "./no/such", "/no/such/folder", "a/b/c", ""])
def test_what_cannot_be_an_id_is_not_downloaded(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_args, **_options: pytest.fail("downloaded"))
    with pytest.raises(InputError, match="not a folder, and not an id"):
        trace.resolve_model(name)
