"""Every kind of lie of `tools/tamper.py` in relay mode and about truncated answers, once: caught, and the liar named."""

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from ppidm.client.exchange import Mode
from ppidm.protocol.precision import Precision

TOOLS = Path(__file__).resolve().parents[2] / "tools"
sys.path += [str(TOOLS), str(TOOLS / "tampering")]
KINDS = {Mode.RELAY: import_module("relay_lies").RELAY_KINDS, Mode.DIRECT: import_module("relay_lies").DIRECT_KINDS}
PLAYED = [(mode, precision) for mode, precision in import_module("relayed").PLAYED if precision is not Precision.FAST]
SLICES = ("conv_in", "mid_block.attentions.0.transformer_blocks.0.attn1.to_q")


@pytest.fixture(scope="module")
def model(package):
    return import_module("session").Model(package)


@pytest.fixture
def rng():
    return np.random.default_rng()


def test_every_mode_of_the_measurement_is_played():
    played = import_module("relayed").PLAYED
    assert {mode for mode, _ in played} == set(Mode)
    assert {precision for mode, precision in played if mode is Mode.RELAY} == set(Precision)
    assert len(KINDS[Mode.RELAY]) >= 11


@pytest.mark.parametrize(("mode", "precision"), PLAYED)
def test_lies_are_caught_and_their_liars_named(model, rng, mode, precision):
    played = import_module("relayed").Played(model, mode, precision)
    for kind in KINDS[mode]:
        for name in SLICES:
            before = played.counts.named
            played.tell(rng, name, kind)
            assert played.counts.named == before + 1, (kind, name)
    counts = played.counts
    assert counts.is_clean
    assert counts.tampered == counts.caught == counts.honest == len(KINDS[mode]) * len(SLICES)


def test_what_passes_would_be_counted(model, rng):
    """The control: a server that is called a liar, and is none."""
    played = import_module("relayed").Played(model, Mode.RELAY, Precision.BALANCED)
    played.kinds = {"none": lambda _rng, cast: cast.evaluator}
    played.tell(rng, SLICES[0], "none")
    assert (played.counts.tampered, played.counts.caught, played.counts.named) == (1, 0, 0)
    assert not played.counts.is_clean


def test_blame_of_another_would_be_counted(model, rng):
    """The control: a dealer lies, and the evaluator is said to have."""
    played = import_module("relayed").Played(model, Mode.RELAY, Precision.EXACT)

    def kind(rng, cast):
        cast.dealers[1].hooks.outputs = import_module("relay_lies").changed(rng, import_module("relay_lies").zeros, 32)
        return cast.evaluator

    played.kinds = {"dealer": kind}
    played.tell(rng, SLICES[0], "dealer")
    assert (played.counts.caught, played.counts.named) == (1, 0)


def test_a_false_alarm_would_be_counted(model, rng, monkeypatch):
    """The control: the client gets other check vectors than those of this activation's weights."""
    played = import_module("relayed").Played(model, Mode.RELAY, Precision.EXACT)
    monkeypatch.setattr("ppidm.protocol.relay.wrong_rows", lambda *_: 1)
    played.tell(rng, SLICES[0], "zeros")
    assert played.counts.false_alarms == 1
    assert not played.counts.is_clean


def test_every_slice_gets_every_kind():
    played = import_module("relayed")
    names, kinds = [f"slice {number}" for number in range(5)], ["a", "b", "c"]
    told = set(played.turns(type("Played", (), {"kinds": dict.fromkeys(kinds)})(), names, 15))
    assert told == {(name, kind) for name in names for kind in kinds}
