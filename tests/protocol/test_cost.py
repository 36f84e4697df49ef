import json
from pathlib import Path

import pytest
from linear_cases import LAYERS, input_shape, random_case

from ppidm.protocol.audit import DEFAULT_SHARE
from ppidm.protocol.check import draw_check
from ppidm.protocol.cost import direct_cost
from ppidm.protocol.linear import Layer
from ppidm.protocol.prg import Seed
from ppidm.protocol.ring import Ring
from ppidm.protocol.run import run_protocol

PARTITION = Path(__file__).parents[2] / "docs" / "measurements" / "partition.json"
SECOND = Layer(name="second", kind="product", in_channels=5, out_channels=7)
SLICES = [*([layer] for layer in LAYERS.values()), [LAYERS["product"], SECOND]]


def sent(messages):
    return sum(len(tensor.content) for tensor in messages)


@pytest.mark.parametrize("bits", [24, 32])
@pytest.mark.parametrize("dealers", [1, 3])
@pytest.mark.parametrize("layers", SLICES, ids=lambda layers: "+".join(layer.name for layer in layers))
def test_the_declared_cost_is_true(bits, dealers, layers):
    ring, shape = Ring(bits), input_shape(layers[0])
    all_cases = [random_case(layer, bits=8, weight_bits=8) for layer in layers]
    weights, x = [case.weights for case in all_cases], all_cases[0].x
    checks = [draw_check(layer, w) for layer, w in zip(layers, weights, strict=True)]
    _, transcript = run_protocol(ring, layers, weights, checks, x, [Seed.fresh() for _ in range(dealers)])
    cost = direct_cost(ring, layers, shape)
    assert cost.rounds == 1
    assert [sent(request) for request in transcript.requests] == [cost.evaluator_sent, *[cost.dealer_sent] * dealers]
    assert [sent(answer) for answer in transcript.answers] == [cost.received] * (dealers + 1)


def test_a_product_in_numbers():
    cost = direct_cost(Ring(24), [LAYERS["product"], SECOND], (6, 5))
    assert (cost.evaluator_sent, cost.dealer_sent, cost.received) == (3 * 30, 32 + 16, 4 * (18 + 42))


def test_sd15_at_two_thirds_of_its_flops():
    """MB per evaluation that the client moves in relay mode; values counted from shapes by `make bench-partition`."""
    row = json.loads(PARTITION.read_text())["sd15"]["shares"]["0.67"]
    assert 0.67 <= row["share"] < 0.69
    up, down = row["values_up"] / 1e6, row["values_down"] / 1e6
    seeds = row["slices"] * 1000 / 1e6  # generously, of three dealers
    exact, fast = 4 * up + 4 * down + seeds, 3 * up + 2 * down + seeds
    audits = DEFAULT_SHARE * (3 * up + 4 * down)
    assert exact <= 670
    assert fast <= 420
    assert fast + audits <= 440
    assert fast <= 1.3 * 2 * (up + down)
