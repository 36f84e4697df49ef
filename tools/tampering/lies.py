"""Every kind of lie: (rng, model, the request, another request for the same slice) -> who lies, and what he says.

All differ from the honest answer in at least one value. A liar of the last kinds lies in the dispute, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from session import SERVERS

from ppidm.protocol.linear import apply

if TYPE_CHECKING:
    from collections.abc import Callable

    from session import Answer, Disputed, Model

    from ppidm.protocol.ring import Elements, Integers

    Rng = np.random.Generator
    Change = Callable[[Rng, Elements], None]


@dataclass(frozen=True)
class Lie:
    """Server number `liar` answers `answer`, and shows `products` in a dispute (None: honest ones)."""

    liar: int
    answer: Answer
    products: list[Answer] | None = None


def in_one_layer(change: Change) -> Callable[[Rng, Model, Disputed, Disputed], Lie]:
    """A lie that changes the answer for one layer in place; flat positions are row-major."""

    def lie(rng: Rng, _model: Model, disputed: Disputed, _other: Disputed) -> Lie:
        liar, answer = _some_server(rng, disputed)
        change(rng, answer[rng.integers(len(answer))])
        return Lie(liar, answer)

    return lie


def _some_server(rng: Rng, disputed: Disputed) -> tuple[int, Answer]:
    liar = int(rng.choice(SERVERS))
    return liar, [values.copy() for values in disputed.answers[liar]]


def flip_bit(rng: Rng, values: Elements) -> None:
    """One bit of one value."""
    values.flat[rng.integers(values.size)] ^= np.uint32(1 << int(rng.integers(32)))


def flip_top_bit(rng: Rng, values: Elements) -> None:
    """The bit that a check modulo 2^32 misses half of the time."""
    values.flat[rng.integers(values.size)] ^= np.uint32(1 << 31)


def add_constant(rng: Rng, values: Elements) -> None:
    """The same constant everywhere."""
    values += np.uint32(rng.integers(1, 2**32))


def add_half(rng: Rng, values: Elements) -> None:
    """2^31 at an even number of channels of one row: a check modulo 2^32 with odd numbers misses it."""
    row = values.reshape(-1, values.shape[-1])[rng.integers(values.size // values.shape[-1])]
    row[rng.permutation(len(row))[: 2 * int(rng.integers(1, len(row) // 2 + 1))]] += np.uint32(1 << 31)


def add_power(rng: Rng, values: Elements) -> None:
    """Multiples of a power of two, spread over a row."""
    row = values.reshape(-1, values.shape[-1])[rng.integers(values.size // values.shape[-1])]
    row += (rng.integers(1, 2**32, len(row)).astype(np.uint32) | 1) << np.uint32(rng.integers(16, 32))


def move_between_channels(rng: Rng, values: Elements) -> None:
    """A constant taken from one channel and given to another."""
    constant = np.uint32(rng.integers(1, 2**32))
    first, second = rng.permutation(values.shape[-1])[:2]
    values[..., first] += constant
    values[..., second] -= constant


def swap_rows(rng: Rng, values: Elements) -> None:
    """Two output positions."""
    rows = values.reshape(-1, values.shape[-1])
    first, second = rng.permutation(len(rows))[:2]
    rows[[first, second]] = rows[[second, first]]


def swap_channels(rng: Rng, values: Elements) -> None:
    """Two output channels."""
    first, second = rng.permutation(values.shape[-1])[:2]
    values[..., [first, second]] = values[..., [second, first]]


def randomise(rng: Rng, values: Elements) -> None:
    """Noise, as an honest server's answer looks."""
    values[...] = rng.integers(0, 2**32, values.shape, np.uint32)


def zeros(_rng: Rng, values: Elements) -> None:
    """No work at all."""
    values[...] = 0


def replay(rng: Rng, _model: Model, disputed: Disputed, other: Disputed) -> Lie:
    """An earlier answer for the same slice."""
    liar, _ = _some_server(rng, disputed)
    return Lie(liar, [values.copy() for values in other.answers[liar]])


def both_roles(rng: Rng, _model: Model, disputed: Disputed, _other: Disputed) -> Lie:
    """The answer of the other server."""
    liar, _ = _some_server(rng, disputed)
    return Lie(liar, [values.copy() for values in disputed.answers[1 - liar]])


def other_weights(rng: Rng, model: Model, disputed: Disputed, _other: Disputed) -> Lie:
    """One layer with other weights: shuffled, as another slice of this size would have."""
    liar, answer = _some_server(rng, disputed)
    index = int(rng.integers(len(answer)))
    layer, weights = disputed.layers[index], model.weights(disputed.name)[index]
    answer[index] = apply(layer, shuffled(rng, weights), disputed.digits[liar], disputed.ring)
    return Lie(liar, answer)


def shuffled(rng: Rng, weights: Integers) -> Integers:
    """The output channels in another order: of four channels, one permutation in 24 is no lie."""
    while np.array_equal(other := rng.permutation(weights), weights):
        pass
    return other


def consistent(rng: Rng, model: Model, disputed: Disputed, _other: Disputed) -> Lie:
    """A lie that its limb products add up to."""
    liar, answer = _some_server(rng, disputed)
    products = [[values.copy() for values in limb] for limb in disputed.products(model, liar)]
    limb, index = int(rng.integers(len(products))), int(rng.integers(len(answer)))
    place = int(rng.integers(answer[index].size))
    bit = int(rng.integers(32 - 8 * limb))
    products[limb][index].flat[place] ^= np.uint32(1 << bit)
    answer[index] = sum((p[index] << np.uint32(8 * i) for i, p in enumerate(products)), np.zeros_like(answer[index]))
    return Lie(liar, answer, products)


def refused(rng: Rng, _model: Model, disputed: Disputed, _other: Disputed) -> Lie:
    """Noise in the answer, zeros in the dispute."""
    liar, answer = _some_server(rng, disputed)
    randomise(rng, answer[0])
    return Lie(liar, answer, [[np.zeros_like(values) for values in answer]] * disputed.ring.limbs)


KINDS: dict[str, Callable[[Rng, Model, Disputed, Disputed], Lie]] = {
    **{
        change.__name__: in_one_layer(change)
        for change in (
            flip_bit, flip_top_bit, add_constant, add_half, add_power, move_between_channels, swap_rows, swap_channels, randomise,
            zeros,
        )
    },
    **{lie.__name__: lie for lie in (replay, both_roles, other_weights, consistent, refused)},
}  # fmt: skip
