"""A sampler runs its table, keeps no more of the past than it needs, and says what it cannot do.

That tables say what the schedulers do: tests/export/test_samplers.py.
"""

import numpy as np
import pytest

from ppidm.client.sampler import Sampler
from ppidm.protocol.errors import InputError
from ppidm.protocol.sampler_table import ENTRY, MISSING, Kind

SHAPE = (1, 4, 2, 2)
TABLE = [
    (3, 0, Kind.TIMESTEP, 0, 900.5),
    (3, 0, Kind.INPUT_SCALE, 0, 0.5),
    (3, 0, Kind.INIT_SIGMA, 0, 2.0),
    (3, 0, Kind.SAMPLE, 0, 1.0),
    (3, 0, Kind.OUTPUT, 0, -3.0),
    (3, 1, Kind.TIMESTEP, 0, 500.0),
    (3, 1, Kind.INPUT_SCALE, 0, 0.25),
    (3, 1, Kind.SAMPLE, 1, 1.0),
    (3, 1, Kind.OUTPUT, 0, 5.0),
    (3, 1, Kind.NOISE, 0, 7.0),
    (3, 1, Kind.NOISE, 1, 0.0),
    (3, 2, Kind.TIMESTEP, 0, 1.0),
    (3, 2, Kind.INPUT_SCALE, 0, 1.0),
    (3, 2, Kind.SAMPLE, 0, 11.0),
    (3, 2, Kind.OUTPUT, 2, 13.0),
    (3, 2, Kind.NOISE, 0, 17.0),
    (3, 2, Kind.RESULT, 1, 19.0),
]


def table(*step_counts):
    parts = [np.array(TABLE, ENTRY) for _ in step_counts]
    for part, steps in zip(parts, step_counts, strict=True):
        part["steps"] = steps
    return np.concatenate(parts)


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "samplers.npz"
    empty = np.empty((0, 2), np.str_)
    np.savez(file, **{"A": table(3, 4, 5, 9), "B": table(7), MISSING: empty})
    return file


def full(value):
    return np.full(SHAPE, value, np.float32)


def one(array):
    """The value that all elements have."""
    assert array.shape == SHAPE
    assert array.dtype == np.float32
    assert array.flags.c_contiguous
    assert len(np.unique(array)) == 1
    return float(array.flat[0])


def test_a_trajectory_by_hand():
    sampler = Sampler(table(3))
    assert sampler.timesteps.tolist() == [900.5, 500.0, 1.0]
    assert [sampler.needs_noise(row) for row in range(3)] == [False, True, False]
    noises = iter([full(0.5), full(100)])
    state = sampler.start(full(1))
    assert one(state.latents) == 2
    assert one(state.model_input()) == 1
    state.step(full(3))
    assert one(state.latents) == 2 - 3 * 3
    assert one(state.model_input()) == -7 / 4
    state.step(full(4), lambda: next(noises))
    assert one(state.latents) == -7 + 5 * 3 + 7 * 0.5
    assert next(noises, None) is None  # a noise with the coefficient 0 is drawn too, as diffusers does
    state.latents = full(1000)
    assert one(state.model_input()) == 1000
    state.step(full(6))
    assert one(state.latents) == 11 * 2 + 13 * 6 + 17 * 0.5 + 19 * 11.5  # the result, not what replaced it


def test_only_what_later_rows_name_is_kept():
    state = Sampler(table(3)).start(full(1))
    kept = []
    for _ in range(3):
        state.step(full(1), lambda: full(1))
        kept.append(set(state._past))
    first = (Kind.SAMPLE, 0)
    assert kept == [{first, (Kind.OUTPUT, 0)}, {first, (Kind.NOISE, 0), (Kind.RESULT, 1)}, set()]


def test_sums_are_in_float64():
    entries = table(3)
    entries["value"][3:5] = [1.0, 2.0**-30]
    state = Sampler(entries).start(full(0.5))
    state.step(full(1))
    assert np.array_equal(state._latents, np.full(SHAPE, 1 + 2.0**-30))


def test_the_callers_arrays_can_be_reused():
    noise, output = full(1), full(3)
    state = Sampler(table(3)).start(noise)
    state.step(output)
    noise[:] = output[:] = 77
    state.latents[:] = 77
    state.step(full(4), lambda: full(0.5))
    assert one(state.latents) == 11.5


def test_a_sampler_can_be_shared():
    sampler = Sampler(table(3))
    first, second = sampler.start(full(1)), sampler.start(full(2))
    first.step(full(3))
    assert one(second.latents) == 4


def test_load_chooses_the_step_count(path):
    assert Sampler.load(path, "A", 5).init_noise_sigma == 2
    assert len(Sampler.load(path, "B", 7).timesteps) == 3


@pytest.mark.parametrize(("name", "message"), [("A", "3-5, 9$"), ("B", "7$")])
@pytest.mark.parametrize("steps", [-1, 0, 6, 1000])
def test_an_absent_step_count_lists_those_that_exist(path, name, message, steps):
    with pytest.raises(InputError, match=f"{name} cannot do {steps} steps in this package; it can do {message}"):
        Sampler.load(path, name, steps)


def test_an_unknown_scheduler_lists_those_that_exist(path):
    with pytest.raises(InputError, match="no scheduler 'C'; it has A, B"):
        Sampler.load(path, "C", 3)


def test_noise_that_is_needed_must_be_there():
    state = Sampler(table(3)).start(full(1))
    state.step(full(1))
    with pytest.raises(InputError, match=r"evaluation 1 .* needs noise"):
        state.step(full(1))
    state.step(full(1), lambda: full(0.5))  # nothing is lost
    assert one(state.latents) == -1 + 5 + 3.5


def test_another_shape_is_refused():
    state = Sampler(table(3)).start(full(1))
    wrong = np.ones((1, 4, 2, 1), np.float32)  # would broadcast
    with pytest.raises(InputError, match="the model output: got shape"):
        state.step(wrong)
    with pytest.raises(InputError, match="the new latents: got shape"):
        state.latents = wrong
    state.step(full(1))
    with pytest.raises(InputError, match="the noise: got shape"):
        state.step(full(1), lambda: wrong)


def test_there_is_an_end():
    state = Sampler(table(3)).start(full(1))
    for _ in range(3):
        state.step(full(1), lambda: full(1))
    for beyond in (state.model_input, lambda: state.step(full(1))):
        with pytest.raises(InputError, match="all 3 evaluations"):
            beyond()


def test_a_state_shows_no_content():
    state = Sampler(table(3)).start(full(1.2345))
    assert "." not in repr(state).replace("ppidm.client.sampler.SamplerState", "")
