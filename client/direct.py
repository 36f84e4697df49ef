"""Direct mode: ask all servers at once, add their answers up, check or audit them, and name who lied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ppidm.client.dispute import find_liars
from ppidm.protocol.audit import inconsistency, is_chosen, whole_request
from ppidm.protocol.errors import CheckError, InputError, PeerError
from ppidm.protocol.masks import Mask
from ppidm.protocol.messages import parse_answer
from ppidm.protocol.run import Transcript, ask, open_answers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ppidm.client.account import Account
    from ppidm.client.package import ClientPackage
    from ppidm.client.servers import Servers
    from ppidm.protocol.check import CheckVectors
    from ppidm.protocol.linear import Shape
    from ppidm.protocol.messages import Tensor
    from ppidm.protocol.records import Subgraph
    from ppidm.protocol.ring import Integers


class DirectExchange:
    """Asks for W x. Safe to call from several threads at once.

    Args:
        package: ring, precision and check vectors.
        servers: who computes.
        account: gets the seconds of "mask", "wait" and "open", and the audits.
        audit: share of truncated answers that are audited.
    """

    def __init__(self, package: ClientPackage[Any], servers: Servers, account: Account, audit: float) -> None:
        self._package, self._servers, self._account, self._audit = package, servers, account, audit

    def __call__(self, subgraph: Subgraph, x: Integers) -> list[Integers]:
        """W x of every layer, exactly, or within the error of truncation.

        Raises:
            CheckError: an answer was wrong; names the servers that took part.
            PeerError: a server failed.
        """
        dropped_bits = self._package.precision.dropped_bits
        with self._account.timed("mask"):
            mask = Mask.fresh(self._package.ring, x.shape, len(self._servers.dealers))
            transcript = ask(self._package.ring, x, mask, dropped_bits)
        self._send(subgraph, transcript, x.shape, dropped_bits)
        checks = self._package.checks_of(subgraph.name)
        if not dropped_bits:
            return self._opened(subgraph, checks, x, transcript)
        with self._account.timed("open"):
            results = open_answers(self._package.ring, subgraph.layers, None, x, transcript.answers, dropped_bits)
        if checks is not None and is_chosen(self._audit):
            self._require_honest(subgraph, checks, x, transcript)
        return results

    def _send(self, subgraph: Subgraph, transcript: Transcript, shape: Shape, dropped_bits: int = 0) -> None:
        with self._account.timed("wait"):
            asked = zip(self._servers.all, transcript.requests, strict=True)
            answers = [server.ask(subgraph.name, request) for server, request in asked]
            transcript.answers = [answer() for answer in answers]
        for server, tensors in zip(self._servers.all, transcript.answers, strict=True):
            try:
                parse_answer(tensors, subgraph.layers, shape, dropped_bits)
            except InputError as error:
                raise PeerError(f"{server}: {error}") from None

    def _opened(
        self, subgraph: Subgraph, checks: Sequence[CheckVectors] | None, x: Integers, transcript: Transcript
    ) -> list[Integers]:
        """Whole answers, checked."""
        with self._account.timed("open"):
            try:
                return open_answers(self._package.ring, subgraph.layers, checks, x, transcript.answers)
            except CheckError as error:
                assert checks is not None, "without check vectors nothing can fail"
                liars = find_liars(self._package.ring, subgraph, checks, self._servers, transcript)
                raise accusation(str(error), liars, self._servers) from None

    def _require_honest(
        self, subgraph: Subgraph, checks: Sequence[CheckVectors], x: Integers, truncated: Transcript
    ) -> None:
        """Audit: whole answers to the identical bytes, consistent with the truncated ones, and right."""
        self._account.add_audit()
        whole = Transcript([whole_request(request) for request in truncated.requests])
        self._send(subgraph, whole, x.shape)
        with self._account.timed("open"):
            liars = self._inconsistent(subgraph, x.shape, truncated.answers, whole.answers)
        if liars:
            raise accusation(f"an audit of slice {subgraph.name} failed", liars, self._servers)
        self._opened(subgraph, checks, x, whole)

    def _inconsistent(
        self, subgraph: Subgraph, shape: Shape, truncated: Sequence[Sequence[Tensor]], whole: Sequence[Sequence[Tensor]]
    ) -> dict[str, str]:
        liars = {}
        ring, dropped_bits = self._package.ring, self._package.precision.dropped_bits
        for server, first, second in zip(self._servers.all, truncated, whole, strict=True):
            if verdict := inconsistency(ring, subgraph.layers, shape, first, second, dropped_bits):
                liars[str(server)] = verdict
        return liars


def accusation(problem: str, liars: Mapping[str, str], servers: Servers) -> CheckError:
    """What to raise after a failed check: every server was judged by itself, and the liars are named."""
    named = "; ".join(f"{server} lied or is broken: {verdict}" for server, verdict in liars.items())
    return CheckError(
        f"{problem}. {named or 'No server could be convicted'}. Took part: {servers}. The picture is abandoned; use "
        "another server in its place",
        tuple(liars),
    )
