"""A dispute in relay mode: the evaluator shows what each dealer signed, and every server is judged by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ppidm.client.dispute import verdict_on
from ppidm.protocol.errors import InputError, PeerError
from ppidm.protocol.masks import dealer_share
from ppidm.protocol.messages import parse_answer
from ppidm.protocol.relay import elements_of, mask_out, require_signature
from ppidm.protocol.relay_messages import SHOW, parse_share, show_request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ppidm.client.dealing import Deal
    from ppidm.client.servers import Servers
    from ppidm.protocol.check import CheckVectors
    from ppidm.protocol.linear import Shape
    from ppidm.protocol.messages import Tensor
    from ppidm.protocol.records import Subgraph
    from ppidm.protocol.ring import Digits, Elements, Ring


@dataclass(frozen=True)
class RelayDispute:
    """Of one session. `signers` are the public keys of its dealers."""

    ring: Ring
    servers: Servers
    session: bytes
    signers: Sequence[bytes]

    def find_liars(
        self,
        subgraph: Subgraph,
        checks: Sequence[CheckVectors],
        digits: Digits,
        deal: Deal,
        answer: Sequence[Tensor],
    ) -> dict[str, str]:
        """Judge all servers.

        Args:
            subgraph: the slice.
            checks: of each layer.
            digits: what the evaluator computed on.
            deal: what dealers got.
            answer: the evaluator's, whole.

        Returns:
            Role and address -> what is wrong, of every server that lied or would not show what it must.
        """
        evaluator, shape, liars = self.servers.evaluator, digits.shape[1:], {}
        own = parse_answer(answer, subgraph.layers, shape)
        for index, (dealer, seed) in enumerate(zip(self.servers.dealers, deal.seeds, strict=True)):
            try:
                relayed = self._shown(subgraph, shape, deal, index)
            except (InputError, PeerError) as error:
                return {str(evaluator): f"it did not show what {dealer} had signed ({error})"}
            own = [(mine - theirs) & self.ring.mask for mine, theirs in zip(own, relayed, strict=True)]
            masks = [mask_out(self.ring, seed, layer, share.shape) for layer, share in enumerate(relayed)]
            first = [(share - mask) & self.ring.mask for share, mask in zip(relayed, masks, strict=True)]
            drawn = dealer_share(self.ring, seed, shape)
            if verdict := verdict_on(self.ring, subgraph, checks, dealer, drawn, first):
                liars[str(dealer)] = verdict
        if verdict := verdict_on(self.ring, subgraph, checks, evaluator, digits, own):
            liars[str(evaluator)] = verdict
        return liars

    def _shown(self, subgraph: Subgraph, shape: Shape, deal: Deal, index: int) -> list[Elements]:
        """W r + s as dealer number `index` signed it."""
        shown = self.servers.evaluator.relay(SHOW, show_request(self.session, deal.place.ticket, index))
        share = parse_share(subgraph.name, shown)
        require_signature(self.signers[index], self.session, share)
        if share.ticket != deal.place.ticket:
            raise InputError(f"ticket {share.ticket}; expected {deal.place.ticket}")
        return elements_of(self.ring, subgraph.layers, shape, share)
