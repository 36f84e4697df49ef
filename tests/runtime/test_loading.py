"""What a server refuses to serve."""

import json
import sys

import pytest
import structlog
from onnx import helper, save

from ppidm.protocol.address import Address, parse_address
from ppidm.protocol.errors import InputError, PackageError
from ppidm.protocol.manifest import MANIFEST, digests_of, package_digest, write_manifest
from ppidm.runtime.loading import load_service
from ppidm.runtime.server import ServeSettings, serve

ANY_PORT = Address("127.0.0.1", 0)


def load(package):
    return load_service(package.directory, 1, structlog.wrap_logger(structlog.testing.LogCapture(), processors=[drop]))


def drop(*_):
    raise structlog.DropEvent


def change_manifest(directory, **changes):
    path = directory / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def seal(package, **changes_of_first_slice):
    """Write a manifest that is consistent with the files as they are now."""
    digests = digests_of(package.directory)
    slices = [s.model_copy(update={"sha256": digests[s.file]}) for s in package.manifest.slices]
    slices[0] = slices[0].model_copy(update=changes_of_first_slice)
    update = {"slices": tuple(slices), "package": package_digest(slices), "files": digests}
    write_manifest(package.directory, package.manifest.model_copy(update=update))


def first_file(package):
    return package.directory / package.manifest.slices[0].file


def test_a_whole_package_loads(package):
    assert load(package).package == package.manifest.package


def test_missing_directory(tmp_path):
    with pytest.raises(PackageError, match="not a readable manifest"):
        serve(ServeSettings(tmp_path / "nowhere", ANY_PORT))


def test_truncated_slice(own_package):
    path = first_file(own_package)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(PackageError, match=r"to_out\.onnx: SHA-256 is .*; copy or export the package again"):
        serve(ServeSettings(own_package.directory, ANY_PORT))


def test_changed_slice(own_package):
    path = first_file(own_package)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(PackageError, match="SHA-256"):
        load(own_package)


def test_missing_slice(own_package):
    first_file(own_package).unlink()
    with pytest.raises(PackageError, match="No such file"):
        load(own_package)


def test_changed_slice_with_a_new_digest_in_files_only(own_package):
    first_file(own_package).write_bytes(b"")
    change_manifest(own_package.directory, files=digests_of(own_package.directory))
    with pytest.raises(PackageError, match=r"no digest of the file of mid\.to_out"):
        load(own_package)


def test_slice_that_the_files_do_not_list(own_package):
    change_manifest(own_package.directory, files={})
    with pytest.raises(PackageError, match=r"no digest of the file of mid\.to_out"):
        load(own_package)


def test_two_slices_of_one_name(own_package):
    slices = own_package.manifest.slices * 2
    update = {"slices": slices, "package": package_digest(slices)}
    write_manifest(own_package.directory, own_package.manifest.model_copy(update=update))
    with pytest.raises(PackageError, match="two of one name"):
        load(own_package)


def test_a_slice_that_is_no_onnx(own_package):
    first_file(own_package).write_bytes(b"not ONNX")
    seal(own_package)
    with pytest.raises(PackageError, match="not an ONNX model of the plain kind"):
        load(own_package)


def test_a_slice_that_is_another_graph(own_package):
    info = helper.make_tensor_value_info("x", 1, [1])
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "g", [info], [helper.make_tensor_value_info("y", 1, [1])]
    )
    save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)]), first_file(own_package))
    seal(own_package)
    with pytest.raises(PackageError, match="operator 'Identity', which a slice may not hold"):
        load(own_package)


def test_a_slice_that_fails_its_self_test(own_package):
    self_test = own_package.manifest.slices[0].self_test.model_copy(update={"digest": "0" * 64})
    seal(own_package, self_test=self_test)
    with pytest.raises(PackageError, match="fails the self-test"):
        load(own_package)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format 2; this ppidm reads format 1"),
        ({"kind": "client"}, "the manifest of a 'client' directory; expected 'server'"),
        ({"package": "0" * 64}, "`package` is not the digest of the slices"),
        ({"ring_bits": 31}, "ring_bits"),
        ({"secret": 1}, "'secret': Extra inputs are not permitted"),
    ],
)
def test_manifests_that_are_refused(own_package, changes, message):
    change_manifest(own_package.directory, **changes)
    with pytest.raises(InputError, match=message):
        serve(ServeSettings(own_package.directory, ANY_PORT))


def test_port_in_use_is_noticed_before_loading(evaluator, tmp_path):
    with pytest.raises(InputError, match=r"cannot listen on 127\.0\.0\.1:\d+: Address already in use"):
        serve(ServeSettings(tmp_path / "nowhere", parse_address(evaluator.address)))


def test_an_address_outside_loopback_is_refused_before_loading(tmp_path):
    with pytest.raises(InputError, match="expected a loopback address, or protection"):
        serve(ServeSettings(tmp_path / "nowhere", Address("0.0.0.0", 0)))


@pytest.mark.parametrize("changes", [{"threads": -1}, {"workers": 0}])
def test_settings_out_of_range(tmp_path, changes):
    with pytest.raises(InputError, match="expected at least 0 threads and 1 worker"):
        ServeSettings(tmp_path, **changes)


def test_progress_on_a_terminal(package, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert load(package).has_model("mid.qk")
