import hashlib
import hmac

import pytest

from ppidm.protocol import tokens as module
from ppidm.protocol.address import Address
from ppidm.protocol.errors import InputError
from ppidm.protocol.tokens import load_token_digests, load_tokens, make_token, token_digest, token_is_known

ONE, OTHER = Address("gpu.example.org", 8001), Address("::1", 8002)
TOKEN, SECOND = "canary-token.1~+/==", "canary-token_2"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tokens"


def test_tokens_are_random():
    made = {make_token() for _ in range(100)}
    assert len(made) == 100
    assert {len(token) for token in made} == {43}  # 32 bytes in base 64


def test_digests():
    assert token_digest("x") == hashlib.sha256(b"x").hexdigest()
    digests = frozenset({token_digest("x"), token_digest("y")})
    assert token_is_known("x", digests)
    assert token_is_known("y", digests)
    assert not token_is_known("z", digests)
    assert not token_is_known(token_digest("x"), digests)
    assert not token_is_known("\u00e9", digests)
    assert not token_is_known("x", frozenset())


def test_all_digests_are_compared_whichever_matches(monkeypatch):
    """In constant time each, with no early end."""
    compared = []
    monkeypatch.setattr(
        module.hmac, "compare_digest", lambda a, b, real=hmac.compare_digest: compared.append(b) or real(a, b)
    )
    digests = frozenset(token_digest(str(i)) for i in range(20))
    assert all(token_is_known(str(i), digests) for i in range(20))
    assert compared == list(digests) * 20


def test_a_servers_file(path):
    path.write_text(f"{token_digest('x')}  alice\n\n{token_digest('y')}\n")
    assert load_token_digests(path) == {token_digest("x"), token_digest("y")}


@pytest.mark.parametrize("text", ["", "\n", TOKEN, "alice " + "0" * 64, "0" * 63, "A" * 64])
def test_bad_files_of_a_server(path, text):
    path.write_text(text)
    with pytest.raises(InputError, match="`ppidm keys token` writes this file") as info:
        load_token_digests(path)
    assert "canary" not in str(info.value)


def test_one_token_for_all(path):
    path.write_text(f"# mine\n{TOKEN}\n")
    tokens = load_tokens(path)
    assert tokens.of(ONE) == tokens.of(OTHER) == TOKEN


def test_a_token_for_each(path):
    path.write_text(f"{ONE} {TOKEN}\n\n# the other\n{OTHER}\t{SECOND}\n")
    tokens = load_tokens(path)
    assert (tokens.of(ONE), tokens.of(OTHER), tokens.of(Address("elsewhere", 1))) == (TOKEN, SECOND, None)


def test_tokens_show_no_content(path):
    path.write_text(TOKEN)
    assert repr(load_tokens(path)) == f"{load_tokens(path)}" == "Tokens(<secret>)"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "no token"),
        ("# only a note", "no token"),
        (f"{TOKEN}\n{SECOND}", "line 1: 1 words"),
        (f"{ONE} {TOKEN} {SECOND}", "line 1: 3 words"),
        (f"# note\n{TOKEN} {ONE}", "line 2: the first word is no HOST:PORT"),
        (f"{ONE} {TOKEN}\n{ONE} {SECOND}", "the same server twice"),
        (f"{ONE} {TOKEN}\u00e9", "line 1: a character that no token has"),
        (f"{TOKEN}\u00e9", "a character that no token has"),
    ],
)
def test_bad_files_of_a_client(path, text, error):
    """The message says where, and quotes nothing."""
    path.write_text(text)
    with pytest.raises(InputError) as info:
        load_tokens(path)
    assert f"{path}" in str(info.value)
    assert error in str(info.value)
    assert "expected one token for all servers" in str(info.value)
    assert "canary" not in str(info.value)
    assert info.value.__cause__ is None


def test_a_missing_file(path):
    for load in (load_tokens, load_token_digests):
        with pytest.raises(
            InputError, match="tokens: No such file or directory; expected a file that `ppidm keys` makes"
        ):
            load(path)
