"""Malformed requests to a real server: bytes to methods, bytes to the port. It survives, and still answers right."""

import numpy as np
import pytest
from corpus import SmallPackage
from frames import Attacker
from victim import running_victim

MIB_MORE = 200


@pytest.fixture(scope="module")
def victim(tmp_path_factory):
    directory = tmp_path_factory.mktemp("server-0")
    SmallPackage.write(directory)
    with running_victim(directory, tmp_path_factory.mktemp("log")) as victim:
        yield victim


@pytest.fixture
def attacker(victim):
    return Attacker(victim, np.random.default_rng())


def test_bytes_to_methods(victim, attacker):
    before = victim.peak_mib()
    attacker.call_methods(400)
    assert attacker.hangs == 0
    assert {"INVALID_ARGUMENT", "FAILED_PRECONDITION", "UNIMPLEMENTED", "OK"} <= set(attacker.codes)
    assert set(attacker.codes) <= {
        "INVALID_ARGUMENT",
        "FAILED_PRECONDITION",
        "NOT_FOUND",
        "UNIMPLEMENTED",
        "OK",
        "INTERNAL",
        "RESOURCE_EXHAUSTED",
    }
    assert "request failed" not in victim.log.read_text()
    assert victim.peak_mib() - before < MIB_MORE
    assert victim.answers_right()


def test_bytes_to_the_port(victim, attacker):
    before = victim.peak_mib()
    attacker.write_streams(60)
    assert victim.peak_mib() - before < MIB_MORE
    assert victim.answers_right()


def test_a_server_that_answers_wrong_is_noticed(victim, monkeypatch):
    """The control of `answers_right`."""
    monkeypatch.setattr(type(victim), "_expected", lambda *_: [b"other"])
    assert not victim.answers_right()
