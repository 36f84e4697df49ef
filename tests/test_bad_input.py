"""Damaged, old and mixed-up packages: an error that names the file, says what was expected and what to do."""

import json
import os
import shutil

import pytest
from command_line import refused, serving

from ppidm.protocol.manifest import (
    CheckManifest,
    ServerManifest,
    digests_of,
    file_digest,
    package_digest,
)

AGAIN = "copy or export the package again"
PROMPT = "red apple"


@pytest.fixture
def copy(package, tmp_path):
    """A package that a test may damage: hard links, so `damage` and `edit_manifest` write new files."""
    return shutil.copytree(package, tmp_path / "package", copy_function=os.link)


def damage(path, change):
    content = bytearray(path.read_bytes())
    path.unlink()
    path.write_bytes(change(content))


def edit_manifest(directory, **changes):
    damage(directory / "manifest.json", lambda content: json.dumps(json.loads(content) | changes).encode())


def flip(content):
    content[len(content) // 2] ^= 1
    return content


def truncate(content):
    return content[:-100]


@pytest.mark.parametrize("change", [flip, truncate])
def test_a_corrupt_slice(copy, change):
    path = copy / "server-0" / "slices" / "conv_in.onnx"
    good = file_digest(path)[:16]
    damage(path, change)
    expected = f"ppidm: {path}: SHA-256 is {file_digest(path)[:16]}..., the manifest says {good}...; {AGAIN}"
    assert refused("serve", copy / "server-0") == expected
    assert refused("inspect", copy / "server-0") == expected


def test_a_missing_slice(copy):
    path = copy / "server-1" / "slices" / "conv_in.onnx"
    path.unlink()
    assert refused("serve", copy / "server-1") == f"ppidm: {path}: No such file or directory; {AGAIN}"


@pytest.mark.parametrize("file", ["vae_decoder.onnx", "samplers.npz", "openings.npz", "segments"])
@pytest.mark.parametrize("change", [flip, truncate])
def test_a_corrupt_file_of_the_client(copy, file, change):
    path = copy / "client" / file
    path = min(path.iterdir()) if path.is_dir() else path
    damage(path, change)
    error = refused("generate", copy / "client", PROMPT, EVALUATOR="127.0.0.1:1", DEALER="127.0.0.1:2")
    assert error.startswith(f"ppidm: {path}: SHA-256 is {file_digest(path)[:16]}..., the manifest says ")


@pytest.mark.parametrize("directory", ["client", "server-0"])
def test_a_manifest_of_another_version(copy, directory):
    edit_manifest(copy / directory, format=2)
    path = copy / directory / "manifest.json"
    expected = f"ppidm: {path}: format 2; this ppidm reads format 1. Export the package again"
    assert refused("inspect", copy / directory) == expected
    if directory == "client":
        assert refused("generate", copy / directory, PROMPT, EVALUATOR="a:1", DEALER="a:2") == expected
    else:
        assert refused("serve", copy / directory) == expected


def test_a_wrong_digest(copy):
    manifest = json.loads((copy / "server-0" / "manifest.json").read_text())
    manifest["files"]["slices/conv_in.onnx"] = "0" * 64
    edit_manifest(copy / "server-0", files=manifest["files"])
    assert f"the manifest says {'0' * 16}...; {AGAIN}" in refused("serve", copy / "server-0")


def test_a_wrong_digest_of_the_package(copy):
    edit_manifest(copy / "server-0", package="0" * 64)
    assert "`package` is not the digest of the slices" in refused("serve", copy / "server-0")


def test_directories_of_other_kinds(copy, tmp_path):
    settings = {"EVALUATOR": "127.0.0.1:1", "DEALER": "127.0.0.1:2"}
    assert "the manifest of a 'client' directory; expected 'server'" in refused("serve", copy / "client")
    assert "the manifest of a 'server' directory; expected 'client'" in refused(
        "generate", copy / "server-0", PROMPT, **settings
    )
    assert "a 'check' directory; expected a client or server directory" in refused("inspect", copy / "check")
    assert "expected a directory of `ppidm export`" in refused("serve", copy)
    assert f"{tmp_path / 'none'}" in refused("generate", tmp_path / "none", PROMPT, **settings)


def test_no_check_folder(copy, servers):
    shutil.rmtree(copy / "check")
    error = refused("generate", copy / "client", PROMPT, EVALUATOR=servers[0], DEALER=servers[1])
    assert error.startswith(f"ppidm: {copy / 'check'}: no check vectors; give their folder with --check DIR ")


def other_package(directory, kind):
    """Make `directory` one of another package, consistent in itself: one slice fewer."""
    manifest = json.loads((directory / "manifest.json").read_text())
    slices = kind.model_validate(manifest).slices[1:]
    content = [subgraph.model_dump(mode="json") for subgraph in slices]
    edit_manifest(directory, slices=content, package=package_digest(slices), files=digests_of(directory))
    return package_digest(slices)[:16]


def test_the_check_folder_of_another_export(copy, servers):
    other = other_package(copy / "check", CheckManifest)
    error = refused("generate", copy / "client", PROMPT, EVALUATOR=servers[0], DEALER=servers[1])
    assert error.startswith(f"ppidm: {copy / 'check'}: check vectors of package {other}..., the client has ")
    assert error.endswith("; give the check folder of the same export")


def test_corrupt_check_vectors(copy, servers):
    path = copy / "check" / "vectors.npz"
    damage(path, truncate)
    assert f"{path}: SHA-256 is " in refused(
        "generate", copy / "client", PROMPT, EVALUATOR=servers[0], DEALER=servers[1]
    )


@pytest.mark.parametrize("role", ["evaluator", "dealer"])
def test_servers_of_different_packages(copy, servers, tmp_path, role):
    other = other_package(copy / "server-0", ServerManifest)
    with serving(copy / "server-0") as server:
        settings = {"EVALUATOR": servers[0], "DEALER": servers[1]} | {role.upper(): server.address}
        error = refused("generate", copy / "client", PROMPT, status=4, OUTPUT=tmp_path / "a.png", **settings)
    assert error.startswith(f"ppidm: {role} {server.address} serves package '{other}'..., the client has ")
    assert error.endswith("; start it with a server directory of the same export")
