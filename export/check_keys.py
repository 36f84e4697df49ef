"""`ppidm check-keys`: fresh check vectors for one user, from the public quantised weights of a server directory.

Who makes a client package for others must not know their vectors. One pass over the slices, one slice in memory at a time.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from ppidm.engines.onnx_guard import require_allowed
from ppidm.engines.onnx_policy import SLICE
from ppidm.export.slices import weights_from_operand
from ppidm.protocol.check import draw_check, require_norm
from ppidm.protocol.check_file import VECTORS, write_checks
from ppidm.protocol.errors import InputError, PackageError
from ppidm.protocol.manifest import (
    CheckManifest,
    ServerManifest,
    digests_of,
    load_manifest,
    write_manifest,
)

if TYPE_CHECKING:
    from ppidm.protocol.linear import Layer
    from ppidm.protocol.ring import Integers

Progress = Callable[[str, int, int], None]


def draw_check_keys(
    server: Path, out: Path, *, force: bool = False, signer: Path | None = None, progress: Progress | None = None
) -> int:
    """Draw vectors for every slice of `server` and write them to the folder `out`.

    Args:
        server: `OUT/server-<i>`.
        out: a new folder.
        force: replace `out` if it is there.
        signer: PEM file with the public key of who must have signed `server`; None takes any.
        progress: see `Progress`.

    Returns:
        The number of slices.

    Raises:
        InputError: `out` exists and `force` is off, or `signer` is no such key.
        PackageError: `server` is no server directory, a slice of it cannot be read or holds what slices may not, or the
            manifest understates the norm of its weights.
    """
    if out.exists() and not force:
        raise InputError(f"{out} exists; give another folder, or --force to replace it")
    manifest = load_manifest(server, ServerManifest, signer)
    checks = {}
    for done, subgraph in enumerate(manifest.slices):
        if progress is not None:
            progress("drawing check vectors", done, len(manifest.slices))
        weights = weights_from_slice(server / subgraph.file, subgraph.layers)
        for layer, integers in zip(subgraph.layers, weights, strict=True):
            require_norm(layer, integers)
        checks[subgraph.name] = [draw_check(layer, w) for layer, w in zip(subgraph.layers, weights, strict=True)]
    staging = Path(mkdtemp(prefix=f".{out.name}-", dir=out.absolute().parent))
    try:
        write_checks(staging / VECTORS, checks)
        common = manifest.model_dump(exclude={"kind", "files"})
        write_manifest(staging, CheckManifest(**common, files=digests_of(staging)))
        if out.exists():
            shutil.rmtree(out)
        staging.rename(out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return len(checks)


def weights_from_slice(path: Path, layers: tuple[Layer, ...]) -> list[Integers]:
    """The integers of every layer of a slice: (C_out, C_in / groups, kernel height, kernel width).

    Raises:
        PackageError: not a slice of `ppidm export`.
    """
    require_allowed(path, SLICE)
    try:
        stored = {str(name): value.const_value for name, value in ir.load(path).graph.initializers.items()}
        return [_weights(stored, index, layer) for index, layer in enumerate(layers)]
    except Exception as error:
        raise PackageError(
            f"{path}: no weights of a slice in it ({error}); copy or export the package again"
        ) from error


def _weights(stored: dict[str, ir.TensorProtocol | None], index: int, layer: Layer) -> Integers:
    parts = [np.asarray(stored[f"weights_{index}_{part}"].numpy()) for part in range(layer.parts)]  # type: ignore[union-attr]
    weights = np.concatenate([weights_from_operand(layer, part) for part in parts], axis=1)
    expected = (layer.out_channels, layer.in_channels // layer.groups, *layer.kernel)
    if weights.shape != expected:
        raise PackageError(f"{layer.name}: weights of shape {weights.shape}; expected {expected}")
    return weights
