from base64 import b64encode
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from cryptography.x509 import BasicConstraints, SubjectAlternativeName, load_der_x509_certificate
from made_certificates import EXPIRED, LATER, NOW, certificate

from ppidm.protocol.certificates import (
    Identity,
    fingerprint,
    load_identity,
    make_identity,
    name_in,
    parse_certificates,
    parse_pin,
    require_current,
    require_elliptic_curve,
)
from ppidm.protocol.errors import InputError

DIGEST = "0123456789abcdef" * 4


def parsed(hosts=(), days=30):
    [found] = parse_certificates(make_identity("alice", hosts, days).certificate, "x")
    return found


def test_an_identity_is_loaded_as_it_was_made(tmp_path):
    made = make_identity("server", ["gpu.example.org"], 30)
    (tmp_path / "c").write_bytes(made.certificate)
    (tmp_path / "k").write_bytes(made.key)
    assert load_identity(tmp_path / "c", tmp_path / "k") == made


def test_what_is_in_a_certificate():
    found = parsed(["gpu.example.org", "192.0.2.1", "2001:db8::1"])
    hosts = found.extensions.get_extension_for_class(SubjectAlternativeName).value
    assert [str(host.value) for host in hosts] == ["gpu.example.org", "192.0.2.1", "2001:db8::1"]
    assert found.extensions.get_extension_for_class(BasicConstraints).value.path_length == 0
    assert found.subject == found.issuer
    require_elliptic_curve(found, "x")
    require_current(found, "x")
    left = found.not_valid_after_utc - datetime.now(UTC)
    assert timedelta(days=29) < left <= timedelta(days=30)


def test_all_keys_differ():
    made = [make_identity("a", [], 1) for _ in range(3)]
    assert len({each.key for each in made}) == len({each.certificate for each in made}) == 3


def test_an_identity_shows_no_content():
    made = make_identity("alice", [], 1)
    assert repr(made) == str(made) == "Identity(<secret>)"
    assert f"{[made]}" == "[Identity(<secret>)]"


@pytest.mark.parametrize(
    ("hosts", "name"),
    [
        ((), "alice"),
        (("b.example", "a.example"), "b.example"),
        (("b.example", "192.0.2.1"), "192.0.2.1"),
        (("*.example", "a.example"), "a.example"),
        (("*.example",), None),
    ],
)
def test_a_name_in_a_certificate(hosts, name):
    assert name_in(parsed(hosts)) == name


def test_a_certificate_of_no_known_version_is_refused():
    """Found by fuzzing: `cryptography` raises an error of its own there."""
    content = parsed(()).public_bytes(Encoding.DER)
    corrupt = content.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x1a", 1)
    pem = b"-----BEGIN CERTIFICATE-----\n" + b64encode(corrupt) + b"\n-----END CERTIFICATE-----\n"
    with pytest.raises(InputError, match="no PEM certificate, or a corrupt one"):
        parse_certificates(pem, "x")


def test_a_certificate_whose_name_is_corrupt_has_none():
    """Found by fuzzing: it parses, and its name is parsed when somebody asks for it."""
    content = parsed(()).public_bytes(Encoding.DER)
    corrupt = content.replace(b"\x0c\x05alice", b"\x10\x05alice")  # from UTF8String to a SEQUENCE that is none
    assert corrupt != content
    assert name_in(load_der_x509_certificate(corrupt)) is None


# files


def test_good_files(tmp_path):
    made = certificate(tmp_path, "good", valid=NOW)
    assert load_identity(made.certificate, made.key).key == made.key.read_bytes()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"valid": EXPIRED}, "made.pem: the certificate is valid from "),
        ({"valid": LATER}, "make a new one, or set the clock"),
        ({"kind": "rsa"}, "made.pem: a key of kind RSA; expected an elliptic-curve key, since with others TLS 1.2"),
    ],
)
def test_unfit_certificates(tmp_path, options, error):
    made = certificate(tmp_path, "made", **options)
    with pytest.raises(InputError) as info:
        load_identity(made.certificate, made.key)
    assert error in str(info.value)


def test_a_key_of_another_certificate(tmp_path):
    one, other = certificate(tmp_path, "one"), certificate(tmp_path, "other")
    with pytest.raises(InputError, match=r"other\.key: not the key of .*one\.pem"):
        load_identity(one.certificate, other.key)


def test_a_key_of_another_kind_than_the_certificate(tmp_path):
    one, other = certificate(tmp_path, "one"), certificate(tmp_path, "other", kind="rsa")
    with pytest.raises(InputError, match=r"other\.key: not the key of .*one\.pem"):
        load_identity(one.certificate, other.key)


def encrypted(made):
    return made.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))


@pytest.mark.parametrize("content", [lambda _: b"", lambda made: made.certificate.read_bytes(), encrypted])
def test_files_that_hold_no_key(tmp_path, content):
    made = certificate(tmp_path, "made")
    (tmp_path / "key").write_bytes(content(made))
    with pytest.raises(InputError, match=r"key: not an unencrypted PEM private key") as info:
        load_identity(made.certificate, tmp_path / "key")
    assert info.value.__cause__ is None


@pytest.mark.parametrize(
    "content", [b"", b"\xff\x00", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_files_that_hold_no_certificate(content):
    with pytest.raises(InputError, match=r"^x: no PEM certificate, or a corrupt one; `ppidm keys` makes them$"):
        parse_certificates(content, "x")


def test_a_bundle_with_a_corrupt_certificate(tmp_path):
    good = certificate(tmp_path, "good").certificate.read_bytes()
    assert len(parse_certificates(good + good, "x")) == 2
    with pytest.raises(InputError, match="a corrupt one"):
        parse_certificates(good + good.replace(b"MII", b"AAA", 1).replace(b"MIIB", b"AAAA"), "x")


def test_files_that_are_missing(tmp_path):
    made = certificate(tmp_path, "made")
    with pytest.raises(InputError, match="nowhere: No such file or directory; expected a file that `ppidm keys` makes"):
        load_identity(tmp_path / "nowhere", made.key)
    with pytest.raises(InputError, match="Is a directory"):
        load_identity(made.certificate, tmp_path)


# pins


def test_a_pin_is_the_sha256_of_the_certificate(tmp_path):
    made = certificate(tmp_path, "made")
    [found] = parse_certificates(made.certificate.read_bytes(), "x")
    assert fingerprint(found) == made.fingerprint
    assert parse_pin(made.pin("[::1]:8001")) == ("[::1]:8001", made.fingerprint)


@pytest.mark.parametrize("shown", [DIGEST, DIGEST.upper(), f"sha256:{DIGEST}", f"SHA256:{DIGEST}"])
def test_forms_of_a_pin(shown):
    assert parse_pin(f"a:1={shown}") == ("a:1", DIGEST)


@pytest.mark.parametrize(
    "text", ["", "=", "a:1", f"={DIGEST}", "a:1=", f"a:1={DIGEST[1:]}", f"a:1={DIGEST}0", f"a:1=g{DIGEST[1:]}"]
)
def test_malformed_pins(text):
    with pytest.raises(InputError, match="expected HOST:PORT=SHA256, the fingerprint that `ppidm keys server` printed"):
        parse_pin(text)


def test_identities_compare_by_content():
    assert Identity(b"a", b"b") == Identity(b"a", b"b") != Identity(b"a", b"c")
