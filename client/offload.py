"""What the client does for every slice: encode, hide, ask, add up, check, decode (PROTOCOL.md)."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ppidm.client.direct import DirectExchange
from ppidm.client.exchange import Exchange, Mode
from ppidm.client.relay import RelayExchange
from ppidm.client.shapes import ShapeRecord
from ppidm.protocol.audit import DEFAULT_SHARE
from ppidm.protocol.errors import NonFiniteError
from ppidm.protocol.fixed_point import decode, encode, largest_scale
from ppidm.protocol.pieces import pieces_of, put_together

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ppidm.client.account import Account
    from ppidm.client.package import ClientPackage
    from ppidm.client.servers import Servers
    from ppidm.protocol.linear import Shape
    from ppidm.protocol.pieces import Piece
    from ppidm.protocol.records import Subgraph
    from ppidm.protocol.ring import Integers

    Floats = NDArray[np.float32]


PIECES_IN_FLIGHT = 2  # of one slice: the next one is masked while a server computes


class Offloader:
    """The `offload` callable of one call. Safe to call from several threads at once.

    Args:
        package: slices, openings and check vectors.
        servers: who computes.
        account: gets FLOPs, and the seconds of "mask", "wait" and "open".
        audit: share of truncated answers that are audited.
        mode: direct, or relay.

    Attributes:
        non_finite: name of the first slice whose input held inf or nan, or None. Zeros were sent in its place, so that
            traffic does not depend on it; whoever owns the call raises after the last request.
    """

    def __init__(
        self,
        package: ClientPackage[Any],
        servers: Servers,
        account: Account,
        audit: float = DEFAULT_SHARE,
        mode: Mode = Mode.DIRECT,
    ) -> None:
        self._package, self._dealers, self._account = package, len(servers.dealers), account
        self._ask = Exchange(
            DirectExchange(package, servers, account, audit),
            partial(RelayExchange, package, servers, account, audit) if mode is Mode.RELAY else None,
        )
        self._shapes = ShapeRecord()
        self._failure: Exception | None = None
        self.non_finite: str | None = None

    def __call__(self, name: str, x: Floats) -> list[Floats]:
        """The float32 result of every layer of slice `name` for the activation `x`, channels last.

        Raises:
            CheckError: an answer was wrong; names the servers that took part.
            PeerError: a server failed.

        A failure of one slice ends the call: no later slice, of either half of guidance, asks the servers again.
        """
        if self._failure is not None:
            raise self._failure
        try:
            return self._offload(name, x)
        except Exception as error:
            self._failure = error
            raise

    def _offload(self, name: str, x: Floats) -> list[Floats]:
        subgraph = self._package.slices[name]
        rows = x.reshape(-1, x.shape[-1]) if subgraph.layers[0].kind == "product" else x
        self._shapes.require_unchanged(name, rows.shape)
        rows, scale = self._scaled(subgraph, rows)
        pieces = pieces_of(subgraph.layers, rows.shape)
        shapes = Counter(piece.shape_of(rows.shape) for piece in pieces)
        asked = partial(self._ask_piece, subgraph, rows, scale, shapes)
        if len(pieces) == 1:
            results = [asked(pieces[0])]
        else:
            with ThreadPoolExecutor(PIECES_IN_FLIGHT, "ppidm-piece") as pool:
                results = list(pool.map(asked, pieces))
        whole = [put_together(pieces, parts, layer) for layer, parts in enumerate(zip(*results, strict=True))]
        values = rows.size + sum(y.size for y in whole)
        self._account.add_offloaded(sum(layer.flops(rows.shape) for layer in subgraph.layers), values)
        return [y.reshape(*x.shape[:-1], -1) if y.ndim != x.ndim else y for y in whole]

    def _scaled(self, subgraph: Subgraph, x: Floats) -> tuple[Floats, float]:
        """What to send, and its scale: one for all pieces, since no row of a piece is longer than those of the whole."""
        with self._account.timed("mask"):
            if not np.isfinite(x).all():
                self.non_finite = self.non_finite or subgraph.name
                x = np.zeros_like(x)
            ring, dropped_bits = self._package.ring, self._package.precision.dropped_bits
            return x, largest_scale(ring, subgraph.layers, x, self._dealers, dropped_bits)

    def _ask_piece(
        self, subgraph: Subgraph, x: Floats, scale: float, shapes: Counter[Shape], piece: Piece
    ) -> list[Floats]:
        with self._account.timed("mask"):
            encoded = encode(x[piece.index], scale)
        return self._decode(subgraph.name, self._ask(subgraph, encoded, shapes[encoded.shape]), scale)

    def _decode(self, name: str, results: Sequence[Integers], scale: float) -> list[Floats]:
        with self._account.timed("open"):
            openings = self._package.openings[name]
            return [decode(y, scale, o.scales, o.bias) for y, o in zip(results, openings, strict=True)]

    def expect(self, requests: Mapping[str, int]) -> None:
        """Say how often each slice will be asked for, from now on."""
        self._ask.expect(requests)

    def close(self) -> None:
        """The call is over."""
        self._ask.close()

    def abandon(self) -> None:
        """End this call at its next slice, in every thread."""
        self._failure = self._failure or InterruptedError("the call was abandoned")

    def raise_if_not_finite(self, *results: Floats) -> None:
        """Tell that the model overflowed, once all requests were made.

        Args:
            results: what came out at the end.

        Raises:
            NonFiniteError: names the first slice whose input was not finite.
        """
        where = f"before slice {self.non_finite}" if self.non_finite else "in the last step"
        if self.non_finite or not all(np.isfinite(result).all() for result in results):
            raise NonFiniteError(
                f"the model produced inf or nan {where}; the picture is lost. Use other latents, a lower guidance scale or "
                "another scheduler"
            )
