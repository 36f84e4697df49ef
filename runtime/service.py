"""What a server answers, independent of any transport. It holds no state between requests."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING
from uuid import uuid4

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ppidm.protocol.cost import direct_cost
from ppidm.protocol.errors import InputError
from ppidm.protocol.handshake import extensions
from ppidm.protocol.masks import dealer_share
from ppidm.protocol.messages import ANSWER, ANSWER_BITS, MASKED, SEED, SHAPE, MaskedRequest, answer, parse_request
from ppidm.protocol.prg import SEED_BYTES
from ppidm.runtime.limits import Limits, working_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from ppidm.engines.base import Runner
    from ppidm.protocol.linear import Layer, Shape
    from ppidm.protocol.manifest import ServerManifest
    from ppidm.protocol.messages import SeedRequest, Tensor
    from ppidm.protocol.records import Subgraph

    Finish = Callable[[Sequence[NDArray[np.int32]], MaskedRequest | SeedRequest], list[Tensor]]

VERSION = "1"  # of every model
MAX_ANSWER_BYTES = 1 << 29  # of all tensors of an answer
_DEFAULT = Limits()
_LISTED = 5  # names of models that an error message lists


class UnknownModelError(InputError):
    """A request for a model that this server does not have."""


@dataclass(frozen=True)
class TensorSpec:
    """Metadata of one tensor; -1 is any size."""

    name: str
    datatype: str
    shape: Shape


@dataclass(frozen=True)
class ModelSpec:
    """Metadata of one model. A request has either `masked`, or `seed` and `shape`; and `answer_bits`, or not."""

    name: str
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class Served:
    """An answer, and what may be logged of it."""

    answer: list[Tensor]
    role: str
    shape: Shape


@dataclass(frozen=True, repr=False)
class Work:
    """A request that was checked, and can be answered.

    Attributes:
        role: "evaluator" or "dealer".
        shape: of the input.
        bytes: an upper bound of the memory that `answer` takes.
        answer: computes. Refers to the seed or the masked activation, so drop the object soon.
    """

    role: str
    shape: Shape
    bytes: int
    answer: Callable[[], list[Tensor]]


class Service:
    """The models of one package.

    Args:
        manifest: of the server's directory.
        runners: a loaded slice by name, for every slice of the manifest.
        platform: name of the engine.
        limits: of sizes.
    """

    def __init__(
        self, manifest: ServerManifest, runners: Mapping[str, Runner], platform: str, limits: Limits = _DEFAULT
    ) -> None:
        self._limits = limits
        self.package = manifest.package
        self.instance = str(uuid4())
        self.ring = manifest.ring
        self.signer = Ed25519PrivateKey.generate()
        self._platform = platform
        self._models = {subgraph.name: (subgraph, runners[subgraph.name]) for subgraph in manifest.slices}

    @property
    def extensions(self) -> list[str]:
        """Which package this is, which process, and the key that it signs with in relay mode."""
        return extensions(self.package, self.instance, self.signer.public_key().public_bytes_raw().hex())

    def has_model(self, name: str, version: str = "") -> bool:
        """Whether there is such a model; version "" is any."""
        return name in self._models and version in ("", VERSION)

    def metadata(self, name: str, version: str = "") -> ModelSpec:
        """Describe a model.

        Raises:
            UnknownModelError: there is no such model.
        """
        subgraph, _ = self._model(name, version)
        free = (-1,) * (subgraph.layers[0].rank - 1)
        inputs = (
            TensorSpec(MASKED, "UINT8", (self.ring.limbs, *free, subgraph.layers[0].in_channels)),
            TensorSpec(SEED, "UINT8", (SEED_BYTES,)),
            TensorSpec(SHAPE, "INT64", (len(free) + 1,)),
            TensorSpec(ANSWER_BITS, "UINT8", (1,)),
        )
        channels = [layer.out_channels for layer in subgraph.layers]
        outputs = tuple(TensorSpec(f"{ANSWER}{i}", "INT32", (*free, size)) for i, size in enumerate(channels))
        return ModelSpec(name, self._platform, inputs, outputs)

    def largest_message(self, limits: Limits) -> int:
        """Bytes of the largest request that a client may send."""
        return limits.largest_message(self.ring, [subgraph for subgraph, _ in self._models.values()])

    def layers(self, name: str) -> tuple[Layer, ...]:
        """Of a slice."""
        return self._models[name][0].layers

    def prepare(self, name: str, tensors: Sequence[Tensor], version: str = "", finish: Finish | None = None) -> Work:
        """Check one request, in the role that its tensors ask for.

        Args:
            name: of the slice.
            tensors: of the request.
            version: of the model.
            finish: makes the answer of what the slice computed and of the request; by default the answer of direct mode.

        Raises:
            UnknownModelError: there is no such model.
            InputError: the request is malformed, or too large.

        Security:
            A seed is referred to by `tensors` and by the result only, so that it dies with the request.
        """
        subgraph, runner = self._model(name, version)
        request = parse_request(tensors, subgraph.layers, self.ring)
        role, shape = _role_and_shape(request)
        self._limits.require_scale(subgraph, shape)
        self._check_answer_size(subgraph, shape)

        def compute() -> list[Tensor]:
            if isinstance(request, MaskedRequest):
                outputs = runner.run(request.digits)
            else:
                outputs = runner.run(dealer_share(self.ring, request.seed, shape))
            return finish(outputs, request) if finish else answer(outputs, self.ring, request.dropped_bits)

        return Work(role, shape, working_bytes(self.ring, subgraph, shape), compute)

    def infer(self, name: str, tensors: Sequence[Tensor], version: str = "") -> Served:
        """Answer one request at once. For tools and tests; servers reserve memory in between.

        Raises:
            InputError: see `prepare`.
        """
        work = self.prepare(name, tensors, version)
        return Served(work.answer(), work.role, work.shape)

    def _model(self, name: str, version: str) -> tuple[Subgraph, Runner]:
        if not self.has_model(name, version):
            raise UnknownModelError(
                f"no model {name[:100]!r}, version {version[:100]!r}; this server has {len(self._models)}, version "
                f"{VERSION!r}: {self._names()}. Client and server must hold the same package"
            )
        return self._models[name]

    def _names(self) -> str:
        names = sorted(self._models)
        return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")

    def _check_answer_size(self, subgraph: Subgraph, shape: Shape) -> None:
        size = direct_cost(self.ring, subgraph.layers, shape).received
        if size > MAX_ANSWER_BYTES:
            raise InputError(
                f"{subgraph.name}: an answer to {shape} ({prod(shape)} elements) has {size} bytes; expected at most "
                f"{MAX_ANSWER_BYTES}. Ask for a smaller picture or batch"
            )


def _role_and_shape(request: MaskedRequest | SeedRequest) -> tuple[str, Shape]:
    if isinstance(request, MaskedRequest):
        return "evaluator", request.digits.shape[1:]
    return "dealer", request.shape
