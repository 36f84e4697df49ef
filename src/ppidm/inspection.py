"""What `ppidm inspect` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from ppidm.protocol.cost import slice_cost
from ppidm.protocol.errors import PackageError
from ppidm.protocol.manifest import (
    ClientManifest,
    GraphManifest,
    Manifest,
    ServerManifest,
    load_manifest,
    manifest_kind,
)

if TYPE_CHECKING:
    from pathlib import Path

    from ppidm.protocol.cost import Cost
    from ppidm.protocol.linear import Layer
    from ppidm.protocol.records import Program, Subgraph

_KINDS: dict[str, type[Manifest]] = {"client": ClientManifest, "graph": GraphManifest, "server": ServerManifest}
_PIPED_WIDTH = 200


def print_partition(directory: Path, signer: Path | None = None) -> None:
    """Print every slice of a client or server directory, at the model's own picture size.

    Args:
        directory: of a client or a server.
        signer: PEM file with the public key of who must have signed it; None takes any.

    Raises:
        InputError: `signer` is no such key.
        PackageError: no package directory, or a corrupt one.
    """
    kind = manifest_kind(directory)
    if kind not in _KINDS:
        raise PackageError(f"{directory}: a {kind!a} directory; expected a client or server directory")
    manifest = load_manifest(directory, _KINDS[kind], signer)
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = _PIPED_WIDTH
    console.print(f"{kind} directory of model {manifest.model!r}, package {manifest.package}")
    console.print(f"Z_2^{manifest.ring_bits}, weights of {manifest.weight_bits} bits, {len(manifest.slices)} slices")
    for name, program in _programs(manifest).items():
        counts = [sum(step.kind == which for step in program.steps) for which in ("segment", "offload")]
        console.print(f"program {name}: {counts[0]} client segments, {counts[1]} offloads")
    console.print(_table(manifest))


def _programs(manifest: Manifest) -> dict[str, Program]:
    if isinstance(manifest, ClientManifest):
        return {name: program for name, program in manifest.programs if program is not None}
    return {"graph": manifest.program} if isinstance(manifest, GraphManifest) else {}


def _table(manifest: Manifest) -> Table:
    table = Table("slice", "layers", "input", "MFLOP", "kB up", "kB down", "ring", "bound / 2^24", "parts", box=None)
    for column in table.columns[2:]:
        column.justify = "right"
    for subgraph in manifest.slices:
        table.add_row(*_row(manifest, subgraph))
    table.add_section()
    costs = [_cost(manifest, subgraph) for subgraph in manifest.slices]
    flops = sum(_flops(subgraph) for subgraph in manifest.slices)
    up, down = sum(cost.evaluator_sent for cost in costs), sum(cost.received for cost in costs)
    table.add_row("in all", "", "", f"{flops / 1e6:.1f}", f"{up / 1e3:.0f}", f"{down / 1e3:.0f}", "", "", "")
    return table


def _row(manifest: Manifest, subgraph: Subgraph) -> tuple[str, ...]:
    cost = _cost(manifest, subgraph)
    bound = max(layer.bound for layer in subgraph.layers) / 2**24
    return (
        subgraph.name,
        _describe(subgraph.layers),
        "x".join(map(str, subgraph.nominal_shape)),
        f"{_flops(subgraph) / 1e6:.2f}",
        f"{cost.evaluator_sent / 1e3:.1f}",
        f"{cost.received / 1e3:.1f}",
        f"2^{manifest.ring_bits}",
        f"{bound:.2f}",
        "+".join(str(layer.parts) for layer in subgraph.layers[:3]) + ("..." if len(subgraph.layers) > 3 else ""),  # noqa: PLR2004
    )


def _cost(manifest: Manifest, subgraph: Subgraph) -> Cost:
    return slice_cost(manifest.ring, subgraph.layers, subgraph.nominal_shape, manifest.precision.dropped_bits)


def _describe(layers: tuple[Layer, ...]) -> str:
    first = layers[0]
    shape = f"{first.in_channels}->{first.out_channels}"
    size = "product" if first.kind == "product" else f"conv {first.kernel[0]}x{first.kernel[1]}/{first.strides[0]}"
    return f"{size} {shape}" + (f" and {len(layers) - 1} more" if len(layers) > 1 else "")


def _flops(subgraph: Subgraph) -> int:
    return sum(layer.flops(subgraph.nominal_shape) for layer in subgraph.layers)
