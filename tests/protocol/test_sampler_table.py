"""A file of samplers may be hostile: it is refused by rule, or it can be run."""

import io
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppidm.client.sampler import Sampler
from ppidm.protocol import sampler_table
from ppidm.protocol.errors import InputError, PackageError
from ppidm.protocol.sampler_table import ENTRY, MISSING, Kind, check_table, load_missing, load_table

GOOD = [
    (2, 0, Kind.TIMESTEP, 0, 501.0),
    (2, 0, Kind.INPUT_SCALE, 0, 0.5),
    (2, 0, Kind.INIT_SIGMA, 0, 14.6),
    (2, 0, Kind.SAMPLE, 0, 1.0),
    (2, 0, Kind.OUTPUT, 0, -0.5),
    (2, 0, Kind.NOISE, 0, 0.25),
    (2, 1, Kind.TIMESTEP, 0, 1.0),
    (2, 1, Kind.INPUT_SCALE, 0, 0.9),
    (2, 1, Kind.SAMPLE, 0, 0.5),
    (2, 1, Kind.SAMPLE, 1, 0.5),
    (2, 1, Kind.OUTPUT, 1, -1.0),
    (2, 1, Kind.NOISE, 1, 0.0),
    (2, 1, Kind.RESULT, 0, 0.125),
]
NOTHING = np.empty((0, 2), np.str_)


def table(entries=GOOD):
    return np.array(entries, ENTRY)


def changed(place, **fields):
    """GOOD with some fields of one entry replaced."""
    bad = table()
    for name, value in fields.items():
        bad[name][place] = value
    return bad


def run(good):
    """All evaluations of the smallest step count that the table has."""
    sampler = Sampler(good[good["steps"] == good["steps"][0]])
    state = sampler.start(np.ones(3, np.float32))
    for _ in sampler.timesteps:
        state.step(state.model_input(), lambda: np.ones(3, np.float32))
    return state.latents


def write(path, /, **arrays):
    np.savez(path, **{MISSING: NOTHING, **arrays})
    return path


def test_a_good_table_is_read_as_it_is(tmp_path):
    path = write(tmp_path / "samplers.npz", A=table())
    assert np.array_equal(load_table(path, "A"), table())
    assert run(table()).shape == (3,)


@pytest.mark.parametrize(
    ("rule", "bad"),
    [
        ("finite", changed(3, value=np.nan)),
        ("finite", changed(0, value=np.inf)),
        ("1 <= steps <= 100", changed(slice(None), steps=0)),
        ("1 <= steps <= 100", changed(slice(None), steps=101)),
        ("kind is known", changed(-1, kind=7)),
        ("sorted and unique", table(GOOD[::-1])),
        ("sorted and unique", table([*GOOD, GOOD[-1]])),
        ("ahead of its row", changed(4, index=1)),
        ("ahead of its row", changed(-1, index=1)),
        ("ahead of its row", changed(6, index=1)),
        ("ahead of its row", changed(5, kind=Kind.RESULT)),
        ("start is described", table(GOOD[:2] + GOOD[3:])),
        ("start is described", changed(slice(6, None), steps=3)),
        ("one timestep and one input scale", table(GOOD[1:])),
        ("one timestep and one input scale", table(GOOD[:7] + GOOD[8:])),
        ("one timestep and one input scale", changed(slice(6, None), row=2)),
        ("numbered as they are drawn", table(GOOD[:5] + GOOD[6:])),
    ],
)
def test_a_broken_rule_is_named(rule, bad):
    with pytest.raises(PackageError, match=f"A: .*{rule}.* does not hold"):
        check_table(bad, "A")


@pytest.mark.parametrize("wrong", [table().reshape(1, -1), table()["value"], np.array(0.0), np.array(["a"])])
def test_another_array_is_refused(tmp_path, wrong):
    path = write(tmp_path / "samplers.npz", A=wrong)
    with pytest.raises(PackageError, match="expected entries"):
        load_table(path, "A")


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(GOOD) - 1),
            st.sampled_from(ENTRY.names),
            st.one_of(st.integers(0, 7), st.integers(0, 255)),
        ),
        max_size=3,
    ),
    st.sets(st.integers(0, len(GOOD) - 1), max_size=3),
)
def test_whatever_passes_the_check_can_be_run(changes, dropped):
    entries = table()
    for place, name, value in changes:
        entries[name][place] = value
    entries = np.delete(entries, list(dropped))
    try:
        check_table(entries, "A")
    except PackageError:
        return
    assert np.isfinite(run(entries)).all()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged")


@settings(deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_refused_or_harmless(folder, data):
    file = io.BytesIO()
    np.savez_compressed(file, **{"A": table(), MISSING: NOTHING})
    content = bytearray(file.getvalue())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
        content[place] = data.draw(st.integers(0, 255))
    path = folder / "samplers.npz"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    try:
        read = load_table(path, "A")
    except InputError:
        return
    assert np.array_equal(read, table())


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", pickle.dumps(table()), b"\x93NUMPY\x01\x00"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "samplers.npz"
    path.write_bytes(content)
    with pytest.raises(PackageError, match="cannot read"):
        load_table(path, "A")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(PackageError, match="FileNotFoundError"):
        load_table(tmp_path / "samplers.npz", "A")


class Trap:
    def __reduce__(self):
        return pytest.fail, ("a pickle was loaded",)


@pytest.mark.parametrize("name", ["A", MISSING])
def test_no_pickle_is_ever_loaded(tmp_path, name):
    path = tmp_path / "samplers.npz"
    np.savez(path, **{"A": table(), MISSING: NOTHING, name: np.array([Trap()], dtype=object)})
    with pytest.raises(PackageError, match="ValueError"):
        load_table(path, name)


def test_a_file_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    path = write(tmp_path / "samplers.npz", A=table())
    monkeypatch.setattr(sampler_table, "MAX_ARRAY_BYTES", 100)
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("unpacked"))
    with pytest.raises(PackageError, match="more than 100 bytes"):
        load_table(path, "A")


def test_an_unknown_name_lists_the_known_ones_and_gives_the_reason(tmp_path):
    path = write(tmp_path / "samplers.npz", A=table(), B=table(), missing=np.array([["C", "it clips"]]))
    with pytest.raises(InputError, match=r"no scheduler 'C' \(it clips\); it has A, B$"):
        load_table(path, "C")
    for name in ("D", MISSING):
        with pytest.raises(InputError, match=f"no scheduler '{name}'; it has A, B$"):
            load_table(path, name)


@pytest.mark.parametrize(
    "missing",
    [np.array(["C"]), np.array("C"), np.zeros((1, 2)), np.array([["C", "x", "y"]]), np.array([[[["C"], ["D"]]]])],
)
def test_a_wrong_list_of_missing_schedulers_is_refused(tmp_path, missing):
    path = write(tmp_path / "samplers.npz", missing=missing)
    with pytest.raises(PackageError, match="missing schedulers is not text"):
        load_missing(path)


def test_text_that_is_not_unicode_is_refused(tmp_path):
    text = np.full((1, 2), 0x7FFFFFFF, np.int32).view("<U1")
    with pytest.raises(PackageError, match="not Unicode"):
        load_missing(write(tmp_path / "samplers.npz", missing=text))


def test_what_a_terminal_shows_is_printable(tmp_path):
    path = tmp_path / "samplers.npz"
    np.savez(path, **{MISSING: np.array([["C", "\x1b[2J" + "x" * 1000]]), "\x1b[2J": table()})
    with pytest.raises(InputError, match="no scheduler 'C'") as caught:
        load_table(path, "C")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700
