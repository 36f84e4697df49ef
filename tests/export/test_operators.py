"""Which operators are linear with constant weights, and what their weights are."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper
from small_graphs import proto_from_text

from ppidm.export.graph import activations_of
from ppidm.export.operators import linear_from_node

X2, X4 = "float[n,4] x", "float[n,4,h,w] x"
STAYS = {  # operator -> inputs of the graph, node, shapes of random weights
    "weights that are not constant": (f"{X2}, float[4,4] z", "y = MatMul(x, z)", {}),
    "weights on the left": ("float[4,n] x", "y = MatMul(m, x)", {"m": (4, 4)}),
    "batched weights": ("float[n,3,4] x", "y = MatMul(x, m)", {"m": (2, 4, 4)}),
    "a vector as weights": (X2, "y = MatMul(x, m)", {"m": (4,)}),
    "a product with itself": ("float[4,4] x", "y = MatMul(x, x)", {}),
    "a transposed activation": ("float[4,n] x", "y = Gemm<transA=1>(x, m)", {"m": (4, 3)}),
    "a bias that is not constant": (f"{X2}, float[3] z", "y = Gemm(x, m, z)", {"m": (4, 3)}),
    "a bias per row": ("float[3,4] x", "y = Gemm(x, m, c)", {"m": (4, 3), "c": (3, 1)}),
    "a bias per value": ("float[3,4] x", "y = Gemm(x, m, c)", {"m": (4, 3), "c": (3, 3)}),
    "an activation as bias": ("float[n,3] x", "y = Gemm(m, w, x)", {"m": (3, 4), "w": (4, 3)}),
    "Conv of signals": ("float[n,4,l] x", "y = Conv(x, w)", {"w": (5, 4, 3)}),
    "Conv of volumes": ("float[n,4,d,h,w] x", "y = Conv(x, w)", {"w": (5, 4, 1, 1, 1)}),
    "automatic padding": (X4, 'y = Conv<auto_pad="SAME_UPPER">(x, w)', {"w": (5, 4, 3, 3)}),
    "negative padding": (X4, "y = Conv<pads=[-1,0,0,0]>(x, w)", {"w": (5, 4, 3, 3)}),
    "no output channels": (X4, "y = Conv(x, w)", {"w": (0, 4, 3, 3)}),
    "a Conv bias that is not constant": (f"{X4}, float[5] z", "y = Conv(x, w, z)", {"w": (5, 4, 3, 3)}),
    "Conv's kernel of an activation": ("float[5,4,3,3] x", "y = Conv(w, x)", {"w": (1, 4, 8, 8)}),
    "ConvTranspose": (X4, "y = ConvTranspose(x, w)", {"w": (4, 5, 3, 3)}),
    "another library's operator": (X2, "y = local.MatMul(x, m)", {"m": (4, 4)}),
    "no product": (X2, "y = Add(x, m)", {"m": (4,)}),
}


def linear(inputs, node, weights, opset=23):
    proto = proto_from_text(f"g ({inputs}) => (float[a] y) {{ {node} }}", weights, opset)
    given = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    graph = ir.from_proto(proto).graph
    return linear_from_node(graph[-1], activations_of(graph)), given


@pytest.mark.parametrize(("inputs", "node", "weights"), STAYS.values(), ids=STAYS)
def test_stays(inputs, node, weights):
    found, _ = linear(inputs, node, weights)
    assert found is None


@pytest.mark.parametrize("kind", ["double", "float16", "int32"])
def test_other_types_stay(kind):
    text = f"g ({kind}[n,2] x) => ({kind}[n,2] y) <{kind}[2,2] m = {{1, 2, 3, 4}}> {{ y = MatMul(x, m) }}"
    graph = ir.from_proto(proto_from_text(text)).graph
    assert linear_from_node(graph[0], activations_of(graph)) is None
    same = ir.from_proto(proto_from_text(text.replace(kind, "float"))).graph
    assert linear_from_node(same[0], activations_of(same)) is not None


def test_product():
    found, given = linear("float[n,l,4] x", "y = MatMul(x, m)", {"m": (4, 3)})
    assert (found.layer.kind, found.layer.in_channels, found.layer.out_channels) == ("product", 4, 3)
    assert not found.is_image
    np.testing.assert_array_equal(found.weights()[:, :, 0, 0], given["m"].T)
    np.testing.assert_array_equal(found.bias(), np.zeros(3))


@pytest.mark.parametrize("bias", [(), (1,), (3,), (1, 1), (1, 3), None])
@pytest.mark.parametrize("options", ["alpha=1.0", "transB=1, alpha=0.5, beta=3.0", "alpha=0.0", "beta=0.0"])
def test_gemm(options, bias):
    weights = {"m": (3, 4) if "transB" in options else (4, 3)} | ({} if bias is None else {"c": bias})
    found, given = linear(X2, f"y = Gemm<{options}>(x, m{'' if bias is None else ', c'})", weights)
    x = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)  # as many rows as columns of the result
    attributes = {name: helper.get_attribute_value(value) for name, value in attributes_of(options).items()}
    product = x @ (given["m"].T if attributes.get("transB") else given["m"]) * attributes.get("alpha", 1)
    expected = product + (0 if bias is None else given["c"] * attributes.get("beta", 1))
    got = x @ found.weights()[:, :, 0, 0].T + found.bias()
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    assert found.weights().dtype == found.bias().dtype == np.float32
    assert found.bias().shape == (3,)


def attributes_of(options):
    (node,) = proto_from_text(f"g (float[n,4] x) => (float[a] y) {{ y = Gemm<{options}>(x, x) }}").graph.node
    return {attribute.name: attribute for attribute in node.attribute}


def test_convolution():
    options = "group=2, strides=[2,1], pads=[0,1,2,3], dilations=[1,2], kernel_shape=[3,2]"
    found, given = linear("float[n,8,h,w] x", f"y = Conv<{options}>(x, w, b)", {"w": (6, 4, 3, 2), "b": (6,)})
    layer = found.layer
    assert (layer.kind, layer.in_channels, layer.out_channels, layer.groups) == ("convolution", 8, 6, 2)
    assert (layer.kernel, layer.strides, layer.dilations) == ((3, 2), (2, 1), (1, 2))
    assert layer.pads == (0, 1, 2, 3)
    assert found.is_image
    np.testing.assert_array_equal(found.weights(), given["w"])
    np.testing.assert_array_equal(found.bias(), given["b"])


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ("group=1", "product"),
        ("strides=[2,2]", "convolution"),
        ("pads=[0,0,0,1]", "convolution"),
        ("dilations=[2,2]", "convolution"),
    ],
)
def test_a_pointwise_convolution_is_a_product(options, kind):
    found, given = linear(X4, f"y = Conv<{options}>(x, w)", {"w": (5, 4, 1, 1)})
    assert found.layer.kind == kind
    np.testing.assert_array_equal(found.weights(), given["w"])


def test_depthwise_one_by_one_is_no_product():
    found, _ = linear(X4, "y = Conv<group=4>(x, w)", {"w": (4, 1, 1, 1)})
    assert (found.layer.kind, found.layer.groups, found.layer.in_channels) == ("convolution", 4, 4)


def test_an_empty_bias_is_none():
    found, _ = linear(X4, "y = Conv(x, w, )", {"w": (5, 4, 3, 3)})
    assert len(found.operands) == 2
    np.testing.assert_array_equal(found.bias(), np.zeros(5))


def test_weights_are_folded():
    nodes = "h = Cast<to=10>(m)  f = Cast<to=1>(h)  t = Transpose(f)  y = MatMul(x, t)"
    found, given = linear(X2, nodes, {"m": (3, 4)})
    assert found.layer.out_channels == 3  # known by folding: no shape is stated
    np.testing.assert_array_equal(found.weights()[:, :, 0, 0], given["m"].astype(np.float16).astype(np.float32))


def test_the_name_is_the_nodes_or_its_outputs():
    assert linear(X2, "[proj] y = MatMul(x, m)", {"m": (4, 4)})[0].layer.name == "proj"
    assert linear(X2, "y = MatMul(x, m)", {"m": (4, 4)})[0].layer.name == "y"
