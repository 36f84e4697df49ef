"""Requests for slices of the shipped model, and disputes about their answers, in one process."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from ppidm.client.package import load_package
from ppidm.engines.onnxruntime import CpuEngine
from ppidm.export.check_keys import weights_from_slice
from ppidm.protocol.dispute import judge, limb_requests
from ppidm.protocol.errors import CheckError
from ppidm.protocol.fixed_point import encode, largest_scale
from ppidm.protocol.masks import Mask, dealer_share
from ppidm.protocol.messages import answer, parse_answer
from ppidm.protocol.precision import truncation
from ppidm.protocol.run import open_answers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ppidm.client.package import ClientPackage
    from ppidm.protocol.check import CheckVectors
    from ppidm.protocol.linear import Layer
    from ppidm.protocol.manifest import ClientManifest
    from ppidm.protocol.precision import Precision
    from ppidm.protocol.records import Subgraph
    from ppidm.protocol.ring import Digits, Elements, Integers, Ring

    Answer = list[Elements]  # per layer

SIDE = 4  # of a convolution's input; a product's has as many rows as this has positions
SERVERS = (0, 1)  # evaluator, dealer


class Model:
    """The shipped model: engines, check vectors and weights of all slices."""

    def __init__(self, package: Path) -> None:
        client = load_package(package / "client")
        self.ring, self._slices, self._client = client.ring, client.slices, client
        folder, engine = package / "server-0", CpuEngine(client.ring, threads=1)
        self._runners = {name: engine.load(folder, subgraph) for name, subgraph in client.slices.items()}
        self._folder = folder
        self.names = list(client.slices)

    def subgraph(self, name: str) -> Subgraph:
        """As in the manifest."""
        return self._slices[name]

    def layers(self, name: str) -> Sequence[Layer]:
        """Of a slice."""
        return self._slices[name].layers

    def client(self, precision: Precision) -> ClientPackage[ClientManifest]:
        """The client's side of a package of this precision, of the same ring: but for the manifest they are the same."""
        manifest = self._client.manifest.model_copy(update={"precision": precision})
        return replace(self._client, manifest=manifest)

    def checks(self, name: str) -> Sequence[CheckVectors]:
        """This user's vectors."""
        checks = self._client.checks_of(name)
        assert checks is not None
        return checks

    def weights(self, name: str) -> list[Integers]:
        """Of every layer."""
        subgraph = self._slices[name]
        return weights_from_slice(self._folder / subgraph.file, subgraph.layers)

    def run(self, name: str, digits: Digits) -> Answer:
        """What an honest server answers."""
        return [values.view(np.uint32).copy() for values in self._runners[name].run(digits)]

    def activation(self, name: str, rng: np.random.Generator, dealers: int = 1, side: int = SIDE) -> Integers:
        """A fresh one, encoded."""
        layers, dropped_bits = self._slices[name].layers, truncation(self.ring)
        first = layers[0]
        shape = (side * side, first.in_channels) if first.kind == "product" else (1, side, side, first.in_channels)
        x = rng.standard_normal(shape, np.float32)
        return encode(x, largest_scale(self.ring, layers, x, dealers, dropped_bits))

    def ask(self, name: str, rng: np.random.Generator, side: int = SIDE) -> Disputed:
        """A fresh activation, hidden; the honest answers of evaluator and dealer."""
        layers, encoded = self._slices[name].layers, self.activation(name, rng, side=side)
        mask = Mask.fresh(self.ring, encoded.shape, 1)
        digits = [mask.hide(self.ring.reduce(encoded)), dealer_share(self.ring, mask.seeds[0], encoded.shape)]
        return Disputed(self.ring, name, layers, encoded, digits, [self.run(name, each) for each in digits])


@dataclass
class Disputed:
    """A request, what each server computed on, and what each answered."""

    ring: Ring
    name: str
    layers: Sequence[Layer]
    x: Integers
    digits: list[Digits]
    answers: list[Answer]
    _products: dict[int, list[Answer]] = field(default_factory=dict)

    def products(self, model: Model, server: int) -> list[Answer]:
        """The limb products of an honest server; they do not depend on what anybody answers, so they are computed once."""
        if server not in self._products:
            self._products[server] = [model.run(self.name, limb) for limb in limb_requests(self.digits[server])]
        return self._products[server]

    @property
    def rows(self) -> int:
        """Rows of one answer, over all layers."""
        return sum(values.size // values.shape[-1] for values in self.answers[0])

    @contextmanager
    def answering(self, server: int, lie: Answer) -> Iterator[None]:
        """Within the block, `server` answered `lie`."""
        honest = self.answers[server]
        self.answers[server] = lie
        try:
            yield
        finally:
            self.answers[server] = honest

    def is_rejected(self, checks: Sequence[CheckVectors]) -> bool:
        """Whether the client notices."""
        messages = [answer([values.view(np.int32) for values in each]) for each in self.answers]
        try:
            open_answers(self.ring, self.layers, checks, self.x, messages)
        except CheckError:
            return True
        return False

    def named(self, model: Model, liar: int | None = None, shown: list[Answer] | None = None) -> set[int]:
        """Whom a dispute names; `liar` shows the products `shown` where they are given, everybody else honest ones."""
        found = set()
        for server in SERVERS:
            products = shown if server == liar and shown is not None else self.products(model, server)
            first = parse_answer(answer([v.view(np.int32) for v in self.answers[server]]), self.layers, self.x.shape)
            if judge(self.ring, self.layers, model.checks(self.name), self.digits[server], first, products):
                found.add(server)
        return found
