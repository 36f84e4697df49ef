"""The composed program against the graph that it comes from; its structure."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest
from composed import ONE_PHASE, PHASES, compose, inputs_of, run_whole
from conftest import MODEL
from hypothesis import given, settings
from hypothesis import strategies as st
from small_graphs import GRAPHS, HOISTED, proto_from_text

from ppidm.export.client_files import save_graph
from ppidm.export.graph import load_graph, reads_of
from ppidm.export.offload import cut_offloaded
from ppidm.export.package import PHASES as UNET_PHASES
from ppidm.export.partition import partition_graph
from ppidm.export.settings import OffloadChoice
from ppidm.protocol.errors import UnsupportedError
from ppidm.protocol.manifest import digests_of

CHOICES = [
    (name, choice) for name in GRAPHS for choice in OffloadChoice if choice == "all" or "Conv(" in GRAPHS[name][0]
]


def composed(folder, text, weights, *options):
    model = proto_from_text(text, weights)
    inputs = inputs_of(model)
    return run_whole(model, inputs), compose(folder, model, inputs, *options)


def assert_same(expected, got):
    assert list(got) == list(expected)
    for name, array in expected.items():
        assert got[name].shape == array.shape
        np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "choice"), CHOICES)
def test_composed_program_is_the_graph(tmp_path, name, choice):
    expected, got = composed(tmp_path, *GRAPHS[name], ONE_PHASE, choice)
    assert_same(expected, got.outputs)
    assert sorted(got.offload.asked) == sorted(group.name for group in got.groups)


@pytest.mark.parametrize(("text", "weights"), HOISTED.values(), ids=HOISTED)
def test_composed_phases_are_the_graph(tmp_path, text, weights):
    expected, got = composed(tmp_path, text, weights, PHASES)
    assert_same(expected, got.outputs)


def test_a_wrong_weight_is_noticed(tmp_path):
    text, weights = GRAPHS["attention"]
    expected, _ = composed(tmp_path, text, weights)
    other = proto_from_text(text, dict(reversed(weights.items())))  # the same shapes, other numbers
    (tmp_path / "other").mkdir()
    with pytest.raises(AssertionError):
        assert_same(expected, compose(tmp_path / "other", other, inputs_of(other)).outputs)


# structure


@st.composite
def graphs(draw):
    """A random DAG of products and cheap nodes over values of shape (n, 4)."""
    count = draw(st.integers(1, 12))
    lines = []
    for index in range(count):
        a, b = (f"v{draw(st.integers(0, index))}" for _ in range(2))
        kind = draw(st.sampled_from([f"MatMul({a}, m)", f"Add({a}, {b})", f"Tanh({a})"]))
        lines.append(f"v{index + 1} = {kind}")
    extra = draw(st.sets(st.integers(1, count), max_size=2)) - {count}
    outputs = ", ".join(f"float[n,4] v{index}" for index in [*sorted(extra), count])
    return f"g (float[n,4] v0) => ({outputs}) {{ last = MatMul(v{count}, m)  {'  '.join(lines)} }}".replace(
        f"float[n,4] v{count})", "float[n,4] last)"
    )


def depths(graph):
    """Of every product: how many products lie on the longest way to it, itself included."""
    longest = dict.fromkeys(graph.inputs, 0)
    for node in graph:
        before = max(longest.get(value, 0) for value in node.inputs)
        longest |= dict.fromkeys(node.outputs, before + (node.op_type == "MatMul"))
    return {node.outputs[0].name: longest[node.outputs[0]] for node in graph if node.op_type == "MatMul"}


def rounds_of(program):
    """Of every value that a slice answers: the round in which it comes."""
    done, answered = dict.fromkeys(program.inputs, 0), {}
    for step in program.steps:
        depth = max(done[name] for name in step.reads) + (step.kind == "offload")
        done |= dict.fromkeys(step.writes, depth)
        answered |= dict.fromkeys(step.writes, depth) if step.kind == "offload" else {}
    return answered


def assert_lean(partition, phase="sample"):
    """Every node runs once, every read is needed, every written value is wanted."""
    program = partition.programs[phase]
    wanted = {*program.outputs, *(name for step in program.steps for name in step.reads)}
    made = Counter(name for step in program.steps for name in step.writes)
    assert set(made) <= wanted
    assert set(made.values()) <= {1}
    runs = Counter()
    for step in program.steps:
        if step.kind == "segment":
            graph = partition.segments[step.file].graph
            used = {value for node in graph for value in reads_of(node)}
            assert [value.name for value in graph.inputs if value in used] == list(step.reads)
            assert [value.name for value in graph.outputs] == [*step.writes, "flops"]
            runs.update(output.name for node in graph for output in node.outputs if not output.name.startswith("flops"))
    assert set(runs.values()) <= {1}


@settings(max_examples=60, deadline=None)
@given(text=graphs())
def test_any_graph(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("any")
    expected, got = composed(folder, text, {"m": (4, 4)}, {"sample": frozenset({"v0"})})
    assert_same(expected, got.outputs)
    assert_lean(got.partition)
    earliest = depths(load_graph(folder / "model.onnx").graph)
    assert rounds_of(got.partition.programs["sample"]) == earliest
    assert got.results["sample"].rounds == max(earliest.values())


@pytest.mark.parametrize("name", GRAPHS)
def test_programs_are_lean(tmp_path, name):
    _, got = composed(tmp_path, *GRAPHS[name])
    assert_lean(got.partition)


def test_a_branch_is_refused(tmp_path):
    """Its operators are found, but which branch runs would depend on the picture, and servers could tell by the time."""
    text = """g (float[n,4] x) => (float[n,4] out) <float limit = {0.0}> {
        a = Sigmoid(x)  s = ReduceSum<keepdims=0>(x)  c = Less(s, limit)
        d = If(c) <then_branch = yes () => (float[n,4] e) { e = MatMul(a, m) },
                   else_branch = no () => (float[n,4] e) { f = Mul(a, a)  e = MatMul(f, m) }>
        out = MatMul(d, m) }"""
    with pytest.raises(UnsupportedError, match="operator 'If', which a segment may not hold"):
        composed(tmp_path, text, {"m": (4, 4)})


def test_client_work_waits_for_no_slice_it_does_not_need(tmp_path):
    """A product that needs nothing but the input runs in round 1, although its result is used in round 3."""
    text = """g (float[n,4] x) => (float[n,4] out) {
        a = MatMul(x, m)  s = Tanh(x)  b = MatMul(s, m)  c = Tanh(a)  d = MatMul(c, m)
        e = Add(d, b)  out = MatMul(e, m) }"""
    _, got = composed(tmp_path, text, {"m": (4, 4)})
    assert rounds_of(got.partition.programs["sample"]) == {"a": 1, "b": 1, "d": 2, "out": 3}
    steps = got.partition.programs["sample"].steps
    assert [step.writes for step in steps if step.kind == "segment"] == [("s",), ("c",), ("e",)]


def test_client_nodes_are_gathered_where_they_are_needed(tmp_path):
    """`s` could run first, but only the last segment reads it; what touches within a level is one segment."""
    text = """g (float[n,4] x) => (float[n,4] out) {
        s = Exp(x)  t = Neg(s)  a = MatMul(x, m)  b = Tanh(a)  c = Neg(b)  d = MatMul(c, m)
        u = Neg(c)  v = MatMul(u, m)  e = Sum(d, t, v)  out = Tanh(e) }"""
    _, got = composed(tmp_path, text, {"m": (4, 4)})
    segments = [step for step in got.partition.programs["sample"].steps if step.kind == "segment"]
    assert [(step.reads, step.writes) for step in segments] == [(("a",), ("c", "u")), (("x", "d", "v"), ("out",))]


def test_opset_and_ir_version_are_the_graphs(tmp_path):
    text = "g (float[n,4] x) => (float[n,4] y) { a = MatMul(x, m)  y = Tanh(a) }"
    model = proto_from_text(text, {"m": (4, 4)}, opset=11)
    model.ir_version = 7
    got = compose(tmp_path, model, inputs_of(model))
    (segment,) = got.partition.segments.values()
    assert (segment.opset_imports[""], segment.ir_version) == (11, 7)


def test_a_value_without_a_type_is_an_error():
    text = """g (float[n,4] x) => (float[n,4] y) {
        a = local.what(x)  b = local.what(a)  c = MatMul(b, m)  y = local.what(c) }"""
    model = ir.from_proto(proto_from_text(text, {"m": (4, 4)}))
    cut_offloaded(model.graph, OffloadChoice.ALL)
    with pytest.raises(UnsupportedError, match="b: a value without a type"):
        partition_graph(model, ONE_PHASE)


# the shipped model


def unet_partition():
    model = load_graph(MODEL / "unet" / "model.onnx")
    cut_offloaded(model.graph, OffloadChoice.ALL)
    return partition_graph(model, UNET_PHASES)


def test_weights_are_left_on_disk():
    graphs = [segment.graph for segment in unet_partition().segments.values()]
    tensors = [value.const_value for graph in graphs for value in graph.initializers.values()]
    assert sum(isinstance(tensor, ir.ExternalTensor) for tensor in tensors) > 50
    assert sum(tensor.nbytes for tensor in tensors if not isinstance(tensor, ir.ExternalTensor)) < 100_000


def test_two_exports_write_the_same_segments(package, tmp_path):
    (tmp_path / "segments").mkdir()
    for file, segment in unet_partition().segments.items():
        save_graph(segment, tmp_path / file)
    written = digests_of(tmp_path)
    first = {file: digest for file, digest in digests_of(package / "client").items() if file.startswith("segments/")}
    assert written == first
    assert len(written) > 100
