"""What is computed once per prompt or timestep, and what crosses into the sample's program."""

from __future__ import annotations

import onnx_ir as ir
import pytest
from composed import PHASES, compose, inputs_of
from small_graphs import HOISTED, proto_from_text

from ppidm.export.phases import assign_phases
from ppidm.protocol.errors import UnsupportedError

EMPTY = ((), (), ())


def programs(folder, name):
    model = proto_from_text(*HOISTED[name])
    found = compose(folder, model, inputs_of(model), PHASES).partition.programs
    return {phase: (program.inputs, program.outputs, slices(program)) for phase, program in found.items()}


def slices(program):
    return tuple(step.slice for step in program.steps if step.kind == "offload")


def phases_of(text, weights=None):
    graph = ir.from_proto(proto_from_text(text, weights)).graph
    return {node.outputs[0].name: phase for node, phase in assign_phases(graph, PHASES).items()}, graph


def test_prompt_and_timestep_run_once(tmp_path):
    assert programs(tmp_path, "prompt and timestep") == {
        "prompt": (("p",), ("a",), ("a",)),
        "timestep": (("t",), ("d",), ("d",)),
        "sample": (("x", "d", "a"), ("out",), ("g",)),
    }


def test_inputs_that_the_sample_reads_are_passed_on(tmp_path):
    assert programs(tmp_path, "the sample reads the timestep and the prompt themselves") == {
        "prompt": (("p",), ("p",), ()),
        "timestep": (("t",), ("t",), ()),
        "sample": (("x", "t", "p"), ("out",), ("out",)),
    }


def test_what_has_no_rows_is_computed_again(tmp_path):
    found = programs(tmp_path, "sizes of the prompt, heads in the first axis")
    assert found["prompt"] == (("p",), ("p", "k"), ("k",))  # neither `kt`, heads first, nor `s`, `one` and `size`
    assert sorted(found["sample"][0]) == ["k", "p", "x"]
    assert found["timestep"] == EMPTY


def test_a_phase_without_nodes_is_an_empty_program(tmp_path):
    found = programs(tmp_path, "a timestep that nobody reads")
    assert found["timestep"] == EMPTY
    assert found["prompt"] == (("p",), ("a",), ("a",))


def test_outputs_of_earlier_phases_are_passed_through(tmp_path):
    found = programs(tmp_path, "an output of the prompt alone")
    assert found["prompt"] == (("p",), ("p2",), ("p2",))
    assert found["sample"] == (("x", "p2"), ("b", "p2"), ("a",))


def test_equal_weights_in_two_phases_are_two_slices(tmp_path):
    found = programs(tmp_path, "an operator before and in the sample")
    assert (found["prompt"][2], found["sample"][2]) == (("a",), ("out",))


def test_an_empty_program_runs(tmp_path):
    model = proto_from_text(*HOISTED["a timestep that nobody reads"])
    result = compose(tmp_path, model, inputs_of(model), PHASES).results["timestep"]
    assert (result.outputs, result.rounds, result.flops) == ({}, 0, 0)


def test_dependencies_hide_in_branches():
    text = """g (float[n,4] x, float[n,4] p, bool t) => (float[n,4] out) {
        a = Tanh(p)  b = If(t) <then_branch = y () => (float[n,4] e) { e = Add(x, a) },
                                else_branch = z () => (float[n,4] e) { e = Identity(a) }>
        out = Tanh(b) }"""
    assert phases_of(text)[0] == {"a": "prompt", "b": "sample", "out": "sample"}


def test_dead_and_constant_nodes_have_no_phase():
    text = """g (float[n,4] x, float[n,4] p) => (float[n,4] out) {
        dead = Tanh(p)  c = Neg(m)  a = MatMul(p, c)  b, unused = Split<axis=1, num_outputs=2>(a)  d = Add(x, b)
        out = Concat<axis=1>(d, b) }"""
    assert phases_of(text, {"m": (4, 4)})[0] == {"a": "prompt", "b": "prompt", "d": "sample", "out": "sample"}


def test_one_copy_serves_all_readers():
    text = """g (float[n,4] x, float[n,4] p) => (float[n,4] out) {
        s = Shape(p)  a = Reshape(x, s)  b = Reshape(a, s)  k = Reshape(p, s)  out = Sum(a, b, k) }"""
    found, graph = phases_of(text)
    assert found == {"a": "sample", "b": "sample", "k": "prompt", "s": "prompt", "s.sample": "sample", "out": "sample"}
    assert [node.outputs[0].name for node in graph] == ["s", "s.sample", "a", "b", "k", "out"]


@pytest.mark.parametrize(
    ("shape", "crosses"),
    [("n,4", True), ("4,n", False), ("m,4", False), ("2,4", False), ("?,4", True), ("", False)],
)
def test_rows_are_told_by_the_first_dimension(shape, crosses):
    text = "g (float[n,4] x, float[n,4] p) => (float[n,4] out) { k = Tanh(p)  out = Add(x, k) }"
    graph = ir.from_proto(proto_from_text(text)).graph
    sizes = [None if size == "?" else int(size) if size.isdigit() else size for size in shape.split(",") if size]
    graph[0].outputs[0].shape = ir.Shape(sizes)
    assign_phases(graph, PHASES)
    assert (graph.outputs[0].producer().inputs[1].name == "k") is crosses


@pytest.mark.parametrize("known", ["p", "x"])
def test_an_unknown_input_is_an_error(known):
    inputs = "float[n,4] x, float[n,4] p, float[n,4] ids"
    with pytest.raises(UnsupportedError, match=rf"inputs \['ids', '{known}'\].*expected \['p', 't', 'x'\]"):
        phases_of(f"g ({inputs}) => (float[n,4] out) {{ a = Tanh({known})  out = Add(a, ids) }}")


def test_an_output_of_constants_is_an_error():
    text = "g (float[n,4] x) => (float[n,4] a, float[4,4] b) { a = Tanh(x)  b = Neg(m) }"
    with pytest.raises(UnsupportedError, match="output b depends on no input"):
        phases_of(text, {"m": (4, 4)})


def test_branches_are_never_copied():
    """`b` has no rows by its shape, but a subgraph belongs to one node only."""
    text = """g (float[n,4] x, float[n,4] p, bool t) => (float[n,4] out) <bool yes = {1}> {
        b = If(yes) <then_branch = y () => (float[4,n] e) { e = Transpose(p) },
                     else_branch = z () => (float[4,n] e) { e = Transpose(p) }>
        c = Transpose(b)  out = Add(x, c) }"""
    graph = ir.from_proto(proto_from_text(text)).graph
    graph[0].outputs[0].shape = ir.Shape(["four", "n"])
    graph[1].outputs[0].shape = ir.Shape(["what", "n"])
    found = {node.outputs[0].name: phase for node, phase in assign_phases(graph, PHASES).items()}
    assert found == {"b": "prompt", "c.sample": "sample", "out": "sample"}
    assert [node.op_type for node in graph].count("If") == 1
