"""Reading a graph: its constants, its activations, what depends on what."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from composed import load
from onnx import external_data_helper
from small_graphs import proto_from_text

from ppidm.export.graph import (
    activations_of,
    constant_from_value,
    graph_inputs_of,
    load_graph,
    reads_of,
    unique_name,
    value_names,
)
from ppidm.protocol.errors import InputError, UnsupportedError

NESTED = """g (float[n,4] x, float[n,4] y, float[n,4] z, bool b) => (float[n,4] out)
   <bool always = {1}, float half = {0.5}> {
    a = Sigmoid(x)  k = Identity(m)
    c = If(b) <then_branch = yes () => (float[n,4] e) {
                   e = If(always) <then_branch = yes2 () => (float[n,4] f) { f = MatMul(a, k) },
                                   else_branch = no2 () => (float[n,4] f) { f = Add(y, y) }> },
               else_branch = no () => (float[n,4] e) <float[1] two = {2.0}> { e = Mul(y, two) }>
    w = If(always) <then_branch = yes3 () => (float[4,4] e) { e = Mul(m, half) },
                    else_branch = no3 () => (float[4,4] e) { e = Identity(m) }>
    out = MatMul(c, w) }"""


@pytest.fixture
def nested():
    return ir.from_proto(proto_from_text(NESTED, {"m": (4, 4)})).graph


def names(values):
    return [value.name for value in values]


def test_reads_are_inputs_and_captures(nested):
    _, _, condition, weights, product = nested
    assert names(reads_of(condition)) == ["b", "always", "a", "k", "y"]  # each once, of the outer graph only
    assert names(reads_of(weights)) == ["always", "m", "half"]
    assert names(reads_of(product)) == ["c", "w"]


def test_reads_skip_what_is_not_given():
    text = "g (float[n] x) => (float[n] y) <float one = {1}> { y = Clip(x, , one) }"
    graph = ir.from_proto(proto_from_text(text)).graph
    assert names(reads_of(graph[0])) == ["x", "one"]


def test_dependencies_go_through_branches(nested):
    found = {value.name: set(inputs) for value, inputs in graph_inputs_of(nested).items()}
    assert found == {
        "x": {"x"}, "y": {"y"}, "z": {"z"}, "b": {"b"}, "a": {"x"}, "c": {"x", "y", "b"}, "out": {"x", "y", "b"},
    }  # fmt: skip
    assert names(sorted(activations_of(nested), key=lambda value: value.name)) == sorted(found)


def test_every_output_of_a_node_depends():
    text = "g (float[n,4] x) => (float[n,2] b) { a, b = Split<axis=1, num_outputs=2>(x) }"
    assert {value.name for value in activations_of(ir.from_proto(proto_from_text(text)).graph)} == {"x", "a", "b"}


def test_names_of_subgraphs_count(nested):
    assert {"e", "f", "two", "half", "m", "x", "out", "z"} <= value_names(nested)
    taken = {"a", "a-2"}
    assert [unique_name(stem, taken) for stem in ("a", "b", "a", "b")] == ["a-3", "b", "a-4", "b-2"]


# constants


def folded(text, name, opset=23, **weights):
    graph = ir.from_proto(proto_from_text(text, weights, opset)).graph
    return constant_from_value(ir.convenience.create_value_mapping(graph)[name]), {
        key: value.const_value.numpy() for key, value in graph.initializers.items()
    }


def test_constants_are_folded():
    text = """g (float[n,2] x) => (float[n,3] y) {
        h = Cast<to=10>(m)  f = Cast<to=1>(h)  a, b = Split<axis=0, num_outputs=2>(f)
        w = Transpose(b)  y = MatMul(x, w) }"""
    got, given = folded(text, "w", m=(4, 2))
    np.testing.assert_array_equal(got, given["m"][2:].astype(np.float16).astype(np.float32).T)
    got, _ = folded("g (float[2] x) => (float[2] y) { c = Constant<value=float[2] {1, 2}>() y = Add(x, c) }", "c")
    np.testing.assert_array_equal(got, [1, 2])


def test_constants_are_folded_as_the_graphs_opset_says():
    text = "g (float[n,2] x) => (float[n,1] y) { w = Squeeze<axes=[0]>(m)  y = MatMul(x, w) }"
    got, given = folded(text, "w", opset=11, m=(1, 2, 1))
    np.testing.assert_array_equal(got, given["m"][0])


def test_a_constant_of_branches_is_folded(nested):
    got = constant_from_value(ir.convenience.create_value_mapping(nested)["w"])
    np.testing.assert_array_equal(got, nested.initializers["m"].const_value.numpy() / 2)


def test_a_constant_of_a_foreign_operator_is_refused():
    text = "g (float[n,2] x) => (float[n,2] y) { w = local.decompress(m)  y = MatMul(x, w) }"
    with pytest.raises(UnsupportedError, match=r"w come from local\.decompress"):
        folded(text, "w", m=(2, 2))


# files


def test_what_is_loaded_is_tidy(tmp_path):
    text = """g (float[n,4] x, float[4,4] m, float[4] unused) => (float[n,4] out) {
        d = Add(c, e)  b = Sigmoid(x)  c = MatMul(b, m)  a = Sigmoid(x)  e = local.double(a)
        dead = Exp(b)  out = Add(d, d) }
        <opset_import: ["": 23], domain: "local"> double (x) => (z) { z = Add(x, x) }"""
    model = load(tmp_path, proto_from_text(text, {"m": (4, 4)}))
    assert names(model.graph.inputs) == ["x", "unused"]
    assert sorted(node.op_type for node in model.graph) == ["Add", "Add", "Add", "MatMul", "Sigmoid"]
    done = set(model.graph.inputs) | set(model.graph.initializers.values())
    for node in model.graph:
        assert done.issuperset(reads_of(node))
        done.update(node.outputs)
    assert {value.dtype for value in done} == {ir.DataType.FLOAT}


def test_stated_types_and_shapes_are_kept(tmp_path):
    proto = proto_from_text("g (float[n,4] x) => (float[batch,5] y) { y = MatMul(x, m) }", {"m": (4, 5)})
    assert str(load(tmp_path, proto).graph.outputs[0].shape) == "[batch,5]"


@pytest.mark.parametrize("content", [None, b"", b"not ONNX at all"])
def test_a_file_that_is_no_model_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(InputError, match=r"model\.onnx: cannot be read as ONNX .* --retrace"):
        load_graph(tmp_path / "model.onnx")


def outside(folder, location="weights.bin"):
    """A product whose weights lie in a file of their own."""
    proto = proto_from_text("g (float[n,8] x) => (float[n,8] y) { y = MatMul(x, m) }", {"m": (8, 8)})
    external_data_helper.convert_model_to_external_data(proto, location="weights.bin", size_threshold=0)
    onnx.save(proto, folder / "model.onnx")
    (entry,) = (entry for entry in proto.graph.initializer[0].external_data if entry.key == "location")
    entry.value = location
    proto.graph.initializer[0].ClearField("raw_data")
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    return load_graph(folder / "model.onnx").graph.initializers["m"]


def test_weights_stay_on_disk(tmp_path):
    weights = outside(tmp_path)
    assert isinstance(weights.const_value, ir.ExternalTensor)
    first = constant_from_value(weights)
    assert isinstance(weights.const_value, ir.ExternalTensor)
    assert first.base is None  # no view of the file
    assert first.tobytes() == (tmp_path / "weights.bin").read_bytes()


def test_a_truncated_file_of_weights_is_refused(tmp_path):
    weights = outside(tmp_path)
    (tmp_path / "weights.bin").write_bytes(bytes(10))
    with pytest.raises(InputError, match=r"weights m: .* --retrace"):
        constant_from_value(weights)


@pytest.mark.parametrize("location", ["missing.bin", "../secret.bin"])
def test_weights_elsewhere_are_refused(tmp_path, location):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(256))
    with pytest.raises(InputError, match=r"weights m: .* --retrace"):
        constant_from_value(outside(folder, location))
