"""`--offload SHARE`: the share that was asked for, at the fewest bytes; and the VAE decoder on the servers too."""

import numpy as np
import pytest
from conftest import MODEL
from in_process import serving_here

from ppidm.client import PrivateStableDiffusionPipeline
from ppidm.export.client_files import config_from_model
from ppidm.export.graph import load_graph
from ppidm.export.offload import cut_offloaded
from ppidm.export.package import export_package
from ppidm.export.reference import dry_run
from ppidm.export.settings import ExportSettings, OffloadChoice
from ppidm.export.share import bytes_of, choose_share, work_of
from ppidm.protocol.errors import UnsupportedError
from ppidm.protocol.manifest import ClientManifest, load_manifest
from ppidm.protocol.ring import Ring

RING = Ring(32)
PICTURE = {
    "prompt": "red apple, 3d style",
    "latents": np.random.default_rng(5).standard_normal((1, 4, 16, 16), np.float32),
    "output_type": "np",
    "num_inference_steps": 3,
}


@pytest.fixture(scope="module")
def everything(package):
    """All slices of the shipped model, and what a dry run tells of them."""
    groups = cut_offloaded(load_graph(MODEL / "unet" / "model.onnx").graph, OffloadChoice.ALL)
    config = config_from_model(MODEL)
    feeds = {
        "sample": np.zeros((1, *config.sample_shape), np.float32),
        "timestep": np.zeros(1, np.float32),
        "encoder_hidden_states": np.zeros((1, config.max_tokens, 160), np.float32),
    }
    programs = load_manifest(package / "client", ClientManifest).programs
    return groups, dry_run(package / "client", programs.all, groups, feeds)


def share_and_bytes(groups, dry, names):
    work = {group.name: work_of(group, dry.shapes[group.name]) for group in groups}
    price = sum(bytes_of(group, dry.shapes[group.name], RING) for group in groups if group.name in names)
    return sum(work[name] for name in names) / (sum(work.values()) + dry.client_flops), price


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.67, 0.75, 0.84, 0.9])
def test_the_share_is_met(everything, share):
    got, _ = share_and_bytes(*everything, choose_share(*everything, share, RING))
    assert got == pytest.approx(share, abs=0.03)


def test_the_best_goes_first(everything):
    shares = (0.3, 0.5, 0.67, 0.92)
    prices = [share_and_bytes(*everything, choose_share(*everything, share, RING)) for share in shares]
    per_share = [price / share for share, price in prices]
    assert per_share == sorted(per_share)


def test_what_cannot_be_met_is_refused(everything):
    with pytest.raises(UnsupportedError, match=r"at most 0\.9\d\d of this model's FLOPs can be offloaded"):
        choose_share(*everything, 0.99, RING)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    out = tmp_path_factory.mktemp("shared") / "package"
    settings = ExportSettings(str(MODEL), out, offload=0.6, components=("unet", "vae"))
    return export_package(settings)


def test_a_picture_of_a_share_with_the_decoder_offloaded(package, servers, shared):
    with PrivateStableDiffusionPipeline.from_package(
        package / "client", evaluator=servers[0], dealers=servers[1:2]
    ) as pipe:
        expected = pipe(**PICTURE)
    with (
        serving_here(shared.out) as (evaluator, dealer),
        PrivateStableDiffusionPipeline.from_package(
            shared.out / "client", evaluator=evaluator, dealers=[dealer]
        ) as pipe,
    ):
        got = pipe(**PICTURE)
    assert -10 * np.log10(np.square(got.images - expected.images, dtype=np.float64).mean()) > 45
    assert shared.share == pytest.approx(0.6, abs=0.03)
    assert got.report.offload.unet_fraction == pytest.approx(0.6, abs=0.03)
    assert expected.report.offload.fraction < expected.report.offload.unet_fraction
    assert got.report.offload.fraction > got.report.offload.unet_fraction  # nearly all of the decoder's work
    assert not (shared.out / "client" / "vae_decoder.onnx").exists()


def test_an_overflow_before_the_decoder_is_told_after_it(shared):
    """Servers see the same requests, whatever the latents are."""
    with (
        serving_here(shared.out) as (evaluator, dealer),
        PrivateStableDiffusionPipeline.from_package(
            shared.out / "client", evaluator=evaluator, dealers=[dealer]
        ) as pipe,
    ):
        asked = []
        server = pipe._servers.evaluator
        ask = server.ask
        server.ask = lambda name, tensors: asked.append((name, tensors[0].shape)) or ask(name, tensors)
        pipe(**PICTURE)
        usual = sorted(asked)
        asked.clear()
        with pytest.raises(Exception, match="inf or nan"):
            pipe(**PICTURE, guidance_scale=1e300)
        assert sorted(asked) == usual
