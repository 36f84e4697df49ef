"""`--precision fast`: a ring of 24 bits from the export to the picture."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from command_line import ppidm, serving
from conftest import MODEL

from ppidm.client.pipeline import PrivateStableDiffusionPipeline as Pipeline
from ppidm.engines.onnxruntime import CpuEngine
from ppidm.export.check_keys import weights_from_slice
from ppidm.protocol.cost import direct_cost
from ppidm.protocol.manifest import CheckManifest, ClientManifest, ServerManifest, load_manifest
from ppidm.protocol.precision import Precision

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STEPS = 2


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fast") / "package"
    shown = ppidm("export", MODEL, out, "--precision", "fast")
    assert shown.status == 0, shown.err
    return out


@pytest.fixture(scope="module")
def addresses(fast: Path) -> Iterator[list[str]]:
    with serving(fast / "server-0") as evaluator, serving(fast / "server-1") as dealer:
        yield [evaluator.address, dealer.address]


def test_the_manifests_say_it(fast: Path) -> None:
    for folder, kind in (("client", ClientManifest), ("check", CheckManifest), ("server-1", ServerManifest)):
        manifest = load_manifest(fast / folder, kind)
        assert (manifest.precision, manifest.ring_bits, manifest.weight_bits) == (Precision.FAST, 24, 8)


def test_weights_have_eight_bits_and_no_layer_is_split(fast: Path) -> None:
    manifest = load_manifest(fast / "server-0", ServerManifest)
    for subgraph in manifest.slices[::10]:
        for weights in weights_from_slice(fast / "server-0" / subgraph.file, subgraph.layers):
            assert np.abs(weights).max() == 127
    assert {layer.parts for subgraph in manifest.slices for layer in subgraph.layers} == {1}
    assert CpuEngine(manifest.ring).load(fast / "server-0", manifest.slices[0])  # passes its self-test


def test_a_picture_audited_throughout(fast: Path, addresses: list[str], first: object) -> None:
    """`first` is the exact one: the same prompt, latents and steps."""
    evaluator, dealer = addresses
    with Pipeline.from_package(fast / "client", evaluator=evaluator, dealers=[dealer], audit=1.0) as pipe:
        result = pipe("red apple", num_inference_steps=STEPS, generator=11, output_type="latent")
    exact = first.result.images  # type: ignore[attr-defined]
    noise, signal = (float(np.square(values, dtype=np.float64).sum()) for values in (exact - result.images, exact))
    assert 20 < 10 * np.log10(signal / noise) < 60
    assert result.report.audits > 100


def test_its_bytes(fast: Path, addresses: list[str], tmp_path: Path) -> None:
    """Three up, two down, as declared."""
    settings = {"EVALUATOR": addresses[0], "DEALER": addresses[1], "NUM_INFERENCE_STEPS": 1, "GUIDANCE_SCALE": 1}
    settings |= {"OUTPUT": tmp_path / "a.png", "REPORT": tmp_path / "a.json", "AUDIT": 0}
    assert ppidm("generate", fast / "client", "red apple", **settings).status == 0
    report = json.loads((tmp_path / "a.json").read_text())
    manifest = load_manifest(fast / "client", ClientManifest)
    dropped = manifest.precision.dropped_bits
    costs = [direct_cost(manifest.ring, s.layers, s.nominal_shape, dropped) for s in manifest.slices]
    assert report["traffic"]["evaluator"]["sent"] == pytest.approx(sum(c.evaluator_sent for c in costs), rel=0.03)
    assert report["traffic"]["evaluator"]["received"] == pytest.approx(sum(c.received for c in costs), rel=0.02)
    assert (report["precision"], report["audits"], report["verified"]) == ("fast", 0, False)


def test_relay_mode_moves_little_more_than_an_unprotected_split(
    fast: Path, addresses: list[str], tmp_path: Path
) -> None:
    """Of the same layers, in float16."""
    settings = {"EVALUATOR": addresses[0], "DEALER": addresses[1], "NUM_INFERENCE_STEPS": 2, "MODE": "relay"}
    settings |= {"OUTPUT": tmp_path / "a.png", "REPORT": tmp_path / "a.json", "AUDIT": 0}
    shown = ppidm("generate", fast / "client", "red apple", **settings)
    assert (shown.status, shown.err) == (0, "")
    traffic = json.loads((tmp_path / "a.json").read_text())["traffic"]
    moved = sum(server[way] for server in (traffic["evaluator"], *traffic["dealers"]) for way in ("sent", "received"))
    assert traffic["float16_split"] < moved < 1.3 * traffic["float16_split"]
    assert traffic["relay"] == pytest.approx(1.5 * traffic["evaluator"]["received"], rel=0.03)
