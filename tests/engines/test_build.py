"""`ppidm build`: every slice of the shipped model compiles; what goes wrong is told per slice, and the cache stays whole."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from command_line import ppidm, refused, start_ppidm
from onnx import TensorProto, helper, numpy_helper
from shipped import RING, apply_torch, weights_of

from ppidm.engines.build import Build, BuildSettings
from ppidm.engines.estimate import estimate
from ppidm.engines.onnx_guard import require_allowed
from ppidm.engines.onnx_policy import PRODUCTS
from ppidm.engines.plans import read_plan
from ppidm.engines.profiles import profiles_of
from ppidm.engines.selftest import test_digits as digits_of_self_test
from ppidm.engines.tensorrt import building
from ppidm.engines.tensorrt.building import PlanRequest, build_plan, choose_targets
from ppidm.engines.tensorrt.library import FULL, Library, summary
from ppidm.export.settings import silent
from ppidm.protocol.errors import InputError, PackageError, UnsupportedError
from ppidm.protocol.manifest import ServerManifest, digests_of, load_manifest, package_digest, write_manifest

pytestmark = pytest.mark.trt


@pytest.fixture(scope="session")
def manifest(package):
    return load_manifest(package / "server-0", ServerManifest)


@pytest.fixture
def few(package, manifest, tmp_path):
    """A directory with three slices that a test may change."""
    chosen = [manifest.slices[index] for index in (0, 2, 5)]
    (tmp_path / "few" / "slices").mkdir(parents=True)
    for subgraph in chosen:
        shutil.copy(package / "server-0" / subgraph.file, tmp_path / "few" / subgraph.file)
    seal(tmp_path / "few", manifest, chosen)
    return tmp_path / "few"


def seal(directory, manifest, slices):
    digests = digests_of(directory)
    slices = tuple(subgraph.model_copy(update={"sha256": digests[subgraph.file]}) for subgraph in slices)
    update = {"slices": slices, "package": package_digest(slices), "files": digests}
    write_manifest(directory, manifest.model_copy(update=update))


def reseal(directory):
    """After a file was changed."""
    manifest = load_manifest_unverified(directory)
    seal(directory, manifest, manifest.slices)


def load_manifest_unverified(directory):
    return ServerManifest.model_validate(json.loads((directory / "manifest.json").read_text()))


def build(directory, cache, **settings):
    return Build(BuildSettings(directory, "tensorrt-rtx", ("sm89",), 2, cache=cache, **settings)).run(silent)


# all slices


def test_every_slice_of_the_shipped_model_compiles(built, rtx, manifest):
    plans = sorted((built / "tensorrt-rtx").iterdir())
    assert len(plans) == len({subgraph.sha256 for subgraph in manifest.slices}) == 96
    for path in plans:
        header, plan = read_plan(path)
        assert len(plan) == header.size > 100_000
        assert (header.origin.version, header.origin.targets) == (rtx.version, ("sm86", "sm89"))
        assert header.origin.tf32  # the exporter proved it
    assert {path.name[:32] for path in plans} == {subgraph.sha256[:32] for subgraph in manifest.slices}


def test_what_is_compiled_is_exact_on_onnx_runtime(package, manifest):
    """The same files. Each holds products only, and gives the integers of the definition for uniform digits."""
    for subgraph in manifest.slices:
        path = package / "server-0" / subgraph.file
        require_allowed(path, PRODUCTS)
        assert "Conv" not in {node.op_type for node in onnx.load(path).graph.node}
        digits = digits_of_self_test(RING, subgraph.self_test.shape)
        x = RING.signed(RING.from_digits(digits))
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        answers = session.run(None, {"masked": digits})
        for layer, weights, answer in zip(
            subgraph.layers, weights_of(package / "server-0", subgraph), answers, strict=True
        ):
            expected = apply_torch(layer, weights, x)
            np.testing.assert_array_equal(answer, expected.astype(np.uint64).astype(np.uint32).view(np.int32))


def test_the_proof_of_every_slice_is_true(package, manifest):
    """Operands by looking at them; sums by adding the largest of every part in float64."""
    for subgraph in manifest.slices:
        stored = onnx.load(package / "server-0" / subgraph.file).graph.initializer
        parts = [numpy_helper.to_array(each).astype(float) for each in stored if each.name.startswith("weights_")]
        assert len(parts) == sum(layer.parts for layer in subgraph.layers)
        bounds = []
        for part in parts:
            assert np.array_equal(part, np.rint(part))
            assert np.abs(part).max() < 2**subgraph.proof.operand_bits <= 2**11
            columns = part.reshape(-1, part.shape[-1])
            bounds.append(12 * np.sqrt(255 * 257 / 12 * (columns**2).sum(axis=0)) + np.abs(columns).sum(axis=0) / 2)
        largest = max(bound.max() for bound in bounds)
        assert largest == pytest.approx(subgraph.proof.sum_bound)
        assert largest < 2**24


# the command


def test_a_build_keeps_what_is_there(few, tmp_path):
    first = ppidm("build", few, "--engine", "tensorrt-rtx", "--cache", tmp_path / "cache", JOBS=2, TARGET="sm89 sm86")
    assert first.out == "compiled 3 of 3 slices\n"
    assert first.err.startswith("3 slices to compile: about ")
    plans = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.plan")}
    assert len(plans) == 3
    damaged = min(plans)
    damaged.write_bytes(damaged.read_bytes()[:-5])
    again = ppidm("build", few, "--engine", "tensorrt-rtx", "--cache", tmp_path / "cache", TARGET="sm86 sm89")
    assert again.out == first.out
    assert again.err.startswith("1 slices to compile: about ")
    changed = [path for path, time in plans.items() if path.stat().st_mtime_ns != time]
    assert changed == [damaged]
    assert read_plan(damaged)


def test_an_interrupted_build_goes_on(package, tmp_path):
    words = "build", package / "server-0", "--engine", "tensorrt-rtx", "--target", "sm89", "--jobs", "1"
    with start_ppidm(*words, CACHE=tmp_path) as process:
        while len(finished := list(tmp_path.rglob("*.plan"))) < 3:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        process.wait(60)
        assert process.returncode == 130
    finished = sorted(tmp_path.rglob("*.plan"))
    assert 3 <= len(finished) < 96
    assert all(read_plan(path) for path in finished)
    rest = Build(BuildSettings(package / "server-0", "tensorrt-rtx", ("sm89",), cache=tmp_path)).estimate
    assert rest.slices == 96 - len(finished)


def test_onnx_runtime_is_tried_out(few):
    shown = ppidm("build", few, "--engine", "onnxruntime")
    assert (shown.out, shown.err) == ("compiled 3 of 3 slices\n", "")


def test_tf32_is_for_slices_with_a_proof_only(few, tmp_path):
    loaded = load_manifest_unverified(few)
    first, *rest = loaded.slices
    seal(few, loaded, [first.model_copy(update={"proof": None}), *rest])
    assert build(few, tmp_path / "cache").good == 3
    origins = [read_plan(path)[0].origin for path in (tmp_path / "cache").rglob("*.plan")]
    assert {origin.slice: origin.tf32 for origin in origins} == {
        subgraph.sha256: subgraph is not first for subgraph in (first, *rest)
    }


@pytest.mark.parametrize("allowed", [True, False])
def test_what_the_compiler_is_told(rtx, manifest, allowed):
    subgraph, builder = manifest.slices[2], rtx.trt.Builder(rtx.log())
    profiles = profiles_of(subgraph, (1, 2))
    config = building._config(rtx, builder, PlanRequest(4, profiles, ("sm86", "sm89"), tf32=allowed))
    assert config.get_flag(rtx.trt.BuilderFlag.TF32) is allowed  # the library's default is True
    assert config.num_optimization_profiles == 2
    assert [config.get_compute_capability(index).name for index in range(2)] == ["SM86", "SM89"]


# what goes wrong


def change_graph(path, change):
    graph = onnx.load(path)
    change(graph.graph)
    onnx.save(graph, path)


def bytes_first(graph):
    """As older versions wrote it: TensorRT knows no Reshape of bytes."""
    shape = numpy_helper.from_array(np.array([4, -1, 64]), "flat")
    graph.initializer.append(shape)
    graph.node.insert(0, helper.make_node("Reshape", ["masked", "flat"], ["bytes"], "early"))
    graph.node[1].input[0] = "bytes"


def as_convolution(graph):
    graph.node.append(helper.make_node("Conv", ["a", "b"], ["c"], "somewhere"))


def unknown(graph):
    graph.node.append(helper.make_node("NonZero", [graph.node[0].output[0]], ["c"], "hole"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (bytes_first, "tensorrt-rtx .* cannot read it: node 'early' .Reshape.: .*UInt8"),
        (as_convolution, "operator 'Conv', which a slice for a GPU may not hold .node 'somewhere'."),
        (unknown, "operator 'NonZero', which a slice for a GPU may not hold .node 'hole'."),
    ],
)
def test_a_slice_that_cannot_be_compiled(few, tmp_path, change, message):
    """The message names slice, node and reason; the other slices are compiled, and stay when it is tried again."""
    subgraph = load_manifest_unverified(few).slices[0]
    change_graph(few / subgraph.file, change)
    reseal(few)
    for _ in range(2):
        result = build(few, tmp_path / "cache")
        [failure] = result.failures
        assert failure.startswith(f"{subgraph.name}: ")
        assert re.search(message, failure), failure
        assert result.good == 2
    assert len(list((tmp_path / "cache").rglob("*.plan"))) == 2


def test_the_command_says_which_slices_failed(few, tmp_path):
    subgraph = load_manifest_unverified(few).slices[0]
    change_graph(few / subgraph.file, bytes_first)
    reseal(few)
    shown = ppidm("build", few, "--engine", "tensorrt-rtx", "--cache", tmp_path / "cache", TARGET="sm89")
    assert (shown.status, shown.out) == (2, "compiled 2 of 3 slices\n")
    assert f"ppidm: {subgraph.name}: tensorrt-rtx" in shown.err


def test_a_product_that_a_gpu_has_not_got(rtx, package, manifest):
    """The compiler's own error, not ours: it names the node, and why."""
    subgraph = manifest.slices[0]
    request = PlanRequest(4, profiles_of(subgraph), ("sm75",), tf32=False)
    with pytest.raises(UnsupportedError, match=r"node_MatMul_\d+' for Turing .SM75.: FP32 GEMM is not supported"):
        build_plan(rtx, subgraph.name, (package / "server-0" / subgraph.file).read_bytes(), request)


def test_hostile_bytes_do_not_reach_the_parser(rtx, manifest):
    for content in (b"", b"\xff" * 1000, helper.make_tensor("t", TensorProto.FLOAT, [1], [0.0]).SerializeToString()):
        with pytest.raises((PackageError, UnsupportedError)):
            build_plan(rtx, "s", content, PlanRequest(4, profiles_of(manifest.slices[0]), ("sm89",), tf32=False))


def test_a_full_disk(few, tmp_path):
    """The first plan that does not fit ends the build; those before it stay."""
    build(few, tmp_path / "cache")
    plans = sorted((tmp_path / "cache").rglob("*.plan"), key=lambda path: path.stat().st_size)
    lost = plans.pop()
    limit = plans[-1].stat().st_size
    lost.unlink()
    script = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
    script += "from ppidm.cli import main; main()"
    run = run_python(
        script, "build", few, "--engine", "tensorrt-rtx", "--target", "sm89", "--cache", tmp_path / "cache"
    )
    assert run.returncode == 2, run.stderr
    assert "cannot write" in run.stderr
    assert "free some space, or give another folder with --cache" in run.stderr
    assert sorted((tmp_path / "cache").rglob("*.plan")) == sorted(plans)
    assert all(read_plan(path) for path in plans)
    assert build(few, tmp_path / "cache").kept == 2


def run_python(script, *arguments):
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120
    )


def test_a_missing_library(few, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    message = refused("build", few, "--engine", "tensorrt-rtx")
    assert "engine tensorrt-rtx: the Python package tensorrt_rtx cannot be imported" in message
    assert message.endswith("pip install 'ppidm[server-rtx]'")


def test_targets(rtx, few):
    assert choose_targets(rtx, ["sm89", "sm86"], None) == ("sm86", "sm89")
    assert "sm75" not in choose_targets(rtx, [], None)
    assert len(choose_targets(rtx, [], None)) > 2
    assert "--target sm75: tensorrt-rtx" in refused("build", few, "--engine", "tensorrt-rtx", TARGET="sm75")
    assert "--target sm99" in refused("build", few, "--engine", "tensorrt-rtx", TARGET="sm89 sm99")
    assert "for this machine's CPU only" in refused("build", few, "--engine", "onnxruntime", TARGET="sm89")


def test_tensorrt_compiles_for_the_gpu_that_it_runs_on(rtx):
    full = Library(FULL, rtx.trt)
    assert choose_targets(full, [], "sm90") == choose_targets(full, ["sm90"], "sm90") == ("sm90",)
    with pytest.raises(InputError, match="compiles for this machine's sm90 only"):
        choose_targets(full, ["sm89"], "sm90")
    with pytest.raises(InputError, match="finds none here; build there, or use --engine tensorrt-rtx"):
        choose_targets(full, [], None)


@pytest.mark.parametrize("settings", [{"JOBS": -1}, {"LARGEST": 0}, {"LARGEST": 9}])
def test_numbers_out_of_range(few, settings):
    assert "expected at least 0 jobs" in refused("build", few, "--engine", "tensorrt-rtx", **settings)


def test_a_slice_that_changes_while_it_is_built(few, tmp_path):
    """Between the check of its digest and the compiler."""
    running = Build(BuildSettings(few, "tensorrt-rtx", ("sm89",), 1, cache=tmp_path / "cache"))
    path = few / load_manifest_unverified(few).slices[1].file
    path.write_bytes(path.read_bytes() + b"\0")
    [failure] = running.run(silent).failures
    assert "changed since its digest was verified" in failure


def test_the_estimate_grows_with_the_work(manifest):
    whole = estimate(manifest.slices, 2)
    assert replace(estimate(manifest.slices, 4), memory=0) == replace(whole, seconds=whole.seconds / 2, memory=0)
    assert estimate(manifest.slices, 4).memory > whole.memory
    assert estimate(manifest.slices, 2, buckets=2).disk > whole.disk
    assert estimate([], 2).seconds == 0


def test_messages_without_the_gpu_that_is_missing():
    gpu = "[checkMacros.cpp] (cudaError 35: CUDA driver version is insufficient for CUDA runtime version)"
    assert summary([gpu, "a\n  b", "c"]) == "a b; c"
    assert summary([gpu]) == gpu
    assert summary([]) == "it gives no reason"
