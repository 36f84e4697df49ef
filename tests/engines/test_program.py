"""The executor: order, parallel steps, errors, and what it keeps in memory."""

import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_programs import FLOPS, ONE, count_up, load_program, offload, run, segment

from ppidm.engines.program import ProgramRunner
from ppidm.protocol.errors import CheckError, PackageError
from ppidm.protocol.records import Program, Segment


@pytest.fixture
def runner(tmp_path):
    """A runner of steps with input "x"."""
    return lambda *steps, outputs: load_program(tmp_path, steps, outputs)


@pytest.mark.parametrize(
    ("steps", "outputs", "message"),
    [
        ([offload("y", "z")], ["z"], "reads 'y', which no step writes"),
        ([segment(["x", "y"], "z")], ["z"], "reads 'y', which no step writes"),
        ([offload("x", "y")], ["z"], "reads 'z', which no step writes"),
        ([offload("y", "y")], ["y"], "has a cycle"),
        ([offload("z", "y"), segment(["x", "y"], "z")], ["z"], "has a cycle"),
        ([offload("x", "y"), segment(["x"], "y")], ["y"], "writes 'y' twice"),
        ([offload("x", "y", "y")], ["y"], "writes 'y' twice"),
        ([offload("x", "x")], ["x"], "writes 'x' twice"),
    ],
)
def test_programs_that_are_refused(runner, steps, outputs, message):
    with pytest.raises(PackageError, match=f"the program {message}.*; export the package again"):
        runner(*steps, outputs=tuple(outputs))


def test_a_segment_that_is_missing(tmp_path):
    with pytest.raises(PackageError, match=r"y\.onnx: not a readable file"):
        ProgramRunner(tmp_path, Program(inputs=("x",), outputs=("y",), steps=(segment(["x"], "y"),)))


def test_outputs_flops_and_rounds(runner):
    pair, chain = (
        [offload("x", "pair", "b"), segment(["b", "pair"], "c")],
        [segment(["c", "d"], "e"), offload("e", "f")],
    )
    result = run(runner(*chain, offload("x", "d"), *pair, outputs=("f", "pair", "x")))
    assert {name: value[0, 0] for name, value in result.outputs.items()} == {"f": 25, "pair": 2, "x": 1}
    assert (result.flops, result.rounds) == (2 * FLOPS, 2)
    assert result.segment_seconds > 0


def test_without_offloads_there_are_no_rounds(runner):
    result = run(runner(segment(["x", "x"], "y"), outputs=("y",)))
    assert (result.outputs["y"][0, 0], result.rounds) == (4, 0)


@st.composite
def programs(draw):
    """Steps in any order, each of which reads what others write; nothing is dropped but what has been read."""
    names, steps = ["x"], []
    for number in range(draw(st.integers(1, 12))):
        reads = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
        name = f"v{number}"
        steps.append(segment(reads, name) if draw(st.booleans()) else offload(reads[0], name))
        names.append(name)
    outputs = draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    return draw(st.permutations(steps)), outputs


@settings(max_examples=25, deadline=None)
@given(drawn=programs())
def test_results_do_not_depend_on_the_pool(tmp_path_factory, drawn):
    steps, outputs = drawn
    runner = load_program(tmp_path_factory.mktemp("segments"), steps, outputs)
    expected = {"x": 1.0} | evaluate(steps)
    for workers in (1, 8):
        result = run(runner, slow_at_random, workers)
        assert list(result.outputs) == outputs
        assert [float(value[0, 0]) for value in result.outputs.values()] == [expected[name] for name in outputs]


def slow_at_random(name, x):
    time.sleep(hash(name) % 3 / 2000)
    return count_up(name, x)


def evaluate(steps):
    """One step after the other, in plain Python."""
    values, writers = {}, {step.writes[0]: step for step in steps}

    def value(name):
        if name not in values:
            step = writers.get(name)
            reads = [value(read) for read in step.reads] if step else []
            values[name] = 1.0 if step is None else 2 * sum(reads) if isinstance(step, Segment) else reads[0] + 1
        return values[name]

    return {name: value(name) for name in writers}


def test_independent_steps_run_at_the_same_time(runner):
    both = threading.Barrier(2, timeout=30)

    def meet(name, x):
        both.wait()
        return count_up(name, x)

    steps = [offload("x", "y"), offload("x", "z"), segment(["y", "z"], "s")]
    result = run(runner(*steps, outputs=("s",)), meet, workers=2)
    assert (result.outputs["s"][0, 0], result.rounds) == (8, 1)


def test_an_error_ends_the_run_and_nothing_outlives_it(runner):
    begun, ended, together = [], [], threading.Barrier(2, timeout=30)

    def fail(name, x):
        begun.append(name)
        if name in ("to_lie", "to_slow"):
            together.wait()
        if name == "to_lie":
            raise CheckError("a lie")
        time.sleep(0.2)
        ended.append(name)
        return count_up(name, x)

    later = [offload("x", f"later{number}") for number in range(4)]
    steps = [offload("x", "lie"), offload("x", "slow"), *later, offload("slow", "last")]
    program = runner(*steps, outputs=("last",))
    with ThreadPoolExecutor(2) as pool:
        with pytest.raises(CheckError, match="a lie"):
            program.run({"x": ONE}, fail, pool)
        seen = len(begun)
        assert sorted(ended) == sorted(set(begun) - {"to_lie"})  # whatever ran has ended
        assert "to_last" not in begun
        assert seen < len(steps) - 1  # what had not begun never will
        time.sleep(0.3)
        assert len(begun) == seen
        assert program.run({"x": ONE}, count_up, pool).outputs["last"][0, 0] == 3  # the pool is free again


def test_an_error_in_a_segment_propagates(runner):
    program = runner(offload("x", "y"), segment(["x", "y"], "z"), outputs=("z",))
    with pytest.raises(Exception, match=r"while running \S+ node"):
        run(program, lambda _name, _x: [np.ones((5, 7), np.float32)])


def test_values_are_dropped_when_nothing_reads_them_any_more(runner):
    """A chain a -> b -> ... -> f; c is read at the end once more, b is an output."""
    alive, values = {}, {}

    def watch(name, x):
        alive[name] = {other for other, value in values.items() if value() is not None}
        result = x + 1
        values[name.removeprefix("to_")] = weakref.ref(result)
        return [result]

    chain = [offload(*pair) for pair in ("xa", "ab", "bc", "cd", "de", "ef")]
    result = run(runner(*chain, segment(["f", "c"], "s"), outputs=("s", "b")), watch, workers=1)
    assert result.outputs["s"][0, 0] == 2 * (7 + 4)
    assert alive["to_b"] == {"a"}
    assert alive["to_d"] == {"b", "c"}
    assert alive["to_f"] == {"b", "c", "e"}
    assert {name for name, value in values.items() if value() is not None} == {"b"}
