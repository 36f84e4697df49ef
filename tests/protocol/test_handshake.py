import pytest

from ppidm.protocol.errors import InputError
from ppidm.protocol.handshake import Handshake, extensions, parse_extensions


def test_round_trip_skips_other_extensions():
    texts = ["model_configuration", *extensions("ab" * 32, "5"), "statistics"]
    assert parse_extensions(texts) == Handshake("ab" * 32, "5", "")
    assert parse_extensions(extensions("ab" * 32, "5", "cd" * 32)) == Handshake("ab" * 32, "5", "cd" * 32)


@pytest.mark.parametrize(
    "texts",
    [
        [],
        ["model_configuration"],
        extensions("ab", "5")[:1],
        extensions("ab", "5")[1:],
        extensions("", "5"),
        [*extensions("ab", "5"), *extensions("cd", "5")],
        [*extensions("ab", "5", "cd"), *extensions("ab", "5", "ef")],
    ],
)
def test_missing_empty_or_contradicting(texts):
    with pytest.raises(InputError, match=r"expected exactly one 'ppidm\.\w+:'\.\.\.: is it `ppidm serve`\?"):
        parse_extensions(texts)


def test_a_hostile_server_cannot_flood_the_message():
    with pytest.raises(InputError) as error:
        parse_extensions(["\x1b[31m" * 10_000])
    assert len(str(error.value)) < 400
    assert "\x1b" not in str(error.value)
