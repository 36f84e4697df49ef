import hashlib
import json
import os
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from linear_cases import LAYERS, input_shape

from ppidm.protocol.errors import InputError, PackageError
from ppidm.protocol.manifest import (
    CheckManifest,
    ClientManifest,
    ServerManifest,
    digests_of,
    file_digest,
    load_manifest,
    manifest_kind,
    package_digest,
    write_manifest,
)
from ppidm.protocol.records import ImageConfig, Offload, Program, Programs, Proof, Segment, SelfTest, Subgraph
from ppidm.protocol.ring import Ring

KINDS = {"server": ServerManifest, "client": ClientManifest, "check": CheckManifest}
EMPTY = Program(inputs=(), outputs=(), steps=())


def subgraph(layer):
    return Subgraph(
        name=layer.name,
        file=f"slices/{layer.name}.onnx",
        sha256=hashlib.sha256(layer.name.encode()).hexdigest(),
        layers=(layer,),
        nominal_shape=input_shape(layer),
        self_test=SelfTest(shape=input_shape(layer), digest="0" * 64),
    )


def write_package(directory, kind):
    """A directory of one kind: two slices, and three files of a few bytes."""
    for name in ("slices/product.onnx", "slices/strided.onnx", "segments/first.onnx"):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(name.encode())
    slices = (subgraph(LAYERS["product"]), subgraph(LAYERS["strided"]))
    common = {
        "model": "tiny ünï 模型",
        "package": package_digest(slices),
        "ring_bits": 24,
        "weight_bits": 8,
        "slices": slices,
        "files": digests_of(directory),
    }
    if kind == "client":
        steps = (
            Segment(file="segments/first.onnx", reads=("sample",), writes=("hidden",)),
            Offload(slice="product", reads=("hidden",), writes=("noise",)),
        )
        sample = Program(inputs=("sample",), outputs=("noise",), steps=steps)
        common |= {
            "servers": 2,
            "programs": Programs(prompt=EMPTY, timestep=EMPTY, sample=sample),
            "image": ImageConfig(
                height=64, width=64, latent_channels=4, vae_scale_factor=8, size_multiple=16, scaling_factor=0.18
            ),
            "max_tokens": 77,
            "scheduler": "DDIMScheduler",
        }
    write_manifest(directory, KINDS[kind](**common))
    return KINDS[kind](**common)


@pytest.fixture
def package(tmp_path):
    write_package(tmp_path, "server")
    return tmp_path


def edit(directory, change):
    """Let `change` edit the manifest as JSON."""
    path = directory / "manifest.json"
    content = json.loads(path.read_bytes())
    change(content)
    path.write_text(json.dumps(content))


def refused(directory, kind=ServerManifest):
    """The message of the PackageError, which names a path in `directory`."""
    with pytest.raises(PackageError) as error:
        load_manifest(directory, kind)
    message = str(error.value)
    assert message.startswith(str(directory))
    assert len(message) < 1000
    return message


@pytest.mark.parametrize("kind", KINDS)
def test_a_manifest_round_trips(kind, tmp_path):
    manifest = write_package(tmp_path, kind)
    assert load_manifest(tmp_path, KINDS[kind]) == manifest
    assert manifest_kind(tmp_path) == manifest.kind == kind
    assert manifest.ring == Ring(24)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_another_kind_is_refused(kind, other, tmp_path):
    write_package(tmp_path, kind)
    if kind != other:
        assert f"the manifest of a '{kind}' directory; expected '{other}'" in refused(tmp_path, KINDS[other])


def test_a_directory_without_a_manifest_is_refused(tmp_path):
    assert "manifest.json: not a readable manifest" in refused(tmp_path)
    assert "expected a directory of `ppidm export`" in refused(tmp_path / "nowhere")
    with pytest.raises(PackageError, match=r"manifest\.json: not a readable manifest"):
        manifest_kind(tmp_path)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_truncated_or_corrupted_manifest_is_refused_or_says_the_same(package, data):
    good = load_manifest(package, ServerManifest)
    path = package / "manifest.json"
    content = path.read_bytes()
    place = data.draw(st.integers(0, len(content.rstrip()) - 1))
    if data.draw(st.booleans()):
        damaged = content[:place]
    else:
        damaged = content[:place] + data.draw(st.binary(min_size=1, max_size=3)) + content[place + 1 :]
    path.write_bytes(damaged)
    try:
        loaded = load_manifest(package, ServerManifest)
    except PackageError as error:
        assert str(error).startswith(str(package))  # noqa: PT017  (a damaged blank may still be a manifest)
    else:
        free = {"model", "ring_bits", "weight_bits"}  # what no digest covers
        assert loaded.model_dump(exclude=free) | {"files": 0} == good.model_dump(exclude=free) | {"files": 0}
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00", b"\xff\xfe", b"null", b"[]", b'"manifest"', b"[" * 100_000, b'{"a":' * 100_000, b"1" * 10_000],
    ids=["empty", "nul", "not UTF-8", "null", "list", "text", "deep list", "deep object", "huge number"],
)
def test_other_json_is_refused(package, content):
    (package / "manifest.json").write_bytes(content)
    assert "manifest.json: " in refused(package)


@pytest.mark.parametrize("version", [0, 2, "1", None, "2\n" * 500])
def test_another_format_version_is_refused(package, version):
    edit(package, lambda manifest: manifest.update(format=version))
    assert f"manifest.json: format {ascii(version)[:200]}; this ppidm reads format 1" in refused(package)


def set_layer(**fields):
    return lambda manifest: manifest["slices"][0]["layers"][0].update(fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda manifest: manifest.update(surprise=1), "'surprise': Extra inputs"),
        (lambda manifest: manifest.pop("ring_bits"), "'ring_bits': Field required"),
        (lambda manifest: manifest.update(ring_bits=31), "'ring_bits': Value error, ring_bits is 31"),
        (lambda manifest: manifest.update(slices="all"), "'slices': Input should be a valid tuple"),
        (lambda manifest: manifest.update(package="0" * 63), "'package': String should match"),
        (lambda manifest: manifest.update(package="0" * 64), "`package` is not the digest of the slices"),
        (lambda manifest: manifest["slices"].pop(), "`package` is not the digest of the slices"),
        (lambda manifest: manifest["slices"].reverse(), "`package` is not the digest of the slices"),
        (lambda manifest: manifest["slices"][0].update(sha256="1" * 64), "`package` is not the digest of the slices"),
        (lambda manifest: manifest["slices"][0].update(name="other"), "`package` is not the digest of the slices"),
        (lambda manifest: manifest["slices"][0].update(name="a/b"), "'slices.0.name': String should match"),
        (lambda manifest: manifest["slices"][0].update(layers=[]), "'slices.0.layers': Tuple should have at least 1"),
        (lambda manifest: manifest["slices"][0].update(nominal_shape=[6, 4]), "product: input shape is (6, 4)"),
        (
            lambda manifest: manifest["slices"][0]["self_test"].update(shape=[2**40, 5]),
            "'slices.0': Value error, product: (1099511627776, 5)",
        ),
        (set_layer(weight_norm=float("nan")), "weight_norm': Input should be a finite number"),
        (set_layer(weight_norm=2.0), "`package` is not the digest of the slices"),
        (set_layer(kernel=[3, 3]), "a product with the geometry of a convolution"),
        (set_layer(in_channels=-5), "in_channels': Input should be greater than 0"),
        (set_layer(colour="red"), "colour': Extra inputs"),
        (lambda manifest: manifest["files"].update({"a": "xyz"}), "'files.a': String should match"),
    ],
)
def test_what_the_manifest_must_not_say(package, change, message):
    edit(package, change)
    assert message in refused(package)


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/etc/hostname", "..", ".", "", "a\\..\\x", "a\x00b", "a\nb", "\ud800", "\x1b[2J"]
)
@pytest.mark.parametrize("where", ["files", "slices"])
def test_paths_that_leave_the_package_are_refused(package, name, where):
    def change(manifest):
        if where == "files":
            manifest["files"][name] = "0" * 64
        else:
            manifest["slices"][0]["file"] = name

    (package.parent / "x").write_text("outside")
    edit(package, change)
    message = refused(package)
    assert "no path inside of a package directory" in message or "valid unicode" in message
    assert message.isprintable()


def test_a_segment_without_a_digest_is_refused(tmp_path):
    write_package(tmp_path, "client")
    edit(tmp_path, lambda manifest: manifest["files"].pop("segments/first.onnx"))
    assert "no digest of segment segments/first.onnx" in refused(tmp_path, ClientManifest)


def test_a_changed_file_is_refused(package):
    path = package / "slices" / "product.onnx"
    path.write_bytes(path.read_bytes().swapcase())
    assert "product.onnx: SHA-256 is " in refused(package)
    path.write_bytes(b"")
    assert "product.onnx: SHA-256 is e3b0c44298fc1c14..., the manifest says" in refused(package)


def test_a_missing_file_is_refused(package):
    (package / "slices" / "product.onnx").unlink()
    assert "product.onnx: No such file or directory; copy or export the package again" in refused(package)
    shutil.rmtree(package / "slices")
    (package / "slices").write_text("a file where a directory was")
    assert "product.onnx: " in refused(package)


def test_a_file_of_an_impossible_name_is_refused(package):
    edit(package, lambda manifest: manifest["files"].update({"a" * 5000: "0" * 64}))
    with pytest.raises(PackageError, match="File name too long"):
        load_manifest(package, ServerManifest)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_is_no_file_is_refused(package):
    path = package / "slices" / "product.onnx"
    path.unlink()
    os.mkfifo(path)  # reading it would wait for ever
    assert "product.onnx: not a file" in refused(package)
    path.unlink()
    path.mkdir()
    assert "product.onnx: not a file" in refused(package)
    path.rmdir()
    path.symlink_to(path)
    assert "product.onnx: " in refused(package)


def test_a_link_is_followed_and_its_content_verified(package, tmp_path_factory):
    """Hugging Face's cache is made of links that leave the directory. The digest pins what they lead to."""
    path, blob = package / "slices" / "product.onnx", tmp_path_factory.mktemp("blobs") / "blob"
    shutil.move(path, blob)
    path.symlink_to(blob)
    assert load_manifest(package, ServerManifest)
    blob.write_text("something else")
    assert "product.onnx: SHA-256 is " in refused(package)


def test_surplus_files_are_ignored(package):
    (package / "README.md").write_text("hello")
    assert load_manifest(package, ServerManifest)


def test_digests_cover_every_file_but_the_manifest_itself(package):
    (package / "tokenizer").mkdir()
    (package / "tokenizer" / "manifest.json").write_text("{}")
    digests = digests_of(package)
    names = ["segments/first.onnx", "slices/product.onnx", "slices/strided.onnx", "tokenizer/manifest.json"]
    assert list(digests) == names
    assert digests["slices/product.onnx"] == hashlib.sha256(b"slices/product.onnx").hexdigest()


def test_the_digest_of_a_large_file(tmp_path):
    content = bytes(range(256)) * 8193  # more than two chunks
    (tmp_path / "large").write_bytes(content)
    assert file_digest(tmp_path / "large") == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "other"},
        {"file": "other.onnx"},
        {"sha256": "1" * 64},
        {"nominal_shape": (7, 5)},
        {"self_test": SelfTest(shape=(6, 5), digest="1" * 64)},
        {"layers": (LAYERS["product"].model_copy(update={"weight_norm": 2.0}),)},
        {"proof": Proof(operand_bits=11, sum_bound=1.0)},
    ],
)
def test_the_package_digest_covers_everything_about_a_slice(changed):
    good = subgraph(LAYERS["product"])
    assert package_digest([good.model_copy(update=changed)]) != package_digest([good])
    assert package_digest([good]) == package_digest([Subgraph.model_validate(good.model_dump())])


@pytest.mark.parametrize(
    ("proof", "message"),
    [
        ({"operand_bits": 12}, "proof.operand_bits"),  # what TF32 would round
        ({"operand_bits": 7}, "proof.operand_bits"),  # digits have 8
        ({"sum_bound": 2.0**24}, "proof.sum_bound"),  # what float32 would round
        ({"sum_bound": -1.0}, "proof.sum_bound"),
        ({"sum_bound": 99.0}, "a proof for sums of 99.0; a layer's reach further"),
        ({}, None),
    ],
)
def test_a_proof_proves_something(tmp_path, proof, message):
    write_package(tmp_path, "server")
    path = tmp_path / "manifest.json"
    content = json.loads(path.read_text())
    [first, *_] = content["slices"]
    first["layers"][0]["bound"] = 100.0
    first["proof"] = {"operand_bits": 11, "sum_bound": 100.0} | proof
    slices = [Subgraph.model_validate(first)] if message is None else []
    path.write_text(json.dumps(content | {"slices": [first], "package": package_digest(slices)}))
    if message is None:
        assert load_manifest(tmp_path, ServerManifest).slices[0].proof.operand_bits == 11
    else:
        assert message in refused(tmp_path)


def test_a_package_error_is_an_input_error(package):
    (package / "manifest.json").unlink()
    with pytest.raises(InputError):
        load_manifest(package, ServerManifest)
