import random
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from ppidm.protocol.arrays import read_arrays, write_arrays
from ppidm.protocol.errors import PackageError

ARRAYS = {"slice.a/0/v": np.array([-(2**63), 2**63 - 1, 0]), "bias": np.ones((2, 3), np.float32)}
EXPECTED = {"slice.a/0/v": ("<i8", (3,)), "bias": ("<f4", (2, 3))}
ONE = {"a": ("<f4", (2,))}


@pytest.fixture
def path(tmp_path):
    write_arrays(tmp_path / "arrays.npz", ARRAYS)
    return tmp_path / "arrays.npz"


def npy(header, content=bytes(8)):
    """A file of one array, version 1.0, whose header may say anything."""
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


def npz(path, content, name="a.npy", compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(name, content)


def test_arrays_round_trip(path):
    read = read_arrays(path, EXPECTED)
    assert list(read) == list(EXPECTED)
    for name, array in ARRAYS.items():
        assert read[name].dtype == array.dtype
        assert np.array_equal(read[name], array)


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({"bias": EXPECTED["bias"]}, "array 'slice.a/0/v' is missing or unknown"),
        (EXPECTED | {"scales": ("<f4", (3,))}, "array 'scales' is missing or unknown"),
        (EXPECTED | {"bias": ("<f4", (3, 2))}, "array 'bias' is float32(2, 3); expected float32(3, 2)"),
        (EXPECTED | {"bias": ("<f8", (2, 3))}, "array 'bias' is float32(2, 3); expected float64(2, 3)"),
        (EXPECTED | {"bias": (">f4", (2, 3))}, "array 'bias' is float32(2, 3)"),
    ],
)
def test_what_was_not_declared_is_refused(path, expected, message):
    with pytest.raises(PackageError) as error:
        read_arrays(path, expected)
    assert str(error.value).startswith(f"{path}: {message}")


def test_a_missing_or_truncated_file_is_refused(path):
    content = path.read_bytes()
    for length in (0, 1, 30, 100, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(PackageError, match=r"arrays\.npz: cannot be read"):
            read_arrays(path, EXPECTED)
    path.unlink()
    with pytest.raises(PackageError, match=r"cannot be read \(FileNotFoundError"):
        read_arrays(path, EXPECTED)


@pytest.mark.parametrize(
    "content",
    [
        npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**45},)}}"),
        npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**62},)}}"),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}"),
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (2,)}"),
        npy("{'descr': '<f4', ((("),
        npy("'''"),
        npy("(" * 5000),
        b"not an array",
        b"",
    ],
    ids=["128 TiB", "wraps", "negative", "pickle", "brackets", "quotes", "deep", "text", "empty"],
)
def test_hostile_members_are_refused(tmp_path, content):
    npz(tmp_path / "a.npz", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}"))
    assert read_arrays(tmp_path / "a.npz", ONE)["a"].tolist() == [0, 0]
    npz(tmp_path / "a.npz", content)
    with pytest.raises(PackageError, match=r"a\.npz: (cannot be read|array 'a' is )"):
        read_arrays(tmp_path / "a.npz", ONE)


def test_memory_is_bounded_by_the_size_of_the_file(tmp_path):
    size, path = 2**24, tmp_path / "a.npz"
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({size},)}}"
    npz(path, npy(header, bytes(4 * size)), compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**20
    tracemalloc.start()
    with pytest.raises(PackageError, match=r"cannot be read \(ValueError: \d+ bytes; its arrays need 67108864\)"):
        read_arrays(path, {"a": ("<f4", (size,))})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_arrays_in_columns_round_trip(tmp_path):
    array = np.arange(24).reshape(2, 3, 4).T
    write_arrays(tmp_path / "a.npz", {"a": array})
    assert np.array_equal(read_arrays(tmp_path / "a.npz", {"a": ("<i8", (4, 3, 2))})["a"], array)


def test_the_name_of_a_hostile_member_is_quoted(tmp_path):
    npz(tmp_path / "a.npz", b"", name="\x1b[2J.npy")
    with pytest.raises(PackageError, match=r"array '\\x1b\[2J' is missing or unknown"):
        read_arrays(tmp_path / "a.npz", {})


@pytest.mark.filterwarnings("ignore::UserWarning")  # zipfile and numpy warn of some of these files before they raise
def test_changed_bytes_give_package_errors_only(tmp_path):
    path = tmp_path / "a.npz"
    npz(path, npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}"), compression=zipfile.ZIP_DEFLATED)
    content, refused = path.read_bytes(), 0
    for _ in range(400):
        damaged = bytearray(content)
        damaged[random.randrange(len(content))] = random.randrange(256)
        path.write_bytes(damaged)
        try:
            assert read_arrays(path, ONE)["a"].shape == (2,)
        except PackageError:
            refused += 1
    assert refused > 200
