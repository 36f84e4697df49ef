"""A dispute: the client asks every server for its limb products, and names who lied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ppidm.protocol.dispute import judge, limb_requests
from ppidm.protocol.errors import InputError, PeerError
from ppidm.protocol.masks import dealer_share
from ppidm.protocol.messages import MaskedRequest, masked_request, parse_answer, parse_request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ppidm.client.servers import Servers
    from ppidm.client.transport import Server
    from ppidm.protocol.check import CheckVectors
    from ppidm.protocol.messages import Tensor
    from ppidm.protocol.records import Subgraph
    from ppidm.protocol.ring import Digits, Elements, Ring
    from ppidm.protocol.run import Transcript


def find_liars(
    ring: Ring, subgraph: Subgraph, checks: Sequence[CheckVectors], servers: Servers, transcript: Transcript
) -> dict[str, str]:
    """Ask all servers of a disputed request, and judge each by itself.

    Args:
        ring: of the request.
        subgraph: the slice.
        checks: of each layer.
        servers: who took part.
        transcript: the disputed request and its answers.

    Returns:
        Role and address -> what is wrong, of every server that lied or would not show its products.
    """
    liars = {}
    for server, request, answer in zip(servers.all, transcript.requests, transcript.answers, strict=True):
        if verdict := _verdict(ring, subgraph, checks, server, request, answer):
            liars[str(server)] = verdict
    return liars


def _verdict(
    ring: Ring,
    subgraph: Subgraph,
    checks: Sequence[CheckVectors],
    server: Server,
    request: Sequence[Tensor],
    answer: Sequence[Tensor],
) -> str | None:
    digits = _digits(ring, subgraph, request)
    return verdict_on(ring, subgraph, checks, server, digits, parse_answer(answer, subgraph.layers, digits.shape[1:]))


def verdict_on(
    ring: Ring,
    subgraph: Subgraph,
    checks: Sequence[CheckVectors],
    server: Server,
    digits: Digits,
    first: Sequence[Elements],
) -> str | None:
    """Ask one server for its limb products, and judge it.

    Args:
        ring: of the request.
        subgraph: the slice.
        checks: of each layer.
        server: who is judged.
        digits: what it computed on.
        first: what it made of them in the disputed request, per layer.

    Returns:
        What is wrong with it, or None.
    """
    shape = digits.shape[1:]
    try:
        asked = [server.ask(subgraph.name, masked_request(limb)) for limb in limb_requests(digits)]
        products = [parse_answer(pending(), subgraph.layers, shape) for pending in asked]
        return judge(ring, subgraph.layers, checks, digits, first, products)
    except (InputError, PeerError) as error:
        return f"it did not show its limb products ({error})"


def _digits(ring: Ring, subgraph: Subgraph, request: Sequence[Tensor]) -> Digits:
    """What the server computed on."""
    parsed = parse_request(request, subgraph.layers, ring)
    return parsed.digits if isinstance(parsed, MaskedRequest) else dealer_share(ring, parsed.seed, parsed.shape)
