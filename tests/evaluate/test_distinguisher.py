"""Two prompts are told apart where a view differs, and not where it does not."""

import numpy as np
import pytest
from tools.evaluate.distinguisher import CONFIDENCE, distinguish, distinguish_layers


def transcripts(count, width, shift):
    noise = np.random.default_rng(0).standard_normal((count, width))
    return (noise + shift * (np.arange(count) % 2)[:, None]).astype(np.float32)


def test_a_difference_is_found():
    found = distinguish(transcripts(80, 50, 2.0))
    assert (found.value, found.trials) == (1.0, 40)
    assert found.low == pytest.approx(((1 - CONFIDENCE) / 2) ** (1 / 40))  # Clopper and Pearson, all right
    assert not found.is_chance


def test_noise_is_chance():
    found = distinguish(transcripts(80, 50, 0.0))
    assert found.is_chance
    assert found.low < found.value < found.high


def test_a_constant_view_is_exactly_chance():
    assert distinguish(np.ones((44, 3), np.float32)).value == 0.5


def test_false_alarms_are_as_rare_as_said():
    rng = np.random.default_rng(5)
    alarms = sum(not distinguish(rng.standard_normal((40, 6)).astype(np.float32)).is_chance for _ in range(200))
    assert alarms <= 9  # 2 expected at most, of 200


def test_one_layer_that_leaks_is_named_among_many():
    layers = {f"slice {i}": transcripts(80, 5, 3.0 * (i == 4)) for i in range(20)}
    found = distinguish_layers(layers)
    assert [name for name, success in found.items() if not success.is_chance] == ["slice 4"]
    alone = distinguish(layers["slice 4"])
    assert found["slice 4"].low < alone.low  # wider: twenty intervals hold together
