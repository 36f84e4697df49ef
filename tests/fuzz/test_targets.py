"""Damaged inputs, a few hundred per target; `make fuzz` runs a million."""

import pytest
from hypothesis import HealthCheck, given, settings
from strategies import damaged
from targets import all_targets, try_input

EXAMPLES = {"client segments": 60, "slices": 60}
NAMES = (
    "requests", "answers", "relay messages", "relayed shares", "handshake", "addresses", "pins", "client tokens", "server tokens",
    "certificates", "server manifests", "client manifests", "check vectors", "check vectors in a good zip", "samplers",
    "samplers in a good zip", "sampler entries", "client segments", "slices",
)  # fmt: skip


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    return all_targets(tmp_path_factory.mktemp("corpus"))


def test_every_target_is_here(targets):
    assert set(targets) == set(NAMES)
    assert sum(target.share for target in targets.values()) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_good_inputs_are_accepted(targets, name):
    accepted = [try_input(targets[name], content) for content in targets[name].seeds]
    assert accepted[0], "a target whose seeds are refused tests nothing"


@pytest.mark.parametrize("name", ["requests", "relay messages", "relayed shares"])
def test_every_message_of_relay_mode_is_among_the_good_inputs(targets, name):
    assert all(try_input(targets[name], content) for content in targets[name].seeds)


@pytest.mark.parametrize("name", NAMES)
def test_damaged_inputs_are_refused_or_accepted(targets, name):
    """And raise nothing else."""
    target, outcomes = targets[name], set()

    @settings(
        max_examples=EXAMPLES.get(name, 150), deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(damaged(target.seeds))
    def run(content):
        outcomes.add(try_input(target, content))

    run()
    assert False in outcomes
