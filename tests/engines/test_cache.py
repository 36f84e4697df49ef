"""Engines on disk: written whole or not at all; what is damaged is told, and nothing else suffers."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppidm.engines.cache import EngineCache, default_cache
from ppidm.engines.plans import MAGIC, Origin, read_plan
from ppidm.engines.profiles import Profile
from ppidm.protocol.errors import InputError, PackageError

PROFILE = Profile(least=(1, 4), best=(2, 4), most=(8, 4))
ORIGIN = Origin(
    slice="ab" * 32, engine="tensorrt-rtx", version="1.7", targets=("sm86", "sm89"), profiles=(PROFILE,), tf32=True
)
PLAN = bytes(range(256)) * 40
OTHERS = {
    "slice": "cd" * 32,
    "engine": "tensorrt",
    "version": "1.8",
    "targets": ("sm89",),
    "profiles": (PROFILE, PROFILE),
    "tf32": False,
}


@pytest.fixture
def cache(tmp_path):
    return EngineCache(tmp_path / "engines")


def test_a_plan_comes_back(cache):
    path = cache.store(ORIGIN, PLAN)
    header, plan = read_plan(path)
    assert (header.origin, plan) == (ORIGIN, PLAN)
    assert cache.holds(ORIGIN)
    assert list(cache.candidates("tensorrt-rtx", ORIGIN.slice)) == [path]
    assert not list(cache.candidates("tensorrt", ORIGIN.slice))


def test_an_empty_plan(cache):
    assert read_plan(cache.store(ORIGIN, b""))[1] == b""


@pytest.mark.parametrize("field", OTHERS)
def test_what_a_plan_was_made_of_is_its_key(cache, field):
    other = ORIGIN.model_copy(update={field: OTHERS[field]})
    cache.store(ORIGIN, PLAN)
    assert other.key != ORIGIN.key
    assert not cache.holds(other)
    cache.store(other, b"other")
    assert read_plan(cache.path(ORIGIN))[1] == PLAN
    assert read_plan(cache.path(other))[1] == b"other"


def damage(path, change):
    path.write_bytes(change(path.read_bytes()))


DAMAGES = {
    "truncated": (lambda content: content[:-1], "damaged or truncated"),
    "half": (lambda content: content[: len(content) // 2], "damaged or truncated"),
    "a bit": (lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:], "damaged or truncated"),
    "longer": (lambda content: content + b"x", "damaged or truncated"),
    "only the start": (lambda content: content[:30], "its header is damaged"),
    "header": (lambda content: content.replace(b'"sm86"', b'"sm8'), "its header is damaged"),
    "unknown key": (lambda content: content.replace(b'"size"', b'"sizf"'), "its header is damaged"),
    "long header": (lambda content: MAGIC + b"\xff" * 4 + content[17:], "not an engine of ppidm"),
    "empty": (lambda _: b"", "not an engine of ppidm"),
    "something else": (lambda _: b"ftrt" * 100, "not an engine of ppidm"),
}


@pytest.mark.parametrize(("change", "message"), DAMAGES.values(), ids=DAMAGES)
def test_damaged_plans(cache, change, message):
    path, other = cache.store(ORIGIN, PLAN), cache.store(ORIGIN.model_copy(update={"tf32": False}), b"other")
    damage(path, change)
    with pytest.raises(PackageError, match=f"{path.name}: .*{message}.*run `ppidm build` again, which replaces it"):
        read_plan(path)
    assert not cache.holds(ORIGIN)
    assert read_plan(other)[1] == b"other"
    cache.store(ORIGIN, PLAN)
    assert cache.holds(ORIGIN)


@settings(max_examples=100, deadline=None)
@given(position=st.integers(0), byte=st.integers(1, 255))
def test_any_damaged_byte_is_noticed_or_changes_the_origin(tmp_path_factory, position, byte):
    cache = EngineCache(tmp_path_factory.mktemp("engines"))
    path = cache.store(ORIGIN, PLAN)
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= byte
    path.write_bytes(content)
    assert not cache.holds(ORIGIN)


def test_a_missing_plan(cache):
    assert not cache.holds(ORIGIN)
    with pytest.raises(PackageError, match="No such file or directory"):
        read_plan(cache.path(ORIGIN))


def limited(cache, script):
    """Run `script` where no file may grow beyond 4 KiB: a full disk, as far as a writer can tell."""
    setup = "import resource, sys; from pathlib import Path\n"
    setup += "from ppidm.engines.cache import EngineCache; from ppidm.engines.plans import Origin\n"
    setup += (
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\ncache = EngineCache(Path({str(cache.folder)!r}))\n"
    )
    setup += f"origin = Origin.model_validate_json({ORIGIN.model_dump_json()!r})\n"
    return subprocess.run([sys.executable, "-c", setup + script], capture_output=True, text=True, check=False)


def test_a_full_disk_leaves_what_was_there(cache):
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    path = cache.store(ORIGIN, PLAN)
    for start in ("", "cache.path(origin).unlink()\n"):
        run = limited(cache, f"{start}cache.store(origin, bytes({len(PLAN)}))")
        assert f"{path}: cannot write {len(PLAN)} bytes (File too large); free some space" in run.stderr
        assert [each.name for each in path.parent.iterdir()] == ([] if start else [path.name])
        if not start:
            assert read_plan(path)[1] == PLAN
    assert limited(cache, "cache.store(origin, b'small')").returncode == 0
    assert read_plan(path)[1] == b"small"


def test_a_writer_that_is_killed_leaves_no_plan(cache):
    script = "import os, signal; "
    script += "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\ncache.store(origin, b'x' * 2000)"
    assert limited(cache, script).returncode == -9
    assert not cache.holds(ORIGIN)
    assert not list(cache.candidates("tensorrt-rtx", ORIGIN.slice))
    [leftover] = cache.path(ORIGIN).parent.iterdir()
    EngineCache(cache.folder)
    assert leftover.exists()  # it may be another process's, and be finished in a moment
    os.utime(leftover, (0, 0))
    EngineCache(cache.folder)
    assert not leftover.exists()


def test_folders_that_are_refused(tmp_path):
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(InputError, match="other users can write to it"):
        EngineCache(folder)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="give another folder with --cache"):
        EngineCache(tmp_path / "file" / "engines")


def test_a_new_folder_is_the_users_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "ppidm" / "engines"
    before = os.umask(0)
    try:
        cache = EngineCache(default_cache())
        path = cache.store(ORIGIN, PLAN)
    finally:
        os.umask(before)
    assert [each.stat().st_mode & 0o777 for each in (cache.folder, path.parent, path)] == [0o700, 0o700, 0o600]
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache() == Path.home() / ".cache" / "ppidm" / "engines"
