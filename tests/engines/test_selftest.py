"""The self-test at load: a slice with other weights, or an engine that is not exact, is noticed."""

import shutil

import numpy as np
import onnx
import pytest
import structlog
from onnx import numpy_helper

from ppidm.engines.onnxruntime import CpuEngine, OrtRunner
from ppidm.protocol.errors import PackageError
from ppidm.protocol.manifest import (
    ServerManifest,
    digests_of,
    load_manifest,
    package_digest,
    write_manifest,
)
from ppidm.protocol.ring import Ring
from ppidm.runtime.loading import load_service

ENGINE = CpuEngine(Ring(32), threads=1)


@pytest.fixture(scope="module")
def server(package):
    return package / "server-0"


@pytest.fixture(scope="module")
def subgraphs(server):
    return load_manifest(server, ServerManifest).slices


def change_weights(path, change):
    """Rewrite the first weights of a slice."""
    model = onnx.load(path)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name.startswith("weights_"))
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor).copy()), tensor.name))
    onnx.save(model, path)


def one_weight_by_one(weights):
    index = np.random.default_rng(weights.size).integers(weights.size)
    weights.reshape(-1)[index] += 1 if weights.reshape(-1)[index] <= 0 else -1
    return weights


def copy_slice(server, subgraph, tmp_path):
    path = tmp_path / subgraph.file
    path.parent.mkdir(exist_ok=True)
    return shutil.copyfile(server / subgraph.file, path)


def test_one_weight_changed_by_one_is_noticed_in_every_slice(server, subgraphs, tmp_path):
    assert len(subgraphs) == 96
    for subgraph in subgraphs:
        change_weights(copy_slice(server, subgraph, tmp_path), one_weight_by_one)
        with pytest.raises(PackageError, match=rf"slice {subgraph.name}: .* fails the self-test"):
            ENGINE.load(tmp_path, subgraph)


def test_a_server_notices_it_when_all_digests_are_right(server, tmp_path):
    forged = tmp_path / "server"
    shutil.copytree(server, forged)
    manifest = load_manifest(forged, ServerManifest)
    change_weights(forged / manifest.slices[5].file, one_weight_by_one)
    digests = digests_of(forged)
    slices = tuple(s.model_copy(update={"sha256": digests[s.file]}) for s in manifest.slices)
    update = {"slices": slices, "files": digests, "package": package_digest(slices)}
    write_manifest(forged, manifest.model_copy(update=update))
    assert load_manifest(forged, ServerManifest).package != manifest.package
    with pytest.raises(PackageError, match=rf"slice {manifest.slices[5].name}: .* fails the self-test"):
        load_service(forged, 1, structlog.get_logger())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w[:, :-1], "cannot run it|cannot load it|fails the self-test"),
        (lambda w: w[:-1], "cannot run it|cannot load it|fails the self-test"),
        (lambda w: w[None, None], "cannot run it|cannot load it"),
        (np.zeros_like, "fails the self-test"),
    ],
    ids=["column missing", "row missing", "another rank", "zeros"],
)
@pytest.mark.parametrize("name", ["down_blocks.1.resnets.0.conv_shortcut", "down_blocks.0.downsamplers.0.conv"])
def test_other_weights_are_refused(server, subgraphs, tmp_path, name, change, message):
    subgraph = next(subgraph for subgraph in subgraphs if subgraph.name == name)
    change_weights(copy_slice(server, subgraph, tmp_path), change)
    with pytest.raises(PackageError, match=message):
        ENGINE.load(tmp_path, subgraph)


def rounded(answers):
    """As a kernel that sums in another order, or by Winograd's algorithm: float32, off in the last place."""
    off = [answer.astype(np.float32) * np.float32(1 + 2**-23) for answer in answers]
    return [answer.astype(np.int64).astype(np.int32) for answer in off]


def one_off(answers):
    answers[-1].reshape(-1)[-1] += 1
    return answers


def saturated(answers):
    return [np.clip(answer, -(2**30), 2**30) for answer in answers]


@pytest.mark.parametrize("spoil", [rounded, one_off, saturated, lambda answers: answers[:-1]])
def test_an_engine_that_is_not_exact_is_refused(server, subgraphs, monkeypatch, spoil):
    run = OrtRunner.run
    monkeypatch.setattr(OrtRunner, "run", lambda runner, digits: spoil(list(run(runner, digits))))
    for subgraph in subgraphs[::7]:
        with pytest.raises(PackageError, match=r"onnxruntime .*, portable form fails the self-test .* not exact here"):
            ENGINE.load(server, subgraph)


def test_an_exact_engine_passes(server, subgraphs):
    for subgraph in subgraphs[::7]:
        assert isinstance(ENGINE.load(server, subgraph), OrtRunner)
