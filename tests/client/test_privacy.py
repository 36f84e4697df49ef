"""What servers receive for real pictures says nothing of them, and these tests would notice if it did.

False alarms: each statistical test combines its p-values by Bonferroni's inequality and fails an honest build with
probability below 1e-12. The broken builds draw the same picture as an honest one, bit for bit: only the view tells.
"""

from collections import defaultdict

import numpy as np
import pytest
from shipped import RING, load_slices, plain_digits
from uniformity import FALSE_ALARM, assert_uniform, smallest_difference_p_value, uniformity_p_value

from ppidm.client import direct
from ppidm.protocol.masks import Mask
from ppidm.protocol.prg import Seed

STEPS, HALVES = 2, 2
PER_EVALUATION, HOISTED = 92, 4  # slices of the shipped model
REQUESTS = STEPS * HALVES * PER_EVALUATION + HOISTED


def uniformity(calls):
    """By slice: the smallest p-value of the bytes of a message."""
    found = defaultdict(lambda: 1.0)
    for call in calls:
        found[call.slice] = min(found[call.slice], uniformity_p_value(call.digits))
    return found


def freshness(calls):
    """By slice that got several messages: the p-value of their pairwise differences modulo 2**32."""
    received = defaultdict(list)
    for call in calls:
        received[call.slice].append(RING.from_digits(call.digits))
    return {name: smallest_difference_p_value(seen) for name, seen in received.items() if len(seen) > 1}


def combined(p_values, tests):
    return min(1.0, tests * min(p_values.values()))


def test_all_that_the_evaluator_receives_is_uniform(first, other):
    for recording in (first, other):
        assert len(recording.evaluator) == REQUESTS
        assert combined(uniformity(recording.evaluator), REQUESTS) >= FALSE_ALARM
    assert_uniform(b"".join(call.tensors["masked"] for call in first.evaluator))


def test_no_two_messages_for_a_slice_share_a_mask(first, again):
    """Over two calls with the same prompt and the same image seed: eight messages for most slices."""
    p_values = freshness(first.evaluator + again.evaluator)
    assert len(p_values) == PER_EVALUATION + HOISTED
    assert combined(p_values, len(p_values)) >= FALSE_ALARM


def test_no_two_prompts_share_a_mask(first, other):
    p_values = freshness(first.evaluator + other.evaluator)
    assert combined(p_values, len(p_values)) >= FALSE_ALARM


def test_requests_hold_masked_digits_or_a_seed_and_nothing_else(first):
    """Byte for byte: the bytes of a request are a name, and tensors with name, type and shape."""
    for call in first.evaluator:
        assert list(call.tensors) == ["masked"]
    for call in first.dealers[0] + first.dealers[1]:
        assert list(call.tensors) == ["seed", "shape"]
        assert len(call.tensors["seed"]) == 32
    for call in [call for view in first.views for call in view]:
        request = call.request
        assert [name for name, _ in call.metadata] == ["user-agent"]
        assert {field.name for field, _ in request.ListFields()} == {"model_name", "inputs", "raw_input_contents"}
        for tensor in request.inputs:
            assert {field.name for field, _ in tensor.ListFields()} == {"name", "datatype", "shape"}
        assert request.FindInitializationErrors() == []
        assert request.ByteSize() == len(call.content)


def test_besides_digits_and_seeds_no_server_receives_anything_that_depends_on_the_picture(first, other):
    assert not np.array_equal(first.result.images, other.result.images)
    assert first.outlines() == other.outlines()
    assert len(first.outlines()[0]) > PER_EVALUATION


def test_traffic_and_rounds_do_not_depend_on_the_picture(first, again, other):
    for recording in (again, other):
        assert recording.result.report.traffic == first.result.report.traffic
        assert recording.result.report.rounds == first.result.report.rounds
        assert recording.result.report.offload == first.result.report.offload


def test_seeds_are_distinct_and_uniform(first, again, other):
    seeds = [seed for recording in (first, again, other) for seed in recording.seeds()]
    assert len(seeds) == len(set(seeds)) == 3 * 2 * REQUESTS
    assert_uniform(np.frombuffer(b"".join(seeds), np.uint8).reshape(1, -1, 32), "seeds")


@pytest.fixture
def broken(pipe, record, monkeypatch):
    """Draws a picture of one step with parts of the client replaced."""

    def draw(hide=Mask.hide, fresh=Mask.fresh, open_answers=direct.open_answers):
        with monkeypatch.context() as patch:
            patch.setattr(Mask, "hide", hide)
            patch.setattr(Mask, "fresh", fresh)
            patch.setattr(direct, "open_answers", open_answers)
            return record(pipe, num_inference_steps=1)

    return draw


@pytest.fixture(scope="module")
def honest(pipe, record):
    return record(pipe, num_inference_steps=1)


def test_an_unmasked_build_is_noticed_in_every_slice(broken, honest):
    def evaluator_only(ring, layers, checks, x, answers):
        return real(ring, layers, checks, x, answers[:1])

    real = direct.open_answers
    recording = broken(hide=lambda _mask, x: RING.to_digits(x), open_answers=evaluator_only)
    assert np.array_equal(recording.result.images, honest.result.images)
    p_values = uniformity(recording.evaluator)
    assert len(p_values) == PER_EVALUATION + HOISTED
    assert max(p_values.values()) < FALSE_ALARM
    assert max(freshness(recording.evaluator).values()) < FALSE_ALARM
    assert combined(uniformity(honest.evaluator), len(honest.evaluator)) >= FALSE_ALARM


def float_masked(_mask, x):
    """Noise of 100 times the deviation of the activation, and the sum spread over the whole ring."""
    activation = RING.signed(x).astype(np.float64)
    masked = activation + np.random.default_rng().normal(scale=100 * activation.std(), size=x.shape)
    return plain_digits(np.rint(masked * (2**31 - 1) / np.abs(masked).max()).astype(np.int64))


def test_a_float_masked_build_is_noticed_in_every_slice_of_a_thousand_values(broken, honest, package):
    """Whatever unmasks it is exact here: the slice itself, on this machine."""
    runners = {loaded.layers: loaded.runner for loaded in load_slices(package)}

    def open_exactly(ring, layers, _checks, x, _answers):
        return [ring.signed(y.view(np.uint32)) for y in runners[layers].run(plain_digits(x))]

    recording = broken(hide=float_masked, open_answers=open_exactly)
    assert np.array_equal(recording.result.images, honest.result.images)
    p_values = uniformity(recording.evaluator)
    sizes = {call.slice: call.digits[0].size for call in recording.evaluator}
    assert sum(size < 1024 for size in sizes.values()) == 3  # 64 and 256 values, of the timestep: not enough to be sure
    assert max(p for name, p in p_values.items() if sizes[name] >= 1024) < FALSE_ALARM
    assert combined(p_values, len(recording.evaluator)) < FALSE_ALARM


def test_a_build_that_reuses_masks_is_noticed_in_every_slice(broken, honest):
    seeds = [Seed.fresh(), Seed.fresh()]
    recording = broken(fresh=lambda ring, shape, dealers: Mask(ring, shape, seeds[:dealers]))
    assert np.array_equal(recording.result.images, honest.result.images)
    assert combined(uniformity(recording.evaluator), len(recording.evaluator)) >= FALSE_ALARM  # each looks fine
    p_values = freshness(recording.evaluator)
    assert len(p_values) == PER_EVALUATION
    assert max(p_values.values()) < FALSE_ALARM
    assert len(set(recording.seeds())) == 2
