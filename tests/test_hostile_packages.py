"""Packages that want more than to be run: SECURITY.md, "What a package could try"."""

import json
import os
import shutil

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from small_models import INT64, attach, constant, model, node

from ppidm.client.conditions import TextEncoder
from ppidm.client.package import load_package
from ppidm.client.pictures import ImageDecoder
from ppidm.client.shapes import ShapeRecord
from ppidm.engines.program import ProgramRunner
from ppidm.export.check_keys import draw_check_keys
from ppidm.export.client_files import save_graph
from ppidm.protocol.check import require_norm
from ppidm.protocol.errors import PackageError, UnsupportedError
from ppidm.protocol.fixed_point import largest_scale
from ppidm.protocol.linear import Layer
from ppidm.protocol.manifest import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    ClientManifest,
    ServerManifest,
    digests_of,
    load_manifest,
    package_digest,
)
from ppidm.protocol.openings import OPENINGS, read_openings
from ppidm.protocol.records import Subgraph
from ppidm.protocol.ring import Ring


@pytest.fixture
def own(package, tmp_path):
    """A copy of the shipped model's package, of which one server is enough."""
    for name in ("client", "server-0"):
        shutil.copytree(package / name, tmp_path / name)
    return tmp_path


def seal(directory, **changes):
    """What whoever made the package can do: a manifest that fits its files."""
    path = directory / MANIFEST
    manifest = json.loads(path.read_text()) | changes
    if "slices" in changes:
        manifest["package"] = package_digest([Subgraph.model_validate(entry) for entry in manifest["slices"]])
    path.write_text(json.dumps(manifest | {"files": digests_of(directory)}))
    return load_manifest(directory, {"client": ClientManifest, "server": ServerManifest}[manifest["kind"]])


def first_segment(client):
    manifest = load_manifest(client, ClientManifest)
    return manifest.programs.sample, next(step for step in manifest.programs.sample.steps if step.kind == "segment")


def load_program(client):
    manifest = seal(client)
    return ProgramRunner(client, manifest.programs.sample, 1)


def add_external(graph):
    tensor = graph.graph.initializer.add(name="stolen", data_type=1, dims=[4], data_location=1)
    tensor.external_data.add(key="location", value="../secret.bin")


def add_length_from_value(graph):
    value = graph.graph.input[0].name
    graph.graph.node.append(node("Cast", [value], ["guess"], to=INT64))


def add_branch(graph):
    graph.graph.node.append(node("If", [graph.graph.input[0].name], ["other"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (add_external, "tensor 'stolen' lies in another file"),
        (add_length_from_value, "Cast makes integers of a value that depends on secrets"),
        (add_branch, "operator 'If', which a segment may not hold"),
        (
            lambda graph: graph.graph.input.add().CopyFrom(onnx.helper.make_tensor_value_info("z", 1, [1])),
            "not a segment of",
        ),
        (lambda graph: graph.graph.output.pop(), "not a segment of this package"),
    ],
)
def test_a_segment(own, change, message):
    client = own / "client"
    load_program(client)
    path = client / first_segment(client)[1].file
    onnx.save(attach(onnx.load(path), change), path)
    with pytest.raises(PackageError, match=message):
        load_program(client)


@pytest.mark.parametrize("file", ["text_encoder.onnx", "vae_decoder.onnx"])
def test_the_other_graphs_of_a_client(own, file):
    client = own / "client"
    manifest = seal(client)

    def load():
        TextEncoder(client, manifest.max_tokens, ["last_hidden_state"], threads=1)
        ImageDecoder(client, manifest, threads=1)

    load()
    onnx.save(attach(onnx.load(client / file), add_external), client / file)
    with pytest.raises(PackageError, match=f"{file}: .* lies in another file"):
        load()


@pytest.mark.parametrize("key", ["truncation", "padding"])
def test_a_tokenizer_whose_length_tells_prompts_apart(own, key):
    path = own / "client" / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer[key] = None
    path.write_text(json.dumps(tokenizer))
    with pytest.raises(PackageError, match="servers could tell prompts apart"):
        TextEncoder(own / "client", seal(own / "client").max_tokens, ["last_hidden_state"], threads=1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scales_that_are_not_finite(own, value):
    client = own / "client"
    with np.load(client / OPENINGS) as file:
        arrays = dict(file)
    name = min(arrays)
    arrays[name][0] = value
    np.savez(client / OPENINGS, **arrays)
    with pytest.raises(PackageError, match="SHA-256"):
        load_package(client, verify=False)
    seal(client)
    with pytest.raises(PackageError, match=f"array '{name}' holds inf or nan"):
        read_openings(client / OPENINGS, seal(client).slices)


def test_weights_whose_norm_is_understated(own):
    """The client would overflow for large activations only, and its check would fail for them only."""
    server = own / "server-0"
    assert draw_check_keys(server, own / "check") == len(load_manifest(server, ServerManifest).slices)
    slices = json.loads((server / MANIFEST).read_text())["slices"]
    slices[5]["layers"][0]["weight_norm"] *= 0.999
    seal(server, slices=slices)
    with pytest.raises(
        PackageError, match=f"{slices[5]['layers'][0]['name']}: the manifest says that its weights have norm"
    ):
        draw_check_keys(server, own / "check-2")
    assert not (own / "check-2").exists()


def test_a_norm_is_compared_with_the_largest_row():
    weights = np.array([[3, 4], [6, 8], [0, 0]])[:, :, None, None]
    layer = Layer(name="a", kind="product", in_channels=2, out_channels=3, weight_norm=10)
    require_norm(layer, weights)
    with pytest.raises(PackageError, match=r"norm 9\.99; expected at least 10"):
        require_norm(layer.model_copy(update={"weight_norm": 9.99}), weights)


@pytest.mark.parametrize("x", [0.0, 1.0])
def test_weights_without_room_are_refused_whatever_the_activation_is(x):
    layer = Layer(name="a", kind="product", in_channels=2, out_channels=3, weight_norm=2.0**40)
    with pytest.raises(PackageError, match="leave no room"):
        largest_scale(Ring(32), [layer], np.full((1, 2), x, np.float32), 1)


def test_a_slice_with_weights_in_another_file(own):
    server = own / "server-0"
    path = server / load_manifest(server, ServerManifest).slices[0].file
    onnx.save(attach(onnx.load(path), add_external), path)
    slices = json.loads((server / MANIFEST).read_text())["slices"]
    slices[0]["sha256"] = digests_of(server)[slices[0]["file"]]
    seal(server, slices=slices)
    with pytest.raises(PackageError, match="lies in another file"):
        draw_check_keys(server, own / "check")


def test_links_and_pipes(own):
    client = own / "client"
    path = client / "samplers.npz"
    path.rename(own / "elsewhere.npz")
    path.symlink_to(own / "elsewhere.npz")
    load_manifest(client, ClientManifest)  # as in the cache of the Hugging Face Hub: the digest decides
    (own / "elsewhere.npz").write_bytes(b"")
    with pytest.raises(PackageError, match="SHA-256"):
        load_manifest(client, ClientManifest)
    for target in ("/dev/zero", own):
        path.unlink()
        path.symlink_to(target)
        with pytest.raises(PackageError, match="not a file"):
            load_manifest(client, ClientManifest)


def test_manifests_that_never_end(own):
    path = own / "client" / MANIFEST
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(PackageError, match=r"not a readable manifest .not a file"):
        load_manifest(own / "client", ClientManifest)
    path.unlink()
    with path.open("wb") as file:
        file.truncate(MAX_MANIFEST_BYTES + 1)
    with pytest.raises(PackageError, match=r"not a readable manifest .more than"):
        load_manifest(own / "client", ClientManifest)


def test_a_slice_is_asked_for_one_shape_only():
    record = ShapeRecord()
    for name in ("a", "b", "a"):
        record.require_unchanged(name, (2, 4) if name == "a" else (3, 4))
    with pytest.raises(PackageError, match=r"slice a got an input of shape \(3, 4\) after one of shape \(2, 4\)"):
        record.require_unchanged("a", (3, 4))
    ShapeRecord().require_unchanged("a", (3, 4))


def test_export_does_not_write_what_clients_refuse(tmp_path):
    graph = ir.from_proto(model([node("NonZero", ["x"], ["y"])], [constant("w", np.ones(1))]))
    with pytest.raises(
        UnsupportedError, match=r"a segment would hold what ppidm does not run \(node 'y': operator 'NonZero'"
    ):
        save_graph(graph, tmp_path / "x.onnx")
