"""The comparisons that end an export: right parts pass, wrong ones raise and say by how much."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from composed import inputs_of, load, run_whole
from conftest import MODEL
from small_graphs import proto_from_text

from ppidm.engines.onnxruntime import CpuEngine
from ppidm.engines.unet import PROMPT
from ppidm.export import compare, stand_ins
from ppidm.export import reference as reference_runs
from ppidm.export.client_files import config_from_model
from ppidm.export.graph import load_graph
from ppidm.export.offload import cut_offloaded
from ppidm.export.settings import OffloadChoice
from ppidm.protocol.errors import InputError, PackageError, UnsupportedError
from ppidm.protocol.manifest import ClientManifest, load_manifest
from ppidm.protocol.openings import OPENINGS, read_openings
from ppidm.protocol.records import Program, Programs

EMPTY = Program(inputs=(), outputs=(), steps=())


@pytest.fixture(scope="module")
def manifest(package):
    return load_manifest(package / "client", ClientManifest)


@pytest.fixture(scope="module")
def groups():
    return cut_offloaded(load_graph(MODEL / "unet" / "model.onnx").graph, OffloadChoice.ALL)


@pytest.fixture(scope="module")
def reference():
    config = config_from_model(MODEL)
    return reference_runs.reference_from_model(MODEL, config)


@pytest.fixture(scope="module")
def openings(package, manifest):
    return read_openings(package / "client" / OPENINGS, manifest.slices)


def altered(offload, name, change):
    """`offload`, but the answers of one slice go through `change`."""

    def call(which, x):
        answers = offload(which, x)
        return [change(answer) for answer in answers] if which == name else answers

    return call


def one_slice(manifest):
    """The last one: an error of a layer in the middle may be too small in the output of a trained model."""
    return next(subgraph.name for subgraph in manifest.slices if "conv_out" in subgraph.name)


# the shipped model


def test_the_right_partition_passes(package, manifest, groups, reference):
    offload = stand_ins.FloatOffload(groups)
    got = reference_runs.composed_output(package / "client", manifest.programs, reference, offload)
    assert 0 < compare.require_equal(reference.expected, got) < 1e-4


def test_a_dry_run_tells_shapes_and_work(package, manifest, groups, reference):
    feeds = {name: value[:1] for name, value in reference.conditions.items()}
    feeds |= {"sample": reference.sample[:1], "timestep": np.zeros(1, np.float32)}
    dry = reference_runs.dry_run(package / "client", manifest.programs.all, groups, feeds)
    assert dry.shapes == {subgraph.name: subgraph.nominal_shape for subgraph in manifest.slices}
    assert dry.rounds >= 80
    work = sum(layer.flops(subgraph.nominal_shape) for subgraph in manifest.slices for layer in subgraph.layers)
    assert 0.92 < work / (work + dry.client_flops) < 0.94


def test_a_wrong_partition_is_refused(package, manifest, groups, reference):
    offload = altered(stand_ins.FloatOffload(groups), one_slice(manifest), lambda answer: answer * np.float32(1.05))
    got = reference_runs.composed_output(package / "client", manifest.programs, reference, offload)
    with pytest.raises(UnsupportedError, match=r"differs .* by \d\.\de[+-]\d\d where .* 1e-03 of it"):
        compare.require_equal(reference.expected, got)


def test_the_right_slices_pass_and_wrong_ones_are_refused(package, manifest, openings, reference):
    offload = stand_ins.SliceOffload(package / "server-0", manifest.slices, openings, manifest.ring)
    name = one_slice(manifest)
    for change, right in ((lambda answer: answer, True), (np.negative, False)):
        got = reference_runs.composed_output(
            package / "client", manifest.programs, reference, altered(offload, name, change)
        )
        if right:
            assert 55 < compare.require_close(reference.expected, got) < 80
        else:
            with pytest.raises(UnsupportedError, match=r"SNR of -?\d+\.\d dB; expected at least 40 dB"):
                compare.require_close(reference.expected, got)


def test_a_slice_gives_what_its_float_weights_give(package, manifest, groups, openings):
    slices = stand_ins.SliceOffload(package / "server-0", manifest.slices, openings, manifest.ring)
    floats, rng = stand_ins.FloatOffload(groups), np.random.default_rng(0)
    kinds = {subgraph.layers[0].kind: subgraph for subgraph in manifest.slices}
    assert set(kinds) == {"product", "convolution"}
    for subgraph in kinds.values():
        shape = (2, *subgraph.nominal_shape) if subgraph.layers[0].kind == "product" else subgraph.nominal_shape
        x = rng.standard_normal(shape).astype(np.float32)
        for got, expected in zip(slices(subgraph.name, x), floats(subgraph.name, x), strict=True):
            assert 50 < compare.snr_db(expected, got) < 90


def test_a_changed_slice_is_refused(package, manifest, openings, tmp_path):
    name = manifest.slices[0].name
    server = shutil.copytree(package / "server-0", tmp_path / "server")
    shutil.copyfile(server / manifest.slices[1].file, server / manifest.slices[0].file)
    offload = stand_ins.SliceOffload(server, manifest.slices, openings, manifest.ring)
    with pytest.raises(PackageError):
        offload(name, np.ones(manifest.slices[0].nominal_shape, np.float32))


def test_slices_are_loaded_where_they_are_used(package, manifest, openings, monkeypatch):
    loaded, load_slice = [], CpuEngine.load
    monkeypatch.setattr(CpuEngine, "load", lambda *args: loaded.append(args[2].name) or load_slice(*args))
    offload = stand_ins.SliceOffload(package / "server-0", manifest.slices, openings, manifest.ring)
    assert loaded == []
    subgraph = manifest.slices[3]
    offload(subgraph.name, np.ones(subgraph.nominal_shape, np.float32))
    assert loaded == [subgraph.name]


# float products


FLOAT = {  # inputs, node, shapes of weights, shape of the slice's input
    "product": ("float[h,4] x", "y = Gemm(x, m, b)", {"m": (4, 5), "b": (5,)}, (6, 4)),
    "pointwise": ("float[n,4,h,w] x", "y = Conv(x, w1, b)", {"w1": (5, 4, 1, 1), "b": (5,)}, (72, 4)),
    "grouped": (
        "float[n,4,h,w] x", "y = Conv<group=2, strides=[2,1], pads=[1,0,2,1], dilations=[1,2]>(x, w1, b)",
        {"w1": (6, 2, 3, 2), "b": (6,)}, (2, 6, 6, 4),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("inputs", "node", "weights", "shape"), FLOAT.values(), ids=FLOAT)
def test_float_products_are_the_operators(tmp_path, inputs, node, weights, shape):
    proto = proto_from_text(f"g ({inputs}) => (float[a] y) {{ {node} }}", weights)
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    feeds = inputs_of(proto)
    expected = run_whole(proto, feeds)["y"]
    groups = cut_offloaded(load(tmp_path, proto).graph, OffloadChoice.ALL)
    offload = stand_ins.FloatOffload(groups)
    image = feeds["x"].ndim == 4
    (got,) = offload("y", feeds["x"].transpose(0, 2, 3, 1) if image else feeds["x"])
    np.testing.assert_allclose(got.transpose(0, 3, 1, 2) if image else got, expected, rtol=1e-5, atol=1e-5)
    zeros = stand_ins.ZeroOffload(groups)
    (nothing,) = zeros("y", feeds["x"].transpose(0, 2, 3, 1) if image else feeds["x"])
    assert nothing.shape == got.shape
    assert not nothing.any()
    assert zeros.shapes == {"y": shape}


# numbers


def test_snr():
    signal = np.array([3.0, 4.0], np.float32)
    assert compare.snr_db(signal, signal * np.float32(1.01)) == pytest.approx(40, abs=0.01)
    assert compare.snr_db(signal, -signal) == pytest.approx(20 * np.log10(0.5))
    assert compare.snr_db(signal, signal) == compare.snr_db(0 * signal, 0 * signal) == np.inf
    assert compare.snr_db(0 * signal, signal) == -np.inf


@pytest.mark.parametrize("check", [compare.require_equal, compare.require_close])
def test_limits(check):
    expected = np.array([[1.0, -4.0]], np.float32)
    check(expected, expected)
    check(expected, expected * np.float32(1.0005))
    for wrong in (-expected, expected * 1.02, expected * np.nan, 0 * expected, expected[:, :1], expected[0]):
        with pytest.raises(UnsupportedError, match=r"\d|nan"):
            check(expected, wrong)
    with pytest.raises(UnsupportedError):
        check(expected * np.nan, expected)


def test_errors_are_relative_to_the_largest_output():
    expected = np.array([0.0, 200.0], np.float32)
    assert compare.require_equal(expected, expected + np.float32([0.125, 0])) == pytest.approx(0.125 / 200)
    with pytest.raises(UnsupportedError, match=r"by 2\.5e-01 where the largest output is 2\.0e\+02"):
        compare.require_equal(expected, expected + np.float32([0.25, 0]))
    assert compare.require_equal(0 * expected, 0 * expected) == 0
    with pytest.raises(UnsupportedError):
        compare.require_equal(0 * expected, expected)


def test_a_hoisted_value_without_rows_is_refused(tmp_path, reference):
    passed = Program(inputs=(PROMPT,), outputs=(PROMPT,), steps=())
    programs = Programs(prompt=passed, timestep=EMPTY, sample=EMPTY)
    three = replace(reference, conditions={PROMPT: np.repeat(reference.conditions[PROMPT][:1], 3, axis=0)})
    with pytest.raises(UnsupportedError, match=rf"{PROMPT} has shape \(3, .* for 2 prompts"):
        reference_runs.composed_output(tmp_path, programs, three, lambda _name, _x: [])


def test_a_model_that_does_not_load_is_refused(tmp_path):
    (tmp_path / "text_encoder").mkdir()
    (tmp_path / "text_encoder" / "model.onnx").write_bytes(b"not ONNX")
    with pytest.raises(InputError, match="trace the pipeline again with --retrace"):
        reference_runs.reference_from_model(tmp_path, config_from_model(MODEL))
