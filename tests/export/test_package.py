"""What `ppidm export` writes."""

import stat

import numpy as np
import pytest
from command_line import run_ppidm, serving
from conftest import MODEL

from ppidm.client import PrivateStableDiffusionPipeline
from ppidm.protocol.check_file import VECTORS, read_checks
from ppidm.protocol.manifest import CheckManifest, ClientManifest, ServerManifest, load_manifest


def contents(folder):
    """Every file below `folder`, hidden ones too."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def conv(tmp_path_factory):
    """Three servers, convolutions only, in place of an older package."""
    out = tmp_path_factory.mktemp("conv") / "package"
    (out / "client").mkdir(parents=True)
    (out / "client" / "manifest.json").write_text("{}")
    (out / "old").write_text("of an older package")
    shown = run_ppidm("export", MODEL, out, "--servers", "3", OFFLOAD="conv", FORCE=1)
    assert (shown.status, shown.err) == (0, "")
    assert shown.out.startswith(f"{out}: ")
    assert ", 3 servers; " in shown.out
    assert " % of the FLOPs offloaded; partition error " in shown.out
    return out


def test_the_old_package_is_replaced(conv):
    assert {path.name for path in conv.iterdir()} == {"client", "check", "server-0", "server-1", "server-2"}
    assert list(conv.parent.iterdir()) == [conv]


@pytest.mark.parametrize("directory", ["package", "conv"])
def test_every_directory_is_complete(request, directory):
    out = request.getfixturevalue(directory)
    client = load_manifest(out / "client", ClientManifest)
    check = load_manifest(out / "check", CheckManifest)
    servers = [load_manifest(path, ServerManifest) for path in sorted(out.glob("server-*"))]
    assert len(servers) == client.servers == (2 if directory == "package" else 3)
    assert {manifest.package for manifest in (client, check, *servers)} == {client.package}
    assert client.model == MODEL.name
    for manifest, path in ((client, out / "client"), (check, out / "check"), (servers[0], out / "server-0")):
        assert set(contents(path)) == set(manifest.files) | {"manifest.json"}


def test_servers_are_full_copies_of_slices_and_nothing_else(conv):
    first, second, third = (contents(conv / f"server-{index}") for index in range(3))
    assert first == second == third
    assert {name.split("/")[0] for name in first} == {"slices", "manifest.json"}


def test_the_check_folder_is_its_owners(conv):
    modes = {path: stat.S_IMODE((conv / path).stat().st_mode) for path in ("check", f"check/{VECTORS}", "client")}
    assert modes == {"check": 0o700, f"check/{VECTORS}": 0o600, "client": 0o755}


def test_offload_conv_leaves_products_to_the_client(package, conv):
    everything, fewer = (load_manifest(out / "client", ClientManifest) for out in (package, conv))
    assert set(fewer.slices) < set(everything.slices)
    assert fewer.package != everything.package
    left = set(everything.slices) - set(fewer.slices)
    assert {layer.kind for subgraph in left for layer in subgraph.layers} == {"product"}
    of_linear = {subgraph for subgraph in everything.slices if is_of_linear(subgraph.name)}
    assert left == of_linear  # a 1x1 convolution is a product too, but goes


def is_of_linear(name):
    """Whether a slice of the shipped model is of `torch.nn.Linear`."""
    return any(part in name for part in ("attn", "ff.net", "time_emb"))


def test_every_export_draws_its_own_check_vectors(package, conv):
    slices = load_manifest(conv / "client", ClientManifest).slices
    everything = load_manifest(package / "client", ClientManifest).slices
    ours, theirs = read_checks(conv / "check" / VECTORS, slices), read_checks(package / "check" / VECTORS, everything)
    for subgraph in slices:  # of the same weights
        for one, other in zip(ours[subgraph.name], theirs[subgraph.name], strict=True):
            assert not (one.v == other.v).any()


def test_offload_conv_draws_the_same_picture(package, conv, servers):
    noise = np.random.default_rng(5).standard_normal((1, 4, 16, 16), np.float32)
    arguments = {"prompt": "red apple, 3d style", "latents": noise, "output_type": "np", "num_inference_steps": 4}
    with PrivateStableDiffusionPipeline.from_package(
        package / "client", evaluator=servers[0], dealers=[servers[1]]
    ) as pipe:
        everything = pipe(**arguments)
    with (
        serving(conv / "server-2") as evaluator,
        serving(conv / "server-0") as dealer,
        PrivateStableDiffusionPipeline.from_package(
            conv / "client", evaluator=evaluator.address, dealers=[dealer.address]
        ) as pipe,
    ):
        fewer = pipe(**arguments)
    assert -10 * np.log10(np.square(everything.images - fewer.images, dtype=np.float64).mean()) > 50
    assert everything.images.std() > 0.1
    assert 0.3 < fewer.report.offload.unet_fraction < everything.report.offload.unet_fraction
    assert fewer.report.rounds < everything.report.rounds
