"""Graphs that count their own work."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from math import prod

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from composed import inputs_of, run_whole
from conftest import MODEL
from small_graphs import proto_from_text

from ppidm.engines.unet import PROMPT, PartitionedUNet
from ppidm.export.flops import count_flops
from ppidm.protocol.errors import UnsupportedError
from ppidm.protocol.manifest import ClientManifest, load_manifest

ATTENTION = "q_num_heads=2, kv_num_heads=2"
CASES = {  # operator -> inputs, node, shapes of weights, multiply-accumulates counted by hand
    "Conv": (
        "float[2,4,6,7] x", "y = Conv<pads=[1,1,1,1]>(x, w, b)", {"w": (5, 4, 3, 3), "b": (5,)}, 2 * 5 * 6 * 7 * 4 * 9
    ),
    "Conv, strided": ("float[2,4,6,7] x", "y = Conv<strides=[2,3]>(x, w)", {"w": (5, 4, 3, 2)}, 2 * 5 * 4 * 4 * 6),
    "Conv, grouped": ("float[1,6,5,5] x", "y = Conv<group=3>(x, w)", {"w": (9, 2, 3, 3)}, 9 * 9 * 2 * 9),
    "Conv of signals": ("float[2,4,9] x", "y = Conv(x, w)", {"w": (5, 4, 3)}, 2 * 5 * 7 * 4 * 3),
    "Conv of an activation": ("float[1,4,6,6] x, float[5,4,3,3] w", "y = Conv(x, w)", {}, 5 * 16 * 4 * 9),
    "ConvTranspose": (
        "float[2,4,5,5] x", "y = ConvTranspose<strides=[2,2]>(x, w)", {"w": (4, 3, 3, 3)}, 2 * 4 * 25 * 3 * 9
    ),
    "MatMul": ("float[3,4] x", "y = MatMul(x, m)", {"m": (4, 5)}, 3 * 4 * 5),
    "MatMul, batched": ("float[2,1,3,4] x", "y = MatMul(x, m)", {"m": (6, 4, 5)}, 2 * 6 * 3 * 4 * 5),
    "MatMul, dot": ("float[4] x", "y = MatMul(x, m)", {"m": (4,)}, 4),
    "Gemm": ("float[3,4] x", "y = Gemm(x, m, c)", {"m": (4, 5), "c": (5,)}, 3 * 4 * 5),
    "Gemm, transposed": ("float[4,3] x", "y = Gemm<transA=1, transB=1>(x, m)", {"m": (5, 4)}, 3 * 4 * 5),
    "Attention": (
        "float[2,6,8] q, float[2,9,8] k, float[2,9,10] v", f"y = Attention<{ATTENTION}>(q, k, v)", {},
        2 * 6 * 9 * 8 + 2 * 6 * 9 * 10,
    ),
    "Attention in four dimensions": (
        "float[2,3,6,4] q, float[2,3,9,4] k, float[2,3,9,5] v", "y = Attention(q, k, v)", {},
        2 * 3 * 6 * 9 * 4 + 2 * 3 * 6 * 9 * 5,
    ),
    "Attention, shared keys": (
        "float[2,4,6,4] q, float[2,2,9,4] k, float[2,2,9,4] v", "y = Attention(q, k, v)", {}, 2 * (2 * 4 * 6 * 9 * 4)
    ),
    "Attention with a past": (
        "float[2,3,1,4] q, float[2,3,1,4] k, float[2,3,1,4] v, float[2,3,7,4] pk, float[2,3,7,4] pv",
        "y, presentk, presentv = Attention(q, k, v, , pk, pv)", {}, 2 * (2 * 3 * 1 * 8 * 4),
    ),
    "nothing to count": ("float[3,4] x", "y = Tanh(x)", {}, 0),
    "another library's operator": ("float[3,4] x", "y = local.MatMul(x, x)", {}, 0),
    "two": ("float[3,4] x", "a = MatMul(x, m)  y = MatMul(a, m)", {"m": (4, 4)}, 2 * 3 * 4 * 4),
}  # fmt: skip
FUNCTION = '<opset_import: ["": 23], domain: "local"> MatMul (a, b) => (c) { c = Mul(a, b) }'


def counted(proto):
    model = ir.from_proto(proto)
    count_flops(model.graph)
    return ir.to_proto(model)


@pytest.mark.parametrize(("inputs", "node", "weights", "macs"), CASES.values(), ids=CASES)
def test_counts_as_by_hand(inputs, node, weights, macs):
    proto = proto_from_text(f"g ({inputs}) => (float[a] y) {{ {node} }} {FUNCTION}", weights)
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    outputs = run_whole(counted(proto), inputs_of(proto))
    assert list(outputs) == ["y", "flops"]
    assert (outputs["flops"].dtype, outputs["flops"].shape, int(outputs["flops"])) == (np.int64, (), 2 * macs)


@pytest.mark.parametrize("opset", [11, 17, 23])
def test_any_opset_will_do(opset):
    text = "g (float[n,4,h,w] x) => (float[n,5,h,w] y) { a = Conv(x, w1)  y = MatMul(a, m) }"
    graph = counted(proto_from_text(text, {"w1": (5, 4, 1, 1), "m": (6, 6)}, opset))
    onnx.checker.check_model(graph)
    macs = 2 * 5 * 36 * 4 + 2 * 5 * 36 * 6
    assert int(run_whole(graph, inputs_of(graph))["flops"]) == 2 * macs


def test_the_body_of_a_branch_is_not_counted():
    text = """g (float[3,4] x, bool b) => (float[3,4] y) {
        y = If(b) <then_branch = t () => (float[3,4] e) { e = MatMul(x, m) },
                   else_branch = f () => (float[3,4] e) { e = Identity(x) }> }"""
    graph = counted(proto_from_text(text, {"m": (4, 4)}))
    assert int(run_whole(graph, inputs_of(graph))["flops"]) == 0


def test_names_of_the_graph_are_not_taken():
    text = """g (float[3,4] x) => (float[3,4] y) {
        "flops.Add" = MatMul(x, val_0)  "flops.0" = Tanh("flops.Add")
        z = MatMul("flops.0", val_1)  y = MatMul(z, val_2) }"""
    graph = counted(proto_from_text(text, {f"val_{index}": (4, 4) for index in range(3)}))
    onnx.checker.check_model(graph)
    new = [node.output[0] for node in graph.graph.node[4:]]
    assert all(name.startswith("flops") for name in new)
    assert int(run_whole(graph, inputs_of(graph))["flops"]) == 2 * 3 * 48


def test_a_graph_with_a_value_of_that_name_is_refused():
    with pytest.raises(UnsupportedError, match="named 'flops'"):
        counted(proto_from_text("g (float[3,4] x) => (float[3,4] flops) { flops = Tanh(x) }"))


# the shipped model


def counted_by_torch(sample, timestep, hidden):
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    counter = pytest.importorskip("torch.utils.flop_counter").FlopCounterMode(display=False)
    unet = diffusers.UNet2DConditionModel.from_pretrained(MODEL / "unet", torch_dtype=torch.float32)
    unet.set_attn_processor(
        diffusers.models.attention_processor.AttnProcessor()
    )  # as products, which the counter knows
    with torch.no_grad(), counter:
        unet(torch.tensor(sample), torch.tensor(timestep), torch.tensor(hidden))
    return counter.get_total_flops()


def counted_by_parts(package, sample, timestep, hidden):
    """(offloaded, on the client), with zeros for every answer."""
    manifest = load_manifest(package / "client", ClientManifest)
    slices = {subgraph.name: subgraph.layers for subgraph in manifest.slices}
    offloaded = []

    def offload(name, x):
        rows = x.reshape(-1, x.shape[-1]) if slices[name][0].kind == "product" else x
        shapes = [layer.output_shape(rows.shape) for layer in slices[name]]
        offloaded.extend(2 * prod(s) * layer.row_length for s, layer in zip(shapes, slices[name], strict=True))
        return [np.zeros((*x.shape[:-1], s[-1]) if rows.ndim == 2 else s, np.float32) for s in shapes]

    with ThreadPoolExecutor(1) as pool:
        unet = PartitionedUNet(package / "client", manifest.programs, pool, threads=1)
        hoisted = unet.hoist_prompts({PROMPT: hidden}, offload), unet.hoist_timesteps(timestep, offload)
        last = unet.evaluate(sample, *(result.outputs for result in hoisted), offload)
    return sum(offloaded), sum(result.flops for result in (*hoisted, last))


@pytest.mark.parametrize(("height", "width", "tokens"), [(16, 16, 32), (8, 20, 7)])
def test_parts_add_up_to_what_torch_counts(package, height, width, tokens):
    rng = np.random.default_rng(3)
    sample = rng.standard_normal((1, 4, height, width)).astype(np.float32)
    hidden = rng.standard_normal((1, tokens, 160)).astype(np.float32)
    offloaded, client = counted_by_parts(package, sample, np.array([981.0]), hidden)
    expected = counted_by_torch(sample, np.array([981.0]), hidden)
    assert offloaded + client == pytest.approx(expected, rel=0.01)
    assert client > 0.001 * expected
    assert offloaded / (offloaded + client) >= 0.80
