"""Relay mode: dealers send their shares to the evaluator; the client uploads once and downloads once (PROTOCOL.md, section 7)."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ppidm.client.dealing import Deal, Dealing
from ppidm.client.direct import accusation
from ppidm.client.relay_dispute import RelayDispute
from ppidm.protocol.audit import inconsistency, is_chosen, whole_request
from ppidm.protocol.errors import CheckError, InputError, PeerError
from ppidm.protocol.masks import Mask
from ppidm.protocol.messages import masked_request, parse_answer
from ppidm.protocol.relay import open_relayed
from ppidm.protocol.relay_messages import (
    CLOSE,
    CONNECT,
    OPEN,
    SESSION_BYTES,
    TOKEN_BYTES,
    ConnectRelay,
    OpenRelay,
    close_request,
    connect_request,
    open_request,
    parse_window,
    place_tensors,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ppidm.client.account import Account
    from ppidm.client.package import ClientPackage
    from ppidm.client.servers import Servers
    from ppidm.protocol.check import CheckVectors
    from ppidm.protocol.linear import Shape
    from ppidm.protocol.messages import Tensor
    from ppidm.protocol.records import Subgraph
    from ppidm.protocol.ring import Digits, Integers


class RelayExchange:
    """A session of relay mode. Safe to call from several threads at once.

    Args:
        package: ring, precision and check vectors.
        servers: who computes.
        account: gets the seconds of "mask", "wait" and "open", the audits, and what was relayed.
        audit: share of truncated answers that are audited.

    Raises:
        PeerError: a server does not relay, or may not.
    """

    def __init__(self, package: ClientPackage[Any], servers: Servers, account: Account, audit: float) -> None:
        self._package, self._servers, self._account, self._audit = package, servers, account, audit
        self._session = os.urandom(SESSION_BYTES)
        self._signers = [_signer(server) for server in servers.dealers]
        tokens = [os.urandom(TOKEN_BYTES) for _ in servers.dealers]
        digests = tuple(hashlib.sha256(token).digest() for token in tokens)
        opened = OpenRelay(self._session, digests, tuple(self._signers))
        window = parse_window(servers.evaluator.relay(OPEN, open_request(opened)))
        self._dealing = Dealing(self._session, servers.dealers, package.ring, window)
        try:
            self._connect(tokens)
        except PeerError:
            self._end()
            raise

    def _connect(self, tokens: Sequence[bytes]) -> None:
        evaluator = self._servers.evaluator
        for dealer, token in zip(self._servers.dealers, tokens, strict=True):
            connect = ConnectRelay(self._session, str(evaluator.address), evaluator.certificate, token)
            dealer.relay(CONNECT, connect_request(connect))

    def expect(self, requests: Mapping[str, int]) -> None:
        """See `Dealing.expect`."""
        self._dealing.expect(requests)

    def fits(self, subgraph: Subgraph, shape: Shape) -> bool:
        """Whether the evaluator's window can hold what dealers send for this request."""
        return self._dealing.fits(subgraph, shape)

    def __call__(self, subgraph: Subgraph, x: Integers, pieces: int = 1) -> list[Integers]:
        """W x of every layer, exactly, or within the error of truncation. Of `pieces`, see `Dealing.take`.

        Raises:
            CheckError: the answer was wrong; names who lied.
            PeerError: the relay failed.
        """
        deal, place = self._dealing.take(subgraph, x.shape, pieces)
        try:
            with self._account.timed("mask"):
                digits = Mask(self._package.ring, x.shape, deal.seeds).hide(self._package.ring.reduce(x))
                request = [*masked_request(digits, self._package.precision.dropped_bits), *place_tensors(place)]
            answer = self._send(subgraph, request, deal)
            return self._opened(subgraph, x, digits, deal, request, answer)
        finally:
            self._dealing.release(deal)

    def _send(self, subgraph: Subgraph, request: Sequence[Tensor], deal: Deal) -> list[Tensor]:
        with self._account.timed("wait"):
            pending = self._servers.evaluator.ask(subgraph.name, request)
            self._dealing.deal_ahead()
            for acknowledge in deal.acknowledgements:
                acknowledge()
            deal.acknowledgements.clear()  # an audit asks again
            return pending()

    def _opened(
        self,
        subgraph: Subgraph,
        x: Integers,
        digits: Digits,
        deal: Deal,
        request: Sequence[Tensor],
        answer: Sequence[Tensor],
    ) -> list[Integers]:
        ring, dropped_bits = self._package.ring, self._package.precision.dropped_bits
        checks = self._package.checks_of(subgraph.name)
        if not dropped_bits:
            return self._checked(subgraph, checks, x, digits, deal, answer)
        with self._account.timed("open"):
            self._require_well_formed(subgraph, x.shape, answer, dropped_bits)
            results = open_relayed(ring, subgraph.layers, None, x, deal.seeds, answer, dropped_bits)
        if checks is not None and is_chosen(self._audit):
            self._account.add_audit()
            whole = self._send(subgraph, whole_request(request), deal)
            with self._account.timed("open"):
                self._require_well_formed(subgraph, x.shape, whole, 0)
                verdict = inconsistency(ring, subgraph.layers, x.shape, answer, whole, dropped_bits)
            if verdict:
                liars = {str(self._servers.evaluator): verdict}
                raise accusation(f"an audit of slice {subgraph.name} failed", liars, self._servers)
            self._checked(subgraph, checks, x, digits, deal, whole)
        return results

    def _checked(
        self,
        subgraph: Subgraph,
        checks: Sequence[CheckVectors] | None,
        x: Integers,
        digits: Digits,
        deal: Deal,
        answer: Sequence[Tensor],
    ) -> list[Integers]:
        with self._account.timed("open"):
            self._require_well_formed(subgraph, x.shape, answer, 0)
            try:
                return open_relayed(self._package.ring, subgraph.layers, checks, x, deal.seeds, answer)
            except CheckError as error:
                assert checks is not None, "without check vectors nothing can fail"
                liars = RelayDispute(self._package.ring, self._servers, self._session, self._signers).find_liars(
                    subgraph, checks, digits, deal, answer
                )
                raise accusation(str(error), liars, self._servers) from None

    def _require_well_formed(
        self, subgraph: Subgraph, shape: Shape, answer: Sequence[Tensor], dropped_bits: int
    ) -> None:
        try:
            parse_answer(answer, subgraph.layers, shape, dropped_bits)
        except InputError as error:
            raise PeerError(f"{self._servers.evaluator}: {error}") from None

    def close(self) -> None:
        """End the session; the evaluator drops what it holds for it."""
        self._dealing.close()
        self._account.add_relayed(self._dealing.relayed)
        self._end()

    def _end(self) -> None:
        with suppress(PeerError):  # the evaluator drops the session by itself, when it has not heard of it for long
            self._servers.evaluator.relay(CLOSE, close_request(self._session))


def _signer(server: object) -> bytes:
    signer = server.handshake().signer  # type: ignore[attr-defined]
    try:
        return bytes.fromhex(signer)
    except ValueError:
        raise PeerError(f"{server} has announced no key to sign with; it cannot relay") from None
