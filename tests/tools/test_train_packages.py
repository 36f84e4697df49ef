import subprocess

import pytest
from tools.train import packages
from training_pictures import write_packages

from ppidm.protocol.errors import InputError


@pytest.fixture
def made(tmp_path, monkeypatch):
    write_packages(tmp_path, monkeypatch)
    return tmp_path


def test_packages_that_are_there_are_verified_and_not_fetched_again(made, monkeypatch):
    monkeypatch.setattr(packages, "which", lambda _: pytest.fail("npm was looked for"))
    packages.fetch(made, lambda *_: None)


def test_a_tarball_that_differs_is_refused(made):
    path = made / packages.PACKAGES[0].tarball
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(
        InputError, match=r"fluent-emoji-3d-1\.1\.0\.tgz: SHA-512 is .* delete the file and fetch it again"
    ):
        packages.fetch(made, lambda *_: None)


def test_a_missing_tarball_says_what_to_run(tmp_path):
    with pytest.raises(InputError, match=r"run `python -m tools\.train fetch` first"):
        packages.verify(packages.NOTO, tmp_path)


def test_without_npm_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(packages, "which", lambda _: None)
    with pytest.raises(InputError, match=r"npm is not installed.*install Node\.js"):
        packages.fetch(tmp_path, lambda *_: None)


def test_a_failing_npm_is_quoted(tmp_path, monkeypatch):
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho first >&2; echo 'E404 not in this registry' >&2; exit 1\n")
    npm.chmod(0o755)
    monkeypatch.setattr(packages, "which", lambda _: str(npm))
    with pytest.raises(
        InputError, match=r"npm pack @lobehub/fluent-emoji-3d@1\.1\.0 failed: E404 not in this registry"
    ):
        packages.fetch(tmp_path / "data", lambda *_: None)


def test_npm_is_called_with_the_version_and_the_folder(made, tmp_path, monkeypatch):
    calls = []

    def run(command, **_):
        calls.append(command)
        package = next(p for p in packages.PACKAGES if f"{p.name}@{p.version}" == command[2])
        (tmp_path / "new" / package.tarball).write_bytes((made / package.tarball).read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(packages, "which", lambda _: "/usr/bin/npm")
    monkeypatch.setattr(packages.subprocess, "run", run)
    packages.fetch(tmp_path / "new", lambda *_: None)
    assert [call[2] for call in calls] == [f"{p.name}@{p.version}" for p in packages.PACKAGES]
    assert all(call[3:] == ["--pack-destination", str(tmp_path / "new")] for call in calls)
