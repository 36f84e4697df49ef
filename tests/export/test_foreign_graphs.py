"""Graphs that nobody here made: carried with at least 45 dB, or refused with the name of the node."""

import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from command_line import ppidm, refused
from diffusers import DiTTransformer2DModel
from in_process import serving_here
from onnx import TensorProto, helper
from small_graphs import proto_from_text

from ppidm.export.graph_package import export_graph
from ppidm.export.settings import ExportSettings
from ppidm.protocol.manifest import GraphManifest, load_manifest

GRAPHS = Path(__file__).parents[1] / "graphs"
UNET = (  # every operator by hand, names as they come
    """unet (float[n,4,h,w] "the image", float[n,8] t) => (float[n,4,h,w] "out/put", float[n,6] side)
       <int64[1] zero = {0}, int64[2] axes = {2, 3}, float[4] twice = {1., 1., 2., 2.}, float[1] eps = {0.00001},
        float[8] one = {1.,1.,1.,1.,1.,1.,1.,1.}, float[8] nil = {0.,0.,0.,0.,0.,0.,0.,0.}, int64[3] flat = {0, 8, -1}> {
        ["conv 1"] a = Conv<pads=[1,1,1,1]>("the image", w1, b1)  a1 = InstanceNormalization(a, one, nil)  a2 = Relu(a1)
        e = Gemm<transB=1>(t, we, be)  e1 = Sigmoid(e)  side = Gemm(e1, ws)  e2 = Unsqueeze(e1, axes)  b = Mul(a2, e2)
        down = Conv<strides=[2,2], pads=[1,1,0,0]>(b, w2)  grouped = Conv<group=4, pads=[1,1,1,1]>(down, w3)
        wide = Conv<dilations=[2,2], pads=[2,2,2,2]>(grouped, w4, b1)  size = Shape(wide)
        r = Reshape(wide, flat)  rt = Transpose<perm=[0,2,1]>(r)
        q = MatMul(rt, wq)  k = MatMul(rt, wk)  v = MatMul(rt, wv)  kt = Transpose<perm=[0,2,1]>(k)  qk = MatMul(q, kt)
        s = Softmax<axis=-1>(qk)  at = MatMul(s, v)  o = MatMul(at, wo)  ot = Transpose<perm=[0,2,1]>(o)
        m = Reshape(ot, size)  mid = Add(m, wide)  pooled = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>(mid)
        up = Resize(pooled, , twice)  cat = Concat<axis=1>(up, b)  f = Conv<pads=[1,1,1,1]>(cat, w5)
        g = Gelu(f)  "out/put" = Conv(g, w6) }""",
    {
        "w1": (8, 4, 3, 3), "b1": (8,), "we": (8, 8), "be": (8,), "ws": (8, 6), "w2": (8, 8, 3, 3), "w3": (8, 2, 3, 3),
        "w4": (8, 8, 3, 3), "wq": (8, 8), "wk": (8, 8), "wv": (8, 8), "wo": (8, 8), "w5": (8, 16, 3, 3),
        "w6": (4, 8, 1, 1),
    },
)  # fmt: skip
FEEDS = {"the image": (2, 4, 12, 8), "t": (2, 8)}


def drawn(shapes, seed=1):
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def run_whole(path, feeds):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def snr(expected, got):
    return 10 * np.log10(np.square(expected).sum() / np.square(expected - got).sum())


@pytest.fixture(scope="module")
def unet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("foreign")
    onnx.save(proto_from_text(*UNET), folder / "by-hand.onnx")
    shown = ppidm("export", folder / "by-hand.onnx", folder / "package", "--input-shape", "the image=1x4x16x16")
    assert shown.status == 0, shown.err
    assert "SNR after quantisation" in shown.out
    return folder


def test_from_file_to_files(unet, tmp_path):
    """At another size and batch than at export."""
    feeds = drawn(FEEDS)
    words = []
    for name, value in feeds.items():
        np.save(tmp_path / f"{len(words)}.npy", value)
        words += ["--input", f"{name}={tmp_path / f'{len(words)}.npy'}"]
    with serving_here(unet / "package", 3) as (evaluator, *dealers):
        words += ["--evaluator", evaluator, *(word for dealer in dealers for word in ("--dealer", dealer))]
        shown = ppidm(
            "run", unet / "package" / "client", *words, "--output", tmp_path / "out", REPORT=tmp_path / "r.json"
        )
    assert shown.status == 0, shown.err
    expected = run_whole(unet / "by-hand.onnx", feeds)
    assert sorted(shown.out.split()) == [str(tmp_path / "out" / name) for name in ("out_put.npy", "side.npy")]
    for name, value in expected.items():
        assert snr(value, np.load(tmp_path / "out" / f"{name.replace('/', '_')}.npy")) > 45
    report = json.loads((tmp_path / "r.json").read_text())
    assert 0.5 < report["offload_fraction"] < 1
    assert len(report["traffic"]["dealers"]) == 2


def test_what_stays_and_what_goes(unet):
    manifest = load_manifest(unet / "package" / "client", GraphManifest)
    layers = {layer.name: layer for subgraph in manifest.slices for layer in subgraph.layers}
    assert len(layers) == 12
    assert layers["conv 1"].kind == "convolution"
    assert {layer.groups for layer in layers.values()} == {1, 4}
    assert max(len(subgraph.layers) for subgraph in manifest.slices) == 3  # q, k and v share an upload
    assert {value.name: value.shape for value in manifest.inputs} == {"the image": (1, 4, 16, 16), "t": (1, 8)}


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"t": (2, 8)}, "inputs are ['t']; this graph reads ['t', 'the image']"),
        ({"the image": (4, 12, 8), "t": (2, 8)}, "input 'the image' is float32(4, 12, 8); expected float32, such as 1x4x16x16"),
    ],
)  # fmt: skip
def test_wrong_inputs(unet, tmp_path, inputs, message):
    words = []
    for index, (name, value) in enumerate(drawn(inputs).items()):
        np.save(tmp_path / f"{index}.npy", value)
        words += ["--input", f"{name}={tmp_path / f'{index}.npy'}"]
    with serving_here(unet / "package") as (evaluator, dealer):
        run = "run", unet / "package" / "client", "--output", tmp_path, "--evaluator", evaluator, "--dealer", dealer
        assert message in refused(*run, *words)


def test_a_pipeline_is_no_graph(package, tmp_path):
    arguments = "--output", tmp_path, "--evaluator", "127.0.0.1:1", "--dealer", "127.0.0.1:2", "--input", "x=x.npy"
    assert "the manifest of a 'client' directory" in refused("run", package / "client", *arguments)


CARRIED = {
    "Gemm with transposed weights": (
        "g (float[n,20] x) => (float[n,12] y) { a = Gemm<transB=1, alpha=0.5, beta=2.0>(x, w, b)  y = Tanh(a) }",
        {"w": (12, 20), "b": (12,)},
    ),
    "asymmetric padding": (
        "g (float[n,6,9,7] x) => (float[n,5,a,b] y) { y = Conv<pads=[0,2,3,1], strides=[2,3]>(x, w, b) }",
        {"w": (5, 6, 4, 3), "b": (5,)},
    ),
    "groups": (
        "g (float[n,8,9,7] x) => (float[n,16,a,b] y) { a = Conv<group=8>(x, w)  y = Conv<group=2>(a, v) }",
        {"w": (16, 1, 3, 3), "v": (16, 8, 1, 1)},
    ),
    "dilations": ("g (float[n,3,17,19] x) => (float[n,5,a,b] y) { y = Conv<dilations=[3,2]>(x, w) }", {"w": (5, 3, 4, 3)}),
    "what stays on the client": (
        "g (float[n,3,8,8] x) => (float[n,4,a,b] y) { a = Conv(x, w)  b = ConvTranspose<strides=[2,2]>(a, v)  y = Elu(b) }",
        {"w": (6, 3, 1, 1), "v": (6, 4, 3, 3)},
    ),
}  # fmt: skip


def exported(folder, proto, **settings):
    onnx.save(proto, folder / "graph.onnx")
    return export_graph(
        folder / "graph.onnx", ExportSettings(str(folder / "graph.onnx"), folder / "package", **settings)
    )


@pytest.mark.parametrize(("text", "weights"), CARRIED.values(), ids=CARRIED)
def test_carried(tmp_path, text, weights):
    assert exported(tmp_path, proto_from_text(text, weights)).snr_db > 45


REFUSED = {
    "shapes that depend on values": (
        '["look here"] i = NonZero(a)  f = Cast<to=1>(i)  y = ReduceSum(f)', "node 'look here': operator NonZero",
    ),
    "an index that depends on values": ("i = ArgMax(a)  y = Cast<to=1>(i)", "node 'i': operator ArgMax"),
    "random numbers": ("r = RandomNormalLike(a)  y = Add(a, r)", "node 'r': operator RandomNormalLike"),
    "another domain": ("y = local.Secret(a)", "node 'y': operator local.Secret"),
    "a secret integer": ("i = Cast<to=7>(a)  y = Cast<to=1>(i)", "node 'i': Cast makes integers of a value"),
}  # fmt: skip


@pytest.mark.parametrize(("nodes", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(tmp_path, nodes, message):
    proto = proto_from_text(f"g (float[n,4] x) => (float[?] y) {{ a = MatMul(x, m)  {nodes} }}", {"m": (4, 4)})
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(proto, tmp_path / "graph.onnx")
    assert message in refused("export", tmp_path / "graph.onnx", tmp_path / "package")
    assert not (tmp_path / "package").exists()


def test_inputs_that_are_refused(tmp_path):
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, [1, 3])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    nodes = [helper.make_node("Gather", ["m", "ids"], ["e"]), helper.make_node("MatMul", ["e", "m"], ["y"])]
    proto = proto_from_text("g (float[h,4] x) => (float[h,4] y) { y = MatMul(x, m) }", {"m": (4, 4)})
    onnx.save(proto, tmp_path / "free.onnx")
    graph = helper.make_graph(nodes, "g", [ids], [out], proto.graph.initializer)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), tmp_path / "ids.onnx"
    )
    assert "input 'ids' is INT64" in refused("export", tmp_path / "ids.onnx", tmp_path / "package")
    free = "export", tmp_path / "free.onnx", tmp_path / "package"
    assert ppidm(*free).status == 0  # an unknown first dimension is 1
    assert "--input-shape names 'z'" in refused(*free, "--force", "--input-shape", "z=1x4")
    assert "expected NAME=1x3x224x224" in refused(*free, "--force", "--input-shape", "x=1xb")


def torch_graph(module, inputs, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(module.eval(), tuple(inputs), dynamo=True, opset_version=18, verbose=False)
    program.save(str(path))


def test_a_dit(tmp_path):
    class Labelled(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model, self.label = model, torch.nn.Buffer(torch.tensor([3]))

        def forward(self, sample, timestep):
            return self.model(sample, timestep, class_labels=self.label, return_dict=False)[0]

    torch.manual_seed(0)
    model = DiTTransformer2DModel(
        2, 16, in_channels=4, num_layers=2, sample_size=8, norm_num_groups=4, num_embeds_ada_norm=9
    )
    torch_graph(Labelled(model), [torch.randn(1, 4, 8, 8), torch.tensor([500.0])], tmp_path / "dit.onnx")
    result = export_graph(tmp_path / "dit.onnx", ExportSettings("", tmp_path / "package"))
    assert result.snr_db > 45
    assert result.share > 0.5


def test_a_resnet(tmp_path):
    """timm's resnet18 as torch exports it, weights left out: timm needs a torchvision that no extra can name."""
    proto, rng = onnx.load(GRAPHS / "timm_resnet18.onnx"), np.random.default_rng(0)
    for tensor in proto.graph.initializer:
        if not tensor.raw_data:
            scale = np.sqrt(2 / max(np.prod(tensor.dims[1:]), 1))
            tensor.raw_data = (scale * rng.standard_normal(tuple(tensor.dims))).astype("<f4").tobytes()
    result = exported(tmp_path, proto)
    assert result.snr_db > 45
    assert result.share > 0.9
