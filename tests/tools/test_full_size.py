"""The tools that measure full-size models, at a reduced size."""

import json
from pathlib import Path

import pytest
from made_models import make, tool

from ppidm.export import samplers
from ppidm.export.graph import load_graph
from ppidm.export.offload import cut_offloaded
from ppidm.export.settings import OffloadChoice
from ppidm.export.stand_ins import FloatOffload
from ppidm.protocol.manifest import ClientManifest, load_manifest

ROOT = Path(__file__).parents[2]
MEASURED = ROOT / "docs" / "measurements"


@pytest.fixture(scope="module")
def largest_slices():
    return tool("largest_slices")


def test_every_kind_is_there_with_its_largest_slice(largest_slices, package):
    slices = load_manifest(package / "client", ClientManifest).slices
    chosen = largest_slices.largest(slices)
    assert {"convolution 3x3", "convolution 3x3 /2", "product"} <= set(chosen)
    for subgraph in slices:
        kind = largest_slices.kind_of(subgraph)
        assert largest_slices.flops_of(chosen[kind]) >= largest_slices.flops_of(subgraph)


def test_a_slice_in_a_package_of_its_own(largest_slices, package, tmp_path):
    manifest = load_manifest(package / "client", ClientManifest)
    subgraph = largest_slices.largest(manifest.slices)["convolution 3x3 /2"]
    largest_slices.write_package(package, manifest, tmp_path / "one", [subgraph])
    graph = load_graph(ROOT / "models" / "default" / "unet" / "model.onnx").graph
    exact = FloatOffload(cut_offloaded(graph, OffloadChoice.ALL))
    row = largest_slices.run(tmp_path / "one", "convolution 3x3 /2", subgraph, exact)
    assert row["verified"]
    assert row["snr_db"] > 50
    assert row["evaluator"]["sent"] == pytest.approx(row["declared"]["sent"], abs=1000)
    assert row["evaluator"]["received"] == pytest.approx(row["declared"]["received"], abs=1000)


@pytest.mark.slow
def test_one_evaluation(tmp_path, monkeypatch):
    monkeypatch.setattr(samplers, "MAX_STEPS", 2)
    model = make("sd15", tmp_path / "sd15")
    figures = tool("full_size").measure(model, tmp_path / "package")
    assert figures["snr_db"] > 45
    assert figures["unet_fraction"] > 0.5
    assert figures["traffic"]["evaluator"]["received"] == pytest.approx(figures["declared"]["received"], rel=0.1)
    assert figures["peak_megabytes"].keys() == {"local", "client", "evaluator", "dealer"}


@pytest.mark.slow
def test_a_whole_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(samplers, "MAX_STEPS", 2)
    model = make("sd-turbo", tmp_path / "sd-turbo")
    figures = tool("full_picture").measure(model, tmp_path / "package", "unet,vae", 1, 0.0)
    assert figures["psnr_db"] > 45
    assert figures["contrast"] > 0.01
    assert figures["report"]["offload"]["fraction"] > 0.5
    assert figures["peak_megabytes"].keys() == {"client", "evaluator", "dealer"}


def test_what_was_measured_of_sdxl():
    figures = json.loads((MEASURED / "sdxl.json").read_text())
    partition = json.loads((MEASURED / "partition.json").read_text())["sdxl"]
    assert figures["slices"] == partition["shares"]["all"]["slices"]
    assert figures["export"]["unet_fraction"] == pytest.approx(partition["shares"]["all"]["share"], abs=1e-3)
    assert figures["export"]["peak_megabytes"] < 16_000
    assert len(figures["largest"]) > 4
    for row in figures["largest"]:
        assert row["verified"]
        assert row["snr_db"] > 50
        assert row["evaluator"]["received"] == pytest.approx(row["declared"]["received"], rel=0.01)
        assert row["evaluator"]["sent"] == pytest.approx(row["declared"]["sent"], rel=0.015)


def test_what_was_measured_of_a_whole_picture():
    figures = json.loads((MEASURED / "sd-turbo.json").read_text())
    shares = json.loads((MEASURED / "partition.json").read_text())["sd-turbo"]["shares"]
    assert figures["psnr_db"] > 50
    assert figures["report"]["offload"]["unet_fraction"] == pytest.approx(shares["all"]["share"], abs=1e-3)
    assert (
        figures["report"]["offload"]["fraction"] > figures["report"]["offload"]["unet_fraction"]
    )  # the decoder's share
    assert figures["export"]["peak_megabytes"] < 16_000
    readme = (ROOT / "README.md").read_text()
    for figure in (
        f"{figures['psnr_db']:.1f} dB PSNR",
        f"{figures['report']['offload']['fraction']:.1%}".replace("%", " %"),
    ):
        assert figure in readme
