"""Beginnings in the middle of a run: what is taken from the whole run, and what a hostile file cannot do.

That they are those of the schedulers: tests/export/test_begins.py.
"""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppidm.client.sampler import Sampler
from ppidm.protocol.errors import InputError, PackageError
from ppidm.protocol.sampler_begins import ENTRY, begin, load_begins, skipped_steps
from ppidm.protocol.sampler_table import ENTRY as TABLE_ENTRY
from ppidm.protocol.sampler_table import MISSING, Kind, load_table

TABLE = [  # each row names the row before
    (3, 0, Kind.TIMESTEP, 0, 900.0),
    (3, 0, Kind.INPUT_SCALE, 0, 0.5),
    (3, 0, Kind.INIT_SIGMA, 0, 14.0),
    (3, 0, Kind.SAMPLE, 0, 1.0),
    (3, 0, Kind.OUTPUT, 0, -1.0),
    (3, 0, Kind.NOISE, 0, 0.5),
    (3, 1, Kind.TIMESTEP, 0, 500.0),
    (3, 1, Kind.INPUT_SCALE, 0, 0.25),
    (3, 1, Kind.OUTPUT, 0, 2.0),
    (3, 1, Kind.OUTPUT, 1, 3.0),
    (3, 1, Kind.NOISE, 1, 0.25),
    (3, 2, Kind.TIMESTEP, 0, 1.0),
    (3, 2, Kind.INPUT_SCALE, 0, 1.0),
    (3, 2, Kind.OUTPUT, 1, 4.0),
    (3, 2, Kind.OUTPUT, 2, 5.0),
    (3, 2, Kind.NOISE, 2, 0.0),
    (3, 2, Kind.RESULT, 1, 6.0),
]
BEGINS = [
    (3, 1, 1, Kind.INIT_SIGMA, 0, 7.0),
    (3, 1, 1, Kind.SAMPLE, 1, 9.0),
    (3, 1, 1, Kind.NOISE, 1, 10.0),
    (3, 1, 1, Kind.PICTURE, 0, 8.0),
]


def table():
    return np.array(TABLE, TABLE_ENTRY)


def begins(entries=BEGINS):
    return np.array(entries, ENTRY)


def begun(entries=BEGINS, skipped=1):
    return begin(table(), begins(entries), skipped, "A")


def ones(value=1.0):
    return np.full((1, 2), value, np.float32)


def test_a_run_by_hand():
    sampler = Sampler(*begun())
    assert sampler.timesteps.tolist() == [500.0, 1.0]
    assert sampler.input_scales.tolist() == [0.25, 1.0]
    state = sampler.start(ones(), ones(2))
    assert state.latents.tolist() == [[7 + 16] * 2]
    noises = iter([ones(3), ones(4)])
    state.step(ones(5), lambda: next(noises))
    assert state.latents.tolist() == [[9 * 23 + 10 * 3] * 2]  # the first row is replaced
    state.step(ones(11), lambda: next(noises))
    assert state.latents.tolist() == [[4 * 5 + 5 * 11 + 6 * 237] * 2]  # the second one is the whole run's
    assert next(noises, None) is None


@pytest.mark.parametrize(
    ("entries", "skipped", "problem"),
    [
        (BEGINS, 0, "no beginning after 0 of 3 steps"),
        (BEGINS[:3], 1, "no beginning after 1 of 3 steps"),
        ([*BEGINS[:3], (3, 1, 1, Kind.PICTURE, 0, np.inf)], 1, "no beginning"),
        ([*BEGINS, (3, 1, 2, Kind.PICTURE, 0, 1.0)], 1, "no beginning"),
        (BEGINS[1:], 1, "start is described once"),
        ([BEGINS[0], BEGINS[3]], 1, "no index is ahead of its row"),  # the whole run's row names what was left out
        ([*BEGINS[:3], (3, 1, 200, Kind.PICTURE, 0, 1.0)], 1, "does not hold"),
        ([*BEGINS, (3, 1, 2, Kind.TIMESTEP, 0, 1.0)], 1, "sorted and unique"),
        ([*BEGINS, (3, 1, 1, 99, 0, 1.0)], 1, "every kind is known"),
        ([*BEGINS, (3, 1, 1, Kind.OUTPUT, 0, np.nan)], 1, "every value is finite"),
    ],
)
def test_what_cannot_be_run_is_refused(entries, skipped, problem):
    with pytest.raises(PackageError, match=problem):
        begun(entries, skipped)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(BEGINS) - 1), st.sampled_from(ENTRY.names), st.integers(0, 255)), max_size=4),
    st.sets(st.integers(0, len(BEGINS) - 1), max_size=2),
)
def test_whatever_is_taken_can_be_run(changes, dropped):
    entries = begins()
    for place, name, value in changes:
        entries[name][place] = value
    try:
        sampler = Sampler(*begin(table(), np.delete(entries, list(dropped)), 1, "A"))
    except PackageError:
        return
    state = sampler.start(ones(), ones())
    for _ in sampler.timesteps:
        state.step(state.model_input(), ones)
    assert np.isfinite(state.latents).all()


def write(path, **arrays):
    np.savez(path, **{MISSING: np.empty((0, 2), np.str_), **arrays})
    return path


def test_a_file_is_read(tmp_path):
    path = write(tmp_path / "samplers.npz", **{"A": table(), "A.begins": begins()})
    assert np.array_equal(load_begins(path, "A"), begins())
    assert Sampler.load_for_picture(path, "A", 3, 0.7).timesteps.tolist() == [500.0, 1.0]
    with pytest.raises(InputError, match=r"no scheduler 'A\.begins'; it has A$"):
        load_table(path, "A.begins")


def test_a_file_without_beginnings_says_so(tmp_path):
    with pytest.raises(InputError, match="cannot begin A in the middle of a run; choose another scheduler, or export"):
        Sampler.load_for_picture(write(tmp_path / "samplers.npz", A=table()), "A", 3, 0.7)


@pytest.mark.parametrize("wrong", [table(), begins().reshape(1, -1), np.array(["a"])])
def test_another_array_is_refused(tmp_path, wrong):
    path = write(tmp_path / "samplers.npz", **{"A": table(), "A.begins": wrong})
    with pytest.raises(PackageError, match=re.escape("A.begins: ") + ".*expected entries"):
        load_begins(path, "A")


@pytest.mark.parametrize(
    ("strength", "steps", "expected"), [(1.0, 1, 0), (1.0, 50, 0), (0.8, 50, 10), (0.3, 10, 7), (0.29, 100, 72)]
)
def test_steps_are_counted_as_diffusers_does(strength, steps, expected):
    assert skipped_steps(strength, steps) == expected == steps - min(int(steps * strength), steps)
