import stat

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from tiny_package import build_package

from ppidm.protocol.errors import InputError, PackageError
from ppidm.protocol.manifest import MANIFEST, ServerManifest, digests_of, load_manifest, sign_manifest
from ppidm.protocol.signatures import load_private_key, load_public_key, make_signing_keys


@pytest.fixture
def keys(tmp_path):
    return make_signing_keys(tmp_path / "keys")


@pytest.fixture
def signed(tmp_path, keys):
    directory = tmp_path / "server-0"
    build_package(directory)
    sign_manifest(directory, keys[0])
    return directory


def refused(directory, signer):
    with pytest.raises(PackageError) as error:
        load_manifest(directory, ServerManifest, signer)
    return str(error.value)


def test_a_signed_package_loads_with_the_key_and_without(signed, keys):
    with_key, without = load_manifest(signed, ServerManifest, keys[1]), load_manifest(signed, ServerManifest)
    assert with_key == without
    assert MANIFEST not in digests_of(signed)
    assert f"{MANIFEST}.sig" not in digests_of(signed)


def test_an_unsigned_package_is_refused_if_a_key_is_pinned(signed, keys):
    (signed / f"{MANIFEST}.sig").unlink()
    load_manifest(signed, ServerManifest)
    assert "manifest.json: not signed, and a signer is required (manifest.json.sig is missing)" in refused(
        signed, keys[1]
    )


def test_another_key_is_refused(signed, tmp_path):
    _, other = make_signing_keys(tmp_path / "others")
    assert "signed with another key than the required one" in refused(signed, other)


@pytest.mark.parametrize("change", ["manifest", "signature", "signature's length", "no hexadecimal", "empty"])
def test_any_change_is_refused(signed, keys, change):
    path = signed / (MANIFEST if change == "manifest" else f"{MANIFEST}.sig")
    content = path.read_text()
    changed = {
        "manifest": content.replace('"tiny"', '"tinY"'),
        "signature": ("1" if content[0] == "0" else "0") + content[1:],
        "signature's length": content[:-3],
        "no hexadecimal": "\xe9" + content[1:],
        "empty": "",
    }[change]
    assert changed != content
    path.write_text(changed, encoding="utf-8")
    assert "changed after it was signed" in refused(signed, keys[1])


def test_a_signed_manifest_covers_the_files(signed, keys):
    path = signed / "slices" / "mid.qk.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    assert "SHA-256" in refused(signed, keys[1])


def test_a_signature_of_another_directory_is_refused(signed, keys, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / MANIFEST).write_text("{}")
    sign_manifest(tmp_path / "other", keys[0])
    (tmp_path / "other" / f"{MANIFEST}.sig").replace(signed / f"{MANIFEST}.sig")
    assert "changed after it was signed" in refused(signed, keys[1])


def test_the_bytes_alone_are_no_signature(signed, keys):
    """Whatever else this key signs, its signatures are not those of packages."""
    signature = load_private_key(keys[0]).sign((signed / MANIFEST).read_bytes())
    (signed / f"{MANIFEST}.sig").write_text(signature.hex())
    assert "changed after it was signed" in refused(signed, keys[1])


def test_keys_are_for_their_owner_only_and_never_overwritten(keys):
    private, public = keys
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert load_private_key(private).public_key() == load_public_key(public)
    before = private.read_bytes()
    with pytest.raises(InputError, match="exists"):
        make_signing_keys(private.parent)
    public.unlink()
    with pytest.raises(InputError, match="exists"):
        make_signing_keys(private.parent)
    assert private.read_bytes() == before


def pem(key, encryption=None):
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


ED25519 = ed25519.Ed25519PrivateKey.generate()
OTHER = ec.generate_private_key(ec.SECP256R1())
PUBLIC = ED25519.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    "content",
    [b"", b"no key", PUBLIC, pem(OTHER), pem(ED25519, BestAvailableEncryption(b"x"))],
    ids=["empty", "text", "public", "other curve", "encrypted"],
)
def test_what_is_no_private_key_is_refused(tmp_path, content):
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(InputError, match="expected an Ed25519 private key in PEM, without a password"):
        load_private_key(tmp_path / "key")


@pytest.mark.parametrize("content", [b"", pem(ED25519), pem(OTHER)], ids=["empty", "private", "other curve"])
def test_what_is_no_public_key_is_refused(tmp_path, content):
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(InputError, match="expected an Ed25519 public key"):
        load_public_key(tmp_path / "key")


def test_a_missing_key_is_told_with_advice(tmp_path):
    for load in (load_private_key, load_public_key):
        with pytest.raises(InputError, match=r"nowhere: no such file; `ppidm keys sign DIR` makes a pair"):
            load(tmp_path / "nowhere")
