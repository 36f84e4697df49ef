"""What the client does for every slice: encode, hide, ask, add up, check, decode (PROTOCOL.md)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ppidm.client.dispute import find_liars
from ppidm.client.shapes import ShapeRecord
from ppidm.protocol.errors import CheckError, InputError, NonFiniteError, PeerError
from ppidm.protocol.fixed_point import decode, encode, largest_scale
from ppidm.protocol.masks import Mask
from ppidm.protocol.messages import parse_answer
from ppidm.protocol.pieces import pieces_of, put_together
from ppidm.protocol.run import ask, open_answers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ppidm.client.account import Account
    from ppidm.client.package import ClientPackage
    from ppidm.client.servers import Servers
    from ppidm.protocol.check import CheckVectors
    from ppidm.protocol.linear import Shape
    from ppidm.protocol.messages import Tensor
    from ppidm.protocol.pieces import Piece
    from ppidm.protocol.records import Subgraph
    from ppidm.protocol.ring import Integers
    from ppidm.protocol.run import Transcript

    Floats = NDArray[np.float32]


PIECES_IN_FLIGHT = 2  # of one slice: the next one is masked while a server computes


class Offloader:
    """The `offload` callable of one call. Safe to call from several threads at once.

    Args:
        package: slices, openings and check vectors.
        servers: who computes.
        account: gets FLOPs, and the seconds of "mask", "wait" and "open".

    Attributes:
        non_finite: name of the first slice whose input held inf or nan, or None. Zeros were sent in its place, so that
            traffic does not depend on it; whoever owns the call raises after the last request.
    """

    def __init__(self, package: ClientPackage[Any], servers: Servers, account: Account) -> None:
        self._package, self._servers, self._account = package, servers, account
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
        asked = partial(self._ask_piece, subgraph, rows, scale)
        if len(pieces) == 1:
            results = [asked(pieces[0])]
        else:
            with ThreadPoolExecutor(PIECES_IN_FLIGHT, "ppidm-piece") as pool:
                results = list(pool.map(asked, pieces))
        self._account.add_offloaded(sum(layer.flops(rows.shape) for layer in subgraph.layers))
        whole = [put_together(pieces, parts, layer) for layer, parts in enumerate(zip(*results, strict=True))]
        return [y.reshape(*x.shape[:-1], -1) if y.ndim != x.ndim else y for y in whole]

    def _scaled(self, subgraph: Subgraph, x: Floats) -> tuple[Floats, float]:
        """What to send, and its scale: one for all pieces, since no row of a piece is longer than those of the whole."""
        with self._account.timed("mask"):
            if not np.isfinite(x).all():
                self.non_finite = self.non_finite or subgraph.name
                x = np.zeros_like(x)
            return x, largest_scale(self._package.ring, subgraph.layers, x, len(self._servers.dealers))

    def _ask_piece(self, subgraph: Subgraph, x: Floats, scale: float, piece: Piece) -> list[Floats]:
        with self._account.timed("mask"):
            encoded = encode(x[piece.index], scale)
        return self._decode(subgraph.name, self._ask(subgraph, encoded), scale)

    def _ask(self, subgraph: Subgraph, x: Integers) -> list[Integers]:
        with self._account.timed("mask"):
            mask = Mask.fresh(self._package.ring, x.shape, len(self._servers.dealers))
            transcript = ask(self._package.ring, x, mask)
        with self._account.timed("wait"):
            asked = zip(self._servers.all, transcript.requests, strict=True)
            answers = [server.ask(subgraph.name, request) for server, request in asked]
            transcript.answers = [answer() for answer in answers]
        with self._account.timed("open"):
            self._require_well_formed(subgraph, x.shape, transcript.answers)
            checks = self._package.checks_of(subgraph.name)
            try:
                return open_answers(self._package.ring, subgraph.layers, checks, x, transcript.answers)
            except CheckError as error:
                assert checks is not None, "without check vectors nothing can fail"
                raise self._accusation(subgraph, checks, transcript, str(error)) from None

    def _accusation(
        self, subgraph: Subgraph, checks: Sequence[CheckVectors], transcript: Transcript, problem: str
    ) -> CheckError:
        """What to raise after a failed check: every server is judged by itself, and the liars are named."""
        liars = find_liars(self._package.ring, subgraph, checks, self._servers, transcript)
        named = "; ".join(f"{server} lied or is broken: {verdict}" for server, verdict in liars.items())
        return CheckError(
            f"{problem}. {named or 'No server could be convicted'}. Took part: {self._servers}. The picture is abandoned; use "
            "another server in its place",
            tuple(liars),
        )

    def _require_well_formed(self, subgraph: Subgraph, shape: Shape, received: Sequence[Sequence[Tensor]]) -> None:
        for server, tensors in zip(self._servers.all, received, strict=True):
            try:
                parse_answer(tensors, subgraph.layers, shape)
            except InputError as error:
                raise PeerError(f"{server}: {error}") from None

    def _decode(self, name: str, results: Sequence[Integers], scale: float) -> list[Floats]:
        with self._account.timed("open"):
            openings = self._package.openings[name]
            return [decode(y, scale, o.scales, o.bias) for y, o in zip(results, openings, strict=True)]

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
