"""`ppidm keys`: what it writes, for whom, and that what it says works."""

import shlex
from pathlib import Path

import pytest
from command_line import ppidm, refused
from link_servers import serving
from tiny_package import build_package

from ppidm.client.links import LinkSettings
from ppidm.client.transport import Server
from ppidm.keys import make_client_keys, make_server_keys, make_token_files
from ppidm.protocol.certificates import fingerprint, load_identity, parse_certificates
from ppidm.protocol.errors import InputError
from ppidm.protocol.tokens import load_token_digests, load_tokens, token_digest, token_is_known


def mode(path):
    return path.stat().st_mode & 0o777


def test_keys_of_a_server(tmp_path):
    shown = ppidm("keys", "server", tmp_path / "keys", "--host", "gpu.example.org", "--host", "192.0.2.1", "--days", 10)
    assert (shown.status, shown.err) == (0, "")
    files = {path.name: mode(path) for path in (tmp_path / "keys").iterdir()}
    assert files == {"server.pem": 0o644, "server.key": 0o600}
    [found] = parse_certificates((tmp_path / "keys" / "server.pem").read_bytes(), "x")
    assert f"  --pin gpu.example.org:8001={fingerprint(found)}\n" in shown.out
    assert f"until {found.not_valid_after_utc:%Y-%m-%d}" in shown.out
    assert "PRIVATE" not in shown.out
    assert load_identity(tmp_path / "keys" / "server.pem", tmp_path / "keys" / "server.key")


def test_keys_of_a_client(tmp_path):
    shown = ppidm("keys", "client", tmp_path, "--name", "alice")
    assert {path.name: mode(path) for path in tmp_path.iterdir()} == {"alice.pem": 0o644, "alice.key": 0o600}
    assert f"--tls-cert {tmp_path / 'alice.pem'} --tls-key {tmp_path / 'alice.key'}" in shown.out


def test_tokens(tmp_path):
    shown = ppidm("keys", "token", tmp_path, "--name", "alice")
    ppidm("keys", "token", tmp_path, NAME="bob")
    assert {path.name: mode(path) for path in tmp_path.iterdir()} == {
        "alice.token": 0o600,
        "bob.token": 0o600,
        "tokens.sha256": 0o600,
    }
    alice, bob = (load_tokens(tmp_path / f"{name}.token").common for name in ("alice", "bob"))
    lines = (tmp_path / "tokens.sha256").read_text().splitlines()
    assert lines == [f"{token_digest(alice)}  alice", f"{token_digest(bob)}  bob"]
    assert all(token_is_known(token, load_token_digests(tmp_path / "tokens.sha256")) for token in (alice, bob))
    assert alice not in shown.out + (tmp_path / "tokens.sha256").read_text()


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("server", "--host", "a"), "server.pem"),
        (("server", "--host", "a"), "server.key"),
        (("client",), "client.pem"),
        (("client",), "client.key"),
        (("token", "--name", "alice"), "alice.token"),
    ],
)
def test_nothing_is_overwritten(tmp_path, words, name):
    (tmp_path / name).write_text("mine")
    error = refused("keys", words[0], tmp_path, *words[1:])
    assert f"{tmp_path / name} exists; nothing is overwritten" in error
    assert contents(tmp_path) == {name: b"mine"}


def test_a_link_that_leads_nowhere_is_not_followed(tmp_path):
    (tmp_path / "server.key").symlink_to(tmp_path / "elsewhere")
    assert "exists" in refused("keys", "server", tmp_path, "--host", "a")
    assert not (tmp_path / "elsewhere").exists()


def test_a_client_gets_one_token(tmp_path):
    """Even if its file was handed on and deleted: two lines of one name would be confused when one is revoked."""
    make_token_files(tmp_path, "alice").token.unlink()
    before = contents(tmp_path)
    assert "alice has a token; take its line out first, which revokes it" in refused(
        "keys", "token", tmp_path, "--name", "alice"
    )
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "host", ["", "a b", "a:1", "https://a", "-a", "a..b", "*.a", "[::1]", "a" * 64, "\u00e4", "a\n"]
)
def test_malformed_hosts(tmp_path, host):
    with pytest.raises(InputError, match="expected a DNS name or an IP address, without port"):
        make_server_keys(tmp_path, [host])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["", ".", "../x", "a/b", "-x", "a b", "a" * 64, "\u00e4", "a\n"])
def test_malformed_names(tmp_path, name):
    for make in (make_client_keys, make_token_files):
        with pytest.raises(InputError, match="expected letters, digits, dots, hyphens and underscores"):
            make(tmp_path / "keys", name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("days", [0, -1, 3651, 10**9])
def test_days_out_of_range(tmp_path, days):
    assert f"--days is {days}; expected 1 to 3650" in refused("keys", "server", tmp_path, "--host", "a", "--days", days)


def test_no_host(tmp_path):
    with pytest.raises(InputError, match="no host; expected the names and IP addresses"):
        make_server_keys(tmp_path, [])
    assert ppidm("keys", "server", tmp_path).status == 2


@pytest.mark.parametrize("command", ["server", "client", "token"])
def test_help(command):
    shown = ppidm("keys", command, "--help").out
    assert f"\n ppidm keys {command} KEYS" in shown
    assert command in ppidm("keys", "--help").out


def test_what_is_printed_works(tmp_path, tmp_path_factory):
    """The pin and the options of an operator's and of a client's output, on a real server."""
    directory = build_package(tmp_path_factory.mktemp("package") / "server-0").directory
    printed = ppidm("keys", "server", tmp_path, "--host", "127.0.0.1").out
    ppidm("keys", "token", tmp_path, "--name", "alice")
    own = ppidm("keys", "client", tmp_path).out
    pin = next(line.split()[1] for line in printed.splitlines() if line.strip().startswith("--pin"))
    words = shlex.split(printed[printed.index("ppidm serve") :].replace("\\\n", " "))
    options = [*words[words.index("--tls-cert") :], "--client-ca", tmp_path / "client.pem"]
    mine = shlex.split(own.splitlines()[-1])
    with serving(directory, tmp_path_factory.mktemp("log"), *options) as server:
        links = LinkSettings(
            (pin.replace("127.0.0.1:8001", server.address),),
            tls_cert=Path(mine[mine.index("--tls-cert") + 1]),
            tls_key=Path(mine[mine.index("--tls-key") + 1]),
            token_file=tmp_path / "alice.token",
        )
        connected = Server("evaluator", server.address, 10, links)
        assert connected.handshake().package
        connected.close()
