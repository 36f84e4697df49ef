"""The self-test of a loaded slice: uniform digits in, exact answers out, or the engine is not fit for the slice.

An engine can be wrong without being broken: Winograd kernels round, 8-bit products saturate on some processors. The input
is public and fixed, so that the manifest can hold the digest of the exact answers; it has the distribution of a mask.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from ppidm.protocol.errors import PackageError
from ppidm.protocol.masks import dealer_share
from ppidm.protocol.prg import SEED_BYTES, Seed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ppidm.engines.base import Engine, Runner
    from ppidm.protocol.linear import Shape
    from ppidm.protocol.records import Subgraph
    from ppidm.protocol.ring import Digits, Ring

_PUBLIC_SEED = Seed(bytes(SEED_BYTES))  # not a secret: nothing is ever hidden with it


def test_digits(ring: Ring, shape: Shape) -> Digits:
    """The public input of a self-test."""
    return dealer_share(ring, _PUBLIC_SEED, shape)


def answers_digest(answers: Sequence[NDArray[np.int32]]) -> str:
    """SHA-256 over the little-endian bytes of all answers, in hexadecimal."""
    digest = hashlib.sha256()
    for values in answers:
        digest.update(np.ascontiguousarray(values, "<i4").tobytes())
    return digest.hexdigest()


def verify_runner(engine: Engine, runner: Runner, subgraph: Subgraph, ring: Ring) -> None:
    """Run the self-test.

    Raises:
        PackageError: the engine computes something else than the exporter did.
    """
    got = answers_digest(runner.run(test_digits(ring, subgraph.self_test.shape)))
    if got != subgraph.self_test.digest:
        raise PackageError(
            f"slice {subgraph.name}: {engine.name} fails the self-test on input {subgraph.self_test.shape} (SHA-256 of its "
            f"answers is {got[:16]}..., expected {subgraph.self_test.digest[:16]}...). Its arithmetic is not exact here; "
            "use another engine or machine"
        )
