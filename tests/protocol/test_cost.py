import pytest
from linear_cases import LAYERS, input_shape, random_case

from ppidm.protocol.check import draw_check
from ppidm.protocol.cost import direct_cost
from ppidm.protocol.linear import Layer
from ppidm.protocol.prg import Seed
from ppidm.protocol.ring import Ring
from ppidm.protocol.run import run_protocol

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
