"""A liar is convicted whatever it shows, and an honest server never."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ppidm.protocol.check import CheckVectors, draw_check
from ppidm.protocol.dispute import judge, limb_requests
from ppidm.protocol.linear import Layer, apply
from ppidm.protocol.masks import dealer_share
from ppidm.protocol.prg import Seed
from ppidm.protocol.ring import Ring

if TYPE_CHECKING:
    from numpy.typing import NDArray

PRODUCT = Layer(name="product", kind="product", in_channels=24, out_channels=6)
STRIDED = Layer(
    name="conv",
    kind="convolution",
    in_channels=4,
    out_channels=6,
    kernel=(3, 3),
    strides=(2, 1),
    pads=(1, 1, 0, 1),
    groups=2,
)


@dataclass
class Case:
    """A server's digits and its honest answers."""

    ring: Ring
    layer: Layer
    check: CheckVectors
    digits: NDArray[np.uint8]
    first: NDArray[np.uint32]
    products: list[NDArray[np.uint32]]

    def verdict(
        self, first: NDArray[np.uint32] | None = None, products: list[NDArray[np.uint32]] | None = None
    ) -> str | None:
        """Of a server that shows these instead of the honest ones."""
        shown = [[limb] for limb in (self.products if products is None else products)]
        return judge(
            self.ring, [self.layer], [self.check], self.digits, [self.first if first is None else first], shown
        )


@pytest.fixture(params=[(PRODUCT, 32), (STRIDED, 32), (PRODUCT, 24)], ids=["product", "convolution", "24 bits"])
def case(request: pytest.FixtureRequest) -> Case:
    layer, bits = request.param
    ring, rng = Ring(bits), np.random.default_rng(0)
    weights = rng.integers(-2047, 2048, (layer.out_channels, layer.in_channels // layer.groups, *layer.kernel))
    digits = dealer_share(ring, Seed.fresh(), (5, 24) if layer.kind == "product" else (2, 6, 5, 4))
    wide = Ring(32)  # an engine answers in int32, whatever the ring
    products = [apply(layer, weights, pad(limb), wide) for limb in limb_requests(digits)]
    return Case(ring, layer, draw_check(layer, weights), digits, apply(layer, weights, digits, ring), products)


def pad(digits: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Digits of a narrower ring as digits of Z_2^32."""
    return np.concatenate([digits, np.full((4 - len(digits), *digits.shape[1:]), 128, np.uint8)])


def flipped(array: NDArray[np.uint32], bit: int) -> NDArray[np.uint32]:
    changed = array.copy()
    changed.flat[len(changed.flat) // 2] ^= np.uint32(1 << bit)
    return changed


def test_an_honest_server_is_acquitted(case: Case) -> None:
    assert case.verdict() is None


def test_limb_requests_add_up_to_the_digits(case: Case) -> None:
    alone = [case.ring.from_digits(limb) for limb in limb_requests(case.digits)]
    total = sum(element << np.uint32(8 * limb) for limb, element in enumerate(alone)) & case.ring.mask
    assert np.array_equal(total, case.ring.from_digits(case.digits))


def test_a_liar_that_shows_honest_products(case: Case) -> None:
    for bit in range(case.ring.bits):
        assert "do not add up" in str(case.verdict(first=flipped(case.first, bit)))


def test_a_liar_that_shows_products_of_its_lie(case: Case) -> None:
    for bit in range(32):
        lie = [flipped(case.products[0], bit), *case.products[1:]]
        error = lie[0] - case.products[0]
        assert "rows of its product with limb 0" in str(case.verdict((case.first + error) & case.ring.mask, lie))


def test_a_liar_that_hides_its_lie_between_limbs(case: Case) -> None:
    """The lie cancels in the first answer: limb 1 is off by e, limb 0 by -256 e."""
    error = np.zeros_like(case.first)
    error.flat[0] = 3
    lie = [case.products[0] - (error << np.uint32(8)), case.products[1] + error, *case.products[2:]]
    assert "wrong" in str(case.verdict(products=lie))


def test_a_liar_whose_lie_is_a_multiple_of_the_top_bit(case: Case) -> None:
    top = np.zeros_like(case.first)
    top.flat[0] = 1 << 31
    lie = [case.products[0] + top, *case.products[1:]]
    assert "wrong" in str(case.verdict((case.first + top) & case.ring.mask, lie))
