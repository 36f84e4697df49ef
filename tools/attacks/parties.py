"""The parties of an attack in one process: ppidm's own client code, and servers that note what they see.

Attacks replace servers (`tamper`), never the client: what fails here fails against the code that ships. Weak builds stand
in the files of the attacks.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ppidm.client.account import Account
from ppidm.client.exchange import Mode
from ppidm.client.offload import Offloader
from ppidm.client.package import ClientPackage
from ppidm.client.servers import Servers
from ppidm.client.transport import Traffic
from ppidm.protocol.check import CheckVectors, draw_check
from ppidm.protocol.fixed_point import encode, largest_scale
from ppidm.protocol.linear import Layer
from ppidm.protocol.messages import MASKED, Tensor
from ppidm.protocol.openings import Opening
from ppidm.protocol.precision import Precision
from ppidm.protocol.records import SelfTest, Subgraph
from ppidm.protocol.ring import Ring
from ppidm.protocol.run import serve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ppidm.protocol.ring import Digits, Elements, Integers

    Floats = NDArray[np.float32]
    Tamper = Callable[[str, Sequence[Tensor], list[Tensor]], list[Tensor]]

RING = Ring(32)
SHAPE = (1, 9, 9, 8)  # of an activation; 648 values
_NO_DIGEST = "0" * 64


@dataclass(frozen=True)
class Slice:
    """A slice of one layer, its weights, and this user's check vectors."""

    layer: Layer
    weights: Integers
    check: CheckVectors

    @classmethod
    def draw(cls, rng: np.random.Generator, name: str = "down.conv", channels: tuple[int, int] = (8, 6)) -> Slice:
        """A 3 x 3 convolution with random weights of 12 bits."""
        weights = rng.integers(-2047, 2048, (channels[1], channels[0], 3, 3))
        norm = float(np.sqrt(np.square(weights.astype(float)).reshape(len(weights), -1).sum(axis=1).max()))
        layer = Layer(
            name=name,
            kind="convolution",
            in_channels=channels[0],
            out_channels=channels[1],
            kernel=(3, 3),
            pads=(1, 1, 1, 1),
            weight_norm=norm,
        )
        return cls(layer, weights, draw_check(layer, weights))

    @property
    def name(self) -> str:
        """Of the slice and of its layer."""
        return self.layer.name

    def encoded(self, x: Floats, dealers: int = 1) -> Integers:
        """What the client hides for the activation `x`: the secret that an attack is after."""
        return encode(x, largest_scale(RING, [self.layer], x, dealers))

    def subgraph(self, shape: tuple[int, ...]) -> Subgraph:
        """As in a manifest."""
        test = SelfTest(shape=shape, digest=_NO_DIGEST)
        return Subgraph(
            name=self.name, file="s.onnx", sha256=_NO_DIGEST, layers=(self.layer,), nominal_shape=shape, self_test=test
        )


def honest(_name: str, _request: Sequence[Tensor], answer: list[Tensor]) -> list[Tensor]:
    """Tamper with nothing."""
    return answer


class Party:
    """A server in one role, as the client's code sees it. It notes every request.

    Args:
        role: for messages.
        slices: what it holds.
        tamper: (slice, request, honest answer) -> what it answers.
        ring: of the slices.
    """

    def __init__(self, role: str, slices: Mapping[str, Slice], tamper: Tamper = honest, ring: Ring = RING) -> None:
        self._ring, self._role, self._slices, self._tamper = ring, role, slices, tamper
        self.seen: list[tuple[str, list[Tensor]]] = []
        self.traffic = Traffic(0, 0)

    def ask(self, name: str, tensors: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
        """See `ppidm.client.transport.Server.ask`."""
        self.seen.append((name, list(tensors)))
        answer = self._tamper(name, tensors, self.compute(name, tensors))
        return lambda: answer

    def compute(self, name: str, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The honest answer."""
        held = self._slices[name]
        return serve(self._ring, [held.layer], [held.weights], tensors)

    def masked(self, index: int) -> Elements:
        """x_int - r of request number `index`, as the evaluator holds it."""
        (tensor,) = [tensor for tensor in self.seen[index][1] if tensor.name == MASKED]
        return RING.from_digits(cast("Digits", tensor.array("UINT8")))

    def __str__(self) -> str:
        return self._role


def client_of(
    slices: Sequence[Slice],
    servers: Sequence[Party],
    shape: tuple[int, ...] = SHAPE,
    precision: Precision = Precision.EXACT,
    audit: float = 0.0,
    mode: Mode = Mode.DIRECT,
) -> Offloader:
    """A session of ppidm's client: a callable (slice name, activation) -> results.

    Args:
        slices: of the package.
        servers: the evaluator, then the dealers.
        shape: of the activations, for the manifest.
        precision: of the package.
        audit: share of truncated answers that are audited.
        mode: direct, or relay.
    """
    package = ClientPackage(
        directory=cast("Path", None),
        manifest=cast("Any", SimpleNamespace(ring=precision.ring, package=_NO_DIGEST, precision=precision)),
        slices={held.name: held.subgraph(shape) for held in slices},
        openings={held.name: [_unit_opening(held)] for held in slices},
        checks={held.name: [held.check] for held in slices},
    )
    everyone = Servers(cast("Any", servers[0]), tuple(cast("Any", server) for server in servers[1:]))
    return Offloader(package, everyone, Account(everyone), audit, mode)


def _unit_opening(held: Slice) -> Opening:
    channels = held.layer.out_channels
    return Opening(np.ones(channels, np.float32), np.zeros(channels, np.float32))


def servers_of(slices: Sequence[Slice], dealers: int = 1) -> list[Party]:
    """Honest servers: the evaluator, then the dealers."""
    held = {each.name: each for each in slices}
    return [Party("evaluator", held), *(Party(f"dealer {index + 1}", held) for index in range(dealers))]


def draw_activation(rng: np.random.Generator, shape: tuple[int, ...] = SHAPE) -> Floats:
    """Something like an activation of a U-Net."""
    return rng.standard_normal(shape, np.float32)
