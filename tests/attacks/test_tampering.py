"""Every kind of lie of `tools/tamper.py`, once per kind on a few slices: caught, and the liar named."""

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"
sys.path += [str(TOOLS), str(TOOLS / "tampering")]
KINDS = import_module("lies").KINDS
SLICES = ("conv_in", "mid_block.attentions.0.transformer_blocks.0.attn1.to_q", "down_blocks.0.downsamplers.0.conv")


@pytest.fixture(scope="module")
def model(package):
    return import_module("session").Model(package)


@pytest.fixture
def rng():
    return np.random.default_rng()


@pytest.fixture(params=SLICES)
def disputed(model, rng, request):
    return model.ask(request.param, rng)


@pytest.mark.parametrize("kind", KINDS)
def test_a_lie_is_caught_and_its_liar_named(model, rng, disputed, kind):
    counts = import_module("tamper").Counts()
    lie = KINDS[kind](rng, model, disputed, model.ask(disputed.name, rng))
    assert any((a != b).any() for a, b in zip(lie.answer, disputed.answers[lie.liar], strict=True))
    counts.add_lie(model, disputed, lie)
    assert (counts.tampered, counts.caught, counts.named) == (1, 1, 1)


def test_channels_in_their_own_order_are_no_lie(rng):
    two = np.arange(2).reshape(2, 1)
    assert all((import_module("lies").shuffled(rng, two) != two).any() for _ in range(50))


def test_honest_answers_raise_no_alarm(model, disputed):
    counts = import_module("tamper").Counts()
    counts.add_honest(model, disputed)
    counts.add_honest_dispute(model, disputed)
    assert (counts.honest_answers, counts.honest_disputes, counts.false_alarms) == (2, 1, 0)
    assert counts.honest_rows == 2 * disputed.rows


def test_an_alarm_would_be_counted(model, disputed):
    """The control: the same exchange with an activation that nobody asked about."""
    disputed.x = disputed.x + 1
    counts = import_module("tamper").Counts()
    counts.add_honest(model, disputed)
    assert counts.false_alarms == 1


def test_blame_of_the_honest_would_be_counted(model, disputed):
    """The control: a dispute about an answer that does not agree with its own products."""
    counts = import_module("tamper").Counts()
    with disputed.answering(1, [values + 1 for values in disputed.answers[1]]):
        counts.add_honest_dispute(model, disputed)
    assert counts.false_alarms == 1


def test_what_passes_would_be_counted(model, disputed):
    """The control: an honest answer, called a lie, is neither caught nor named."""
    lie = import_module("lies").Lie(0, [values.copy() for values in disputed.answers[0]])
    counts = import_module("tamper").Counts()
    counts.add_lie(model, disputed, lie)
    assert (counts.tampered, counts.caught, counts.named) == (1, 0, 0)
