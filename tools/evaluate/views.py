"""What a party holds on every build, and the features that attackers compute from it.

Every build but `ours` is derived from the same transcript by its own rule; `ours` is what the servers of ppidm received, and
`ours_relay` what they received in relay mode, with truncated answers and audits (`relaying`).
A view of a request has the activation's shape, in units of half the ring, so that values of ring builds are in [-1, 1].
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ppidm.protocol.masks import Mask
from ppidm.protocol.prg import Seed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from tools.evaluate.transcripts import Exchange, Recorder

    from ppidm.protocol.ring import Elements, Integers, Ring

    Floats = NDArray[np.float32]

SIGMAS = (0.1, 1.0, 10.0, 100.0)  # of the float masks, in standard deviations of the activation
FLOAT_BUILDS = tuple(f"float_{sigma:g}" for sigma in SIGMAS)
BUILDS = ("none", *FLOAT_BUILDS, "reused", "ours", "ours_relay")
PARTIES = ("evaluator", "dealer", "link")
OURS_BUILDS = ("ours", "ours_relay")
BROKEN = ("none", "float_0.1", "float_1", "reused")  # where attacks must succeed, or they prove nothing
PLAIN, REUSED, OURS, DIFFERENCES, SHARE, SIZES = "none", "reused", "ours", "ours_differences", "share", "sizes"
VIEWS = (PLAIN, *FLOAT_BUILDS, REUSED, OURS, DIFFERENCES, SHARE)  # of requests; SIZES is of whole pictures
RELAY, RELAY_DIFFERENCES, RELAY_SHARE, RELAY_SIZES = "relay", "relay_differences", "relay_share", "relay_sizes"
RELAY_VIEWS = (RELAY, RELAY_DIFFERENCES, RELAY_SHARE)


def held_views(build: str, party: str) -> tuple[str, ...]:
    """Which views a party has to attack; it attacks each, and takes what works best.

    Without protection every server, and every observer, has the activations. A dealer has seeds on every other build. On
    the weak builds the link is as bare as the masks are weak; ours is TLS, outside of loopback: an observer sees sizes.
    (On loopback without TLS, an observer of the evaluator's link holds what the evaluator holds.) In relay mode, with truncated
    answers and audits, the evaluator has what the client and the dealer send it, and what it answers, together.
    """
    if build == "none":
        return (PLAIN,)
    if build == "ours_relay":
        return {"evaluator": (RELAY, RELAY_DIFFERENCES), "dealer": (RELAY_SHARE,), "link": (RELAY_SIZES,)}[party]
    if party == "dealer":
        return (SHARE,)
    if build == "ours":
        return (OURS, DIFFERENCES) if party == "evaluator" else (SIZES,)
    return (build,)


@dataclass(frozen=True)
class Layout:
    """Which requests make up the features.

    Attributes:
        maps: the slice that reads the latents.
        requests: slice -> the requests that are averaged, one list per value of `pooled`; halves of guidance go together,
            because they come in no fixed order.
    """

    maps: str
    requests: dict[str, tuple[tuple[int, ...], ...]]

    @classmethod
    def of(cls, counts: dict[str, int], maps: str, steps: Sequence[int], total: int) -> Layout:
        """From the number of requests per slice: one (prompt, timesteps), or the same number in every step."""

        def groups(count: int) -> tuple[tuple[int, ...], ...]:
            halves = count // total
            return tuple(tuple(range(step * halves, (step + 1) * halves)) for step in steps) if halves else ((0,),)

        return cls(maps, {name: groups(count) for name, count in counts.items()})


class ViewMaker:
    """Makes the views of requests.

    Args:
        rng: draws float masks: they are no secret of anybody.
        first: of an earlier picture, by slice: what a request looked like on the build `reused`, and on ours. Attackers
            subtract it from later requests. Empty for that picture itself, which fills it.
    """

    def __init__(self, rng: np.random.Generator, first: dict[str, NDArray[np.uint32]]) -> None:
        self._rng, self.first = rng, first

    def views(self, name: str, exchange: Exchange) -> dict[str, Floats]:
        """What would be seen of one request for slice `name` on every build, each of the activation's shape."""
        ring, encoded = exchange.ring, exchange.encoded
        reused = ring.from_digits(Mask(ring, encoded.shape, [_reused_seed(name)]).hide(ring.reduce(encoded)))
        first_reused, first_ours = self.first.setdefault(name, np.stack([reused, exchange.masked]))
        return {
            PLAIN: _in_half_rings(ring, encoded),
            **self._float_masked(_in_half_rings(ring, encoded)),
            REUSED: _difference(ring, reused, first_reused),
            OURS: _in_half_rings(ring, ring.signed(exchange.masked)),
            DIFFERENCES: _difference(ring, exchange.masked, first_ours),
            SHARE: _in_half_rings(ring, ring.signed(exchange.share)),
        }

    def _float_masked(self, x: Floats) -> dict[str, Floats]:
        noise = self._rng.standard_normal(x.shape, np.float32) * x.std()
        return {build: x + np.float32(sigma) * noise for build, sigma in zip(FLOAT_BUILDS, SIGMAS, strict=True)}

    def features(self, recorder: Recorder, layout: Layout) -> dict[str, Floats]:
        """The features of one picture, for every view: `<view>.maps` (C, h, w) and `<view>.pooled` (values).

        Maps: all requests for the slice that reads the latents. Pooled: for every slice the mean over positions of every
        channel.
        """
        maps: dict[str, list[Floats]] = {view: [] for view in VIEWS}
        pooled: dict[str, list[Floats]] = {view: [] for view in VIEWS}
        for index in range(recorder.counts()[layout.maps]):
            for view, values in self.views(layout.maps, recorder.take(layout.maps, index)).items():
                maps[view].append(values[0].transpose(2, 0, 1))
        for name, groups in layout.requests.items():
            for group in groups:
                for view, values in self._pooled(name, [recorder.take(name, index) for index in group]).items():
                    pooled[view].append(values)
        stacked = {f"{view}.maps": np.concatenate(parts) for view, parts in maps.items()}
        return stacked | {f"{view}.pooled": np.concatenate(parts) for view, parts in pooled.items()}

    def _pooled(self, name: str, exchanges: Sequence[Exchange]) -> dict[str, Floats]:
        each = [self.views(name, exchange) for exchange in exchanges]
        return {
            view: np.mean([_channel_means(seen[view]) for seen in each], axis=0, dtype=np.float32) for view in VIEWS
        }


def _channel_means(x: Floats) -> Floats:
    means: Floats = x.reshape(-1, x.shape[-1]).mean(axis=0, dtype=np.float64).astype(np.float32)
    return means


def _reused_seed(name: str) -> Seed:
    """The weak build's: one per slice, for all requests. A mask refuses a second use, so it makes a new one of it."""
    return Seed(hashlib.sha256(name.encode()).digest())


def _difference(ring: Ring, view: Elements, first: Elements) -> Floats:
    """What two requests for one slice differ by; the mask cancels, if it is the same."""
    return _in_half_rings(ring, ring.signed((view - first) & ring.mask))


def _in_half_rings(ring: Ring, integers: Integers) -> Floats:
    return (integers / 2.0 ** (ring.bits - 1)).astype(np.float32)
