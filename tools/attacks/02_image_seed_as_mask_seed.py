"""The evaluator guesses the user's image seed, and derives masks from it.

Has: the masked activation; image seeds are small numbers that users publish beside their pictures. Tries: every seed below a
limit, by several derivations; whatever unmasks to small values is the activation. Weak build: mask seed = SHA-256(image seed).
"""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

import numpy as np
from parties import RING, SHAPE, Party, Slice, client_of, draw_activation, servers_of
from verdict import FAILS, Size, Verdict

from ppidm.protocol.masks import Mask, dealer_share
from ppidm.protocol.messages import masked_request
from ppidm.protocol.prg import SEED_BYTES, Seed

if TYPE_CHECKING:
    from collections.abc import Callable

    from ppidm.protocol.ring import Elements

EXPECTED = FAILS
DERIVATIONS: dict[str, Callable[[int], bytes]] = {
    "little-endian": lambda seed: seed.to_bytes(SEED_BYTES, "little"),
    "SHA-256 of the decimal": lambda seed: hashlib.sha256(str(seed).encode()).digest(),
    "numpy's generator": lambda seed: np.random.default_rng(seed).bytes(SEED_BYTES),
    "numpy's old generator": lambda seed: np.random.RandomState(seed).bytes(SEED_BYTES),
    "Python's generator": lambda seed: random.Random(seed).randbytes(SEED_BYTES),  # noqa: S311  (the weakness)
}
SMALL = 2**28  # encoded activations are smaller; 648 uniform values are not, but with probability 2^-1900


def run(size: Size) -> Verdict:
    """The user draws with image seed 41, and seeds every global generator with it, as people do."""
    limit, image_seed = size.pick(60, 10_000), 41
    rng = np.random.default_rng(image_seed)
    random.seed(image_seed)
    np.random.seed(image_seed)  # noqa: NPY002  (what users do)
    held, x = Slice.draw(rng), draw_activation(rng)
    servers = servers_of([held])
    client_of([held], servers)(held.name, x)
    secret = RING.reduce(held.encoded(x))
    weak = Party("evaluator", {held.name: held})
    derived = Seed(DERIVATIONS["SHA-256 of the decimal"](image_seed))
    weak.ask(held.name, masked_request(Mask(RING, SHAPE, [derived]).hide(secret)))
    tried = limit * len(DERIVATIONS)
    opened, weak_opened = openings(servers[0].masked(0), limit), openings(weak.masked(0), limit)
    number = f"{len(opened)} of {tried:,} guessed masks open x; with SHA-256(image seed) {len(weak_opened)}"
    return Verdict(bool(opened), number, len(weak_opened) == 1 and np.array_equal(weak_opened[0], secret))


def openings(masked: Elements, limit: int) -> list[Elements]:
    """What looks like an activation under some guessed mask."""
    guesses = (Seed(derive(seed)) for derive in DERIVATIONS.values() for seed in range(limit))
    unmasked = (masked + RING.from_digits(dealer_share(RING, guess, SHAPE)) for guess in guesses)
    return [x for x in unmasked if np.abs(RING.signed(x)).max() < SMALL]
