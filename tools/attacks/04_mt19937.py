"""The evaluator recovers the state of the mask generator from activations that it knows.

Has: the masked activations of the timestep's part of the U-Net; they are public functions of the timestep, so it knows x, and
x - (x - r) = r. Tries: 624 words of r give the state of a Mersenne Twister (MT19937); it then predicts every later mask. Weak
build: masks from random.getrandbits(32), in a generator that was seeded well.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
from parties import RING, SHAPE, Party, Slice, client_of, draw_activation, servers_of
from verdict import FAILS, Size, Verdict

from ppidm.protocol.messages import masked_request

if TYPE_CHECKING:
    from ppidm.protocol.ring import Elements

EXPECTED = FAILS
WORDS = 624


def run(size: Size) -> Verdict:
    """One public activation, then secret ones."""
    rng = np.random.default_rng(4)
    held = Slice.draw(rng)
    activations = [draw_activation(rng) for _ in range(1 + size.pick(2, 100))]
    secrets = [RING.reduce(held.encoded(x)) for x in activations]
    servers = servers_of([held])
    client = client_of([held], servers)
    weak, generator = Party("evaluator", {held.name: held}), random.Random()  # noqa: S311  (the weak build; seeded by the operating system)
    for x, secret in zip(activations, secrets, strict=True):
        client(held.name, x)
        mask = np.array([generator.getrandbits(32) for _ in range(secret.size)], np.uint32).reshape(SHAPE)
        weak.ask(held.name, masked_request(RING.to_digits(secret - mask)))
    found, weak_found = opened(servers[0], secrets), opened(weak, secrets)
    values = sum(secret.size for secret in secrets[1:])
    number = f"{found} of {values:,} later values opened after {WORDS} known words; with MT19937 {weak_found:,}"
    return Verdict(found > values // 1000, number, weak_found == values)


def opened(evaluator: Party, secrets: list[Elements]) -> int:
    """Values of secrets[1:] that the evaluator gets right, knowing secrets[0]."""
    mask = (secrets[0] - evaluator.masked(0)).reshape(-1)
    clone = random.Random()  # noqa: S311  (the attack)
    clone.setstate((3, (*(untemper(int(word)) for word in mask[:WORDS]), WORDS), None))
    for _ in mask[WORDS:]:
        clone.getrandbits(32)
    right = 0
    for index, secret in enumerate(secrets[1:], 1):
        predicted = np.array([clone.getrandbits(32) for _ in range(secret.size)], np.uint32).reshape(SHAPE)
        right += int(np.sum(evaluator.masked(index) + predicted == secret))
    return right


def untemper(word: int) -> int:
    """The state word behind an output word: the inverse of MT19937's tempering."""
    word ^= word >> 18
    word ^= word << 15 & 0xEFC60000
    undone = word
    for _ in range(5):
        undone = word ^ (undone << 7 & 0x9D2C5680)
    word = undone
    for _ in range(3):
        undone = word ^ (undone >> 11)
    return undone & 0xFFFFFFFF
