"""A server, or who crafts the package, learns about x from whether the client fails, retries, or sends something else.

Has: what is visible of a session: messages, their sizes, and its end. Tries: activations of very different kinds, extreme ones
among them, with honest servers and with one that adds a large constant, so that some clients overflow for some x only. If what is
visible differs between two kinds, one bit of x leaks per request. Weak build: a scale measured beforehand, and a retry at half
of it after an overflow, as many fixed-point systems do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from parties import RING, SHAPE, Party, Slice, client_of, draw_activation, honest
from verdict import FAILS, Size, Verdict

from ppidm.protocol.errors import CheckError
from ppidm.protocol.fixed_point import encode
from ppidm.protocol.linear import apply
from ppidm.protocol.messages import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from parties import Floats, Tamper

EXPECTED = FAILS
CONSTANT = np.int32(2**30)
KINDS: dict[str, Callable[[np.random.Generator], Floats]] = {
    "normal": draw_activation,
    "zeros": lambda _rng: np.zeros(SHAPE, np.float32),
    "tiny": lambda rng: draw_activation(rng) * np.float32(1e-42),
    "one spike": lambda rng: (
        draw_activation(rng) + 1000 * (rng.permutation(648).reshape(SHAPE) == 0).astype(np.float32)
    ),
    "largest float": lambda rng: np.sign(draw_activation(rng)) * np.finfo(np.float32).max,
    "constant": lambda rng: np.full(SHAPE, rng.standard_normal(), np.float32),
    "infinite": lambda rng: np.where(rng.random(SHAPE) < 0.01, np.float32(np.inf), draw_activation(rng)),  # noqa: PLR2004
    "nan": lambda _rng: np.full(SHAPE, np.nan, np.float32),
}


def add_constant(_name: str, _request: Sequence[Tensor], answer: list[Tensor]) -> list[Tensor]:
    """The lie that is meant to overflow."""
    return [Tensor(t.name, t.datatype, t.shape, (t.array("INT32") + CONSTANT).tobytes()) for t in answer]


def run(size: Size) -> Verdict:
    """Count what is visible, by kind of activation and server."""
    rng = np.random.default_rng(12)
    held, trials = Slice.draw(rng), size.pick(3, 300)
    aborts = {honest: 0, add_constant: 0}
    views: dict[Tamper, set[tuple[object, ...]]] = {honest: set(), add_constant: set()}
    weak_views = [{weak_view(held, KINDS[kind](rng)) for _ in range(trials)} for kind in ("normal", "one spike")]
    for tamper in aborts:
        for draw in KINDS.values():
            for _ in range(trials):
                view = visible(held, draw(rng), tamper)
                aborts[tamper] += view[-1] == "aborted"
                views[tamper].add(view)
    sessions = trials * len(KINDS)
    leaks = any(len(seen) > 1 for seen in views.values()) or aborts[honest] > 0 or aborts[add_constant] < sessions
    number = (
        f"{len(KINDS)} kinds of x look alike; aborts {aborts[honest]} of {sessions:,} with honest servers, "
        f"{aborts[add_constant]:,} of {sessions:,} with a liar; with retries requests tell a spike"
    )
    return Verdict(leaks, number, weak_views[0].isdisjoint(weak_views[1]))


def visible(held: Slice, x: Floats, tamper: Tamper) -> tuple[object, ...]:
    """What everybody sees of a session of one request: names, types and sizes of all messages, and how it ended."""
    servers = [Party("evaluator", {held.name: held}, tamper), Party("dealer 1", {held.name: held})]
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # as the pipeline does
            client_of([held], servers)(held.name, x)
        end = "went on"
    except CheckError:
        end = "aborted"
    first = [[(t.name, t.datatype, t.shape) for t in tensors] for server in servers for _, tensors in server.seen[:1]]
    return (str(first), min(len(server.seen) for server in servers), end)


def weak_view(held: Slice, x: Floats) -> tuple[object, ...]:
    """The weak build: how many requests it makes."""
    scale, requests = 2.0**14, 1
    while requests < 100 and overflows(held, encode(x, scale)):  # noqa: PLR2004
        scale, requests = scale / 2, requests + 1
    return (requests,)


def overflows(held: Slice, x: np.ndarray) -> bool:
    """Whether a result is near the end of the ring, as a client without a norm rule must ask."""
    y = RING.signed(apply(held.layer, held.weights, RING.to_digits(RING.reduce(x)), RING))
    return bool(np.abs(x).max() >= 2**31 or np.abs(y).max() >= 2**30)
