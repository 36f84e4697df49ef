"""What is dealt ahead: as often as slices are asked for, in pieces or not, and no more."""

from collections import Counter

import pytest

from ppidm.client.dealing import Dealing
from ppidm.protocol.linear import Layer
from ppidm.protocol.records import SelfTest, Subgraph
from ppidm.protocol.relay_messages import split_place
from ppidm.protocol.ring import Ring

LAYER = Layer(name="to_out", kind="product", in_channels=4, out_channels=3)
SUBGRAPH = Subgraph(
    name="to_out",
    file="s.onnx",
    sha256="0" * 64,
    layers=(LAYER,),
    nominal_shape=(8, 4),
    self_test=SelfTest(shape=(8, 4), digest="0" * 64),
)
REQUESTS, WHOLE, LAST = 6, (8, 4), (5, 4)
CUTS = {"whole": [WHOLE], "in equal pieces": [WHOLE] * 3, "in unequal pieces": [WHOLE, WHOLE, WHOLE, LAST]}


class Dealer:
    """Notes the shapes that it is asked to deal for."""

    def __init__(self):
        self.dealt = []

    def ask(self, _name, tensors):
        _, others = split_place(tensors)
        self.dealt.append(tuple(int(size) for size in others[1].array("INT64")))
        return list


def play(dealing, dealer, shapes):
    """All requests; how many deals had been made when each request was."""
    ahead, counts = [], Counter(shapes)
    for _ in range(REQUESTS):
        for shape in shapes:
            before = len(dealer.dealt)
            deal, place = dealing.take(SUBGRAPH, shape, counts[shape])
            assert place.ticket == deal.place.ticket
            dealing.deal_ahead()
            ahead.append(before)
            dealing.release(deal)
    return ahead


@pytest.mark.parametrize("shapes", CUTS.values(), ids=CUTS)
def test_each_request_after_the_first_was_dealt_ahead_and_none_too_many(shapes):
    dealer = Dealer()
    dealing = Dealing(bytes(16), [dealer], Ring(32), 1 << 20)
    dealing.expect({"to_out": REQUESTS})
    ahead = play(dealing, dealer, shapes)
    assert Counter(dealer.dealt) == {shape: REQUESTS * count for shape, count in Counter(shapes).items()}
    later = list(enumerate(ahead))[len(shapes) :]
    assert all(before >= min(index + len(shapes), REQUESTS * len(shapes)) for index, before in later)
    assert dealing.relayed == sum(dealing.size(SUBGRAPH, shape) - 1024 for shape in dealer.dealt)


def test_what_nobody_expects_is_dealt_when_it_is_asked_for():
    dealer = Dealer()
    ahead = play(Dealing(bytes(16), [dealer], Ring(32), 1 << 20), dealer, [WHOLE, LAST])
    assert ahead == list(range(2 * REQUESTS))
