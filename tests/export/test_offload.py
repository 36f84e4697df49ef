"""Cutting linear operators out of a graph."""

from __future__ import annotations

import re

import numpy as np
import onnx_ir as ir
import pytest
from composed import load
from small_graphs import proto_from_text

from ppidm.export.graph import value_names
from ppidm.export.offload import OFFLOAD, cut_offloaded
from ppidm.export.settings import OffloadChoice
from ppidm.protocol.errors import UnsupportedError

MIXED = """g (float[n,4,h,6] x) => (float[n,4,h,6] out, float[n,4,h,6] d) {
    [q] a = MatMul(x, m)  [k] b = MatMul(x, m)  [up] c = Conv<pads=[1,1,1,1]>(x, w3)  [skip] d = Conv(x, w1)
    [down] e = Conv<pads=[1,1,1,1]>(x, w3, b3)  [out] f = MatMul(d, m)  out = Sum(a, b, c, d, e, f) }"""
WEIGHTS = {"m": (6, 6), "w3": (4, 4, 3, 3), "w1": (4, 4, 1, 1), "b3": (4,)}


def cut(text, weights, choice=OffloadChoice.ALL):
    model = ir.from_proto(proto_from_text(text, weights))
    return cut_offloaded(model.graph, choice), model.graph


def members(groups):
    return {group.name: [linear.layer.name for linear in group.operators] for group in groups}


def offloads(graph):
    return {node.attributes["slice"].as_string(): node for node in graph if node.op_type == OFFLOAD}


def chain(count, names):
    """Products one after the other, with the given node names."""
    steps = "  ".join(f'["{name}"] v{i + 1} = MatMul(v{i}, m)' for i, name in zip(range(count), names, strict=True))
    return f"g (float[n,4] v0) => (float[n,4] v{count}) {{ {steps} }}", {"m": (4, 4)}


def test_operators_of_one_input_and_kind_share_a_slice():
    groups, _ = cut(MIXED, WEIGHTS)
    assert members(groups) == {"q": ["q", "k"], "up": ["up", "down"], "skip": ["skip"], "out": ["out"]}


def test_choice_of_convolutions():
    groups, graph = cut(MIXED, WEIGHTS, OffloadChoice.CONV)
    assert members(groups) == {"up": ["up", "down"], "skip": ["skip"]}
    assert [node.op_type for node in graph].count("MatMul") == 3


def test_nothing_to_offload_is_an_error():
    text = "g (float[n,4] x) => (float[n,4] y) { y = MatMul(x, m) }"
    with pytest.raises(UnsupportedError, match="--offload conv"):
        cut(text, {"m": (4, 4)}, OffloadChoice.CONV)


def test_images_travel_channels_last():
    _, graph = cut(MIXED, WEIGHTS)
    nodes = offloads(graph)
    to_last = nodes["up"].inputs[0].producer()
    assert (to_last.op_type, [*to_last.attributes["perm"].as_ints()]) == ("Transpose", [0, 2, 3, 1])
    assert to_last.inputs[0].name == "x"
    for output in nodes["up"].outputs:
        (to_first,) = output.consumers()
        assert (to_first.op_type, [*to_first.attributes["perm"].as_ints()]) == ("Transpose", [0, 3, 1, 2])
    assert nodes["q"].inputs[0].name == "x"


def test_all_other_values_keep_their_names():
    before = value_names(ir.from_proto(proto_from_text(MIXED, WEIGHTS)).graph)
    _, graph = cut(MIXED, WEIGHTS)
    new = value_names(graph) - before
    assert new == {"up.input", "up.answer_0", "up.answer_1", "skip.input", "skip.answer_0"}
    assert [value.name for value in graph.outputs] == ["out", "d"]
    assert {value.dtype for node in offloads(graph).values() for value in node.outputs} == {ir.DataType.FLOAT}


def test_an_operator_that_feeds_another_one_is_cut_too():
    _, graph = cut(*chain(3, "abc"))
    assert [node.op_type for node in graph] == [OFFLOAD] * 3
    assert [node.inputs[0].name for node in graph] == ["v0", "v1", "v2"]
    assert [value.name for value in graph.outputs] == ["v3"]


def test_nodes_stay_in_order(tmp_path):
    model = load(tmp_path, proto_from_text(MIXED, WEIGHTS))
    cut_offloaded(model.graph, OffloadChoice.ALL)
    seen = set(model.graph.inputs) | set(model.graph.initializers.values())
    for node in model.graph:
        assert seen.issuperset(node.inputs)
        seen.update(node.outputs)


def test_operators_keep_their_weights():
    groups, graph = cut(MIXED, WEIGHTS)
    given = {name: value.const_value.numpy() for name, value in graph.initializers.items()}
    q, _, up, down = [linear for group in groups[:2] for linear in group.operators]
    np.testing.assert_array_equal(q.weights()[:, :, 0, 0], given["m"].T)
    np.testing.assert_array_equal(up.weights(), given["w3"])
    np.testing.assert_array_equal(down.bias(), given["b3"])


STRANGE = [
    "plain", "plain", "Plain", "plain-2", "a/b c:d", "a?b!c=d", "Ünïcödé/層", "層", "..", "/", "x" * 300, "x" * 301,
    "mid.0-proj_in",
]  # fmt: skip


def test_names_of_slices_are_files_of_their_own():
    groups, _ = cut(*chain(len(STRANGE), STRANGE))
    got = [group.name for group in groups]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]{1,200}", name) and name.strip(".") for name in got)
    assert len({name.lower() for name in got}) == len(got)  # on a disk that ignores case, too
    assert (got[0], got[4], got[-1]) == ("plain", "a.b.c.d", "mid.0-proj_in")


def test_new_values_never_take_an_old_name():
    text = """g (float[n,4,h,w] x) => (float[n,4,h,w] out) {
        ["c"] "c.input" = Conv(x, w1)  "c.answer_0" = Sigmoid("c.input")  out = Add("c.answer_0", "c.input") }"""
    _, graph = cut(text, {"w1": (4, 4, 1, 1)})
    values = [value.name for node in graph for value in node.outputs]
    assert sorted(values) == ["c.answer_0", "c.answer_0-2", "c.input", "c.input-2", "out"]


def test_the_choice_prints_as_the_option():
    assert [f"{choice}" for choice in OffloadChoice] == ["all", "conv"]
