"""Where the FLOPs and the bytes of well-known models are: one evaluation of the U-Net at the model's own size.

    make bench-partition
    tools/bench_partition.py sd15 sdxl --output docs/measurements/partition.json

Graphs are traced and partitioned as `ppidm export` does it, from their public configurations; weights are zeros that take
no room, since nothing here depends on them. Prints a table per model, and updates the JSON file.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import diffusers
import numpy as np
import onnx_ir as ir
from rich.console import Console
from rich.table import Table

sys.path.append(str(Path(__file__).parent))
from making import configurations, weights

from ppidm.engines.unet import GUIDANCE, POOLED, PROMPT, SAMPLE, SIZES, TIMESTEP
from ppidm.export.client_files import save_graph
from ppidm.export.component import load, onnx_from
from ppidm.export.graph import load_graph
from ppidm.export.offload import cut_offloaded
from ppidm.export.package import PHASES
from ppidm.export.partition import partition_graph
from ppidm.export.reference import dry_run
from ppidm.export.settings import OffloadChoice
from ppidm.export.share import choose_share, work_of
from ppidm.protocol.errors import UnsupportedError
from ppidm.protocol.ring import Ring

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ppidm.export.offload import Group
    from ppidm.export.reference import DryRun

JSON = Path(__file__).resolve().parents[1] / "docs" / "measurements" / "partition.json"
SHARES = (0.30, 0.50, 0.67, 0.75, 0.84)
TOKENS = 77
BYTES = {"up4_down4": (4, 4), "up3_down2": (3, 2)}


def measure(name: str, *, small: bool = False) -> dict[str, Any]:
    """The figures of one model."""
    config = configurations.configuration_from_name(name, small=small).components["unet"]
    with TemporaryDirectory() as folder:
        unet = Path(folder) / "unet"
        module = weights.shapes_of(diffusers.UNet2DConditionModel, config)
        module.save_config(unet)
        weights.write_zeros(module, unet / "diffusion_pytorch_model.safetensors")
        ir.save(onnx_from(load(unet, TOKENS), unet), unet / "model.onnx")
        graph = load_graph(unet / "model.onnx")
        inputs = _inputs(module.config)
        groups = cut_offloaded(graph.graph, OffloadChoice.ALL)
        partition = partition_graph(graph, PHASES)
        (Path(folder) / "segments").mkdir()
        for file, segment in partition.segments.items():
            save_graph(segment, Path(folder) / file)
        dry = dry_run(Path(folder), partition.programs.values(), groups, inputs)
    return _figures(groups, dry, _on_sample(partition.programs["sample"]))


def _inputs(config: Any) -> dict[str, NDArray[np.float32]]:  # noqa: ANN401  diffusers is untyped
    shapes = {
        SAMPLE: (1, config.in_channels, config.sample_size, config.sample_size),
        TIMESTEP: (1,),
        PROMPT: (1, TOKENS, config.cross_attention_dim),
        GUIDANCE: (1, config.time_cond_proj_dim or 1),
        SIZES: (1, 6),
    }
    if config.addition_time_embed_dim:
        shapes[POOLED] = (1, config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim)
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


def _on_sample(program: Any) -> set[str]:  # noqa: ANN401
    return {step.slice for step in program.steps if step.kind == "offload"}


def _figures(groups: list[Group], dry: DryRun, on_sample: set[str]) -> dict[str, Any]:
    work = Counter[str]()
    for group in groups:
        for linear in group.operators:
            work["conv" if linear.is_image else "linear"] += linear.layer.flops(dry.shapes[group.name])
    whole = work.total() + dry.client_flops
    sample = [group for group in groups if group.name in on_sample]
    return {
        "gflop": round(whole / 1e9, 1),
        "conv": round(work["conv"] / whole, 4),
        "linear": round(work["linear"] / whole, 4),
        "client": round(dry.client_flops / whole, 4),
        "operators_on_sample": sum(len(group.operators) for group in sample),
        "groups_on_sample": len(sample),
        "hoisted_operators": sum(len(group.operators) for group in groups if group.name not in on_sample),
        "rounds": dry.rounds,
        "shares": {f"{share:.2f}": _row(groups, dry, share) for share in SHARES} | {"all": _row(groups, dry, None)},
    }


def _row(groups: list[Group], dry: DryRun, share: float | None) -> dict[str, Any] | None:
    """Of a share; None where no choice of layers meets it."""
    try:
        names = {group.name for group in groups} if share is None else choose_share(groups, dry, share, Ring(32))
    except UnsupportedError:
        return None
    chosen = [group for group in groups if group.name in names]
    shapes = dry.shapes
    whole = sum(work_of(group, shapes[group.name]) for group in groups) + dry.client_flops
    up = sum(int(np.prod(shapes[group.name])) for group in chosen)
    layers = [(linear.layer, shapes[group.name]) for group in chosen for linear in group.operators]
    down = sum(int(np.prod(layer.output_shape(shape))) for layer, shape in layers)
    return {
        "share": round(sum(work_of(group, shapes[group.name]) for group in chosen) / whole, 4),
        "layers": len(layers),
        "slices": len(chosen),
        "values_up": up,
        "values_down": down,
        **{name: up * bytes_up + down * bytes_down for name, (bytes_up, bytes_down) in BYTES.items()},
    }


def show(name: str, figures: dict[str, Any], console: Console) -> None:
    """Print the table of one model."""
    console.print(
        f"\n{name}: {figures['gflop']} GFLOP; convolutions {figures['conv']:.1%}, linear {figures['linear']:.1%}, client"
        f" {figures['client']:.1%}; {figures['operators_on_sample']} operators on the sample in"
        f" {figures['groups_on_sample']} groups, {figures['hoisted_operators']} hoisted; {figures['rounds']} rounds"
    )
    table = Table("offloaded", "layers", "slices", "values up", "values down", "4 B up + 4 B down", "3 B up + 2 B down")
    for row in filter(None, figures["shares"].values()):
        sizes = (f"{row[name] / 1e6:.0f} MB" for name in BYTES)
        values = (f"{row[name] / 1e6:.1f} M" for name in ("values_up", "values_down"))
        table.add_row(f"{row['share']:.1%}", str(row["layers"]), str(row["slices"]), *values, *sizes)
    console.print(table)


def main() -> None:
    """Parse the command line, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "models", metavar="MODEL", nargs="*", choices=[*configurations.names(), []], help="default: all"
    )
    parser.add_argument("--output", type=Path, default=JSON, help="JSON file to update")
    arguments = parser.parse_args()
    if unknown := set(arguments.models) - set(configurations.names()):
        parser.error(f"no model {min(unknown)}; expected {', '.join(configurations.names())}")
    known = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    for name in arguments.models or configurations.names():
        known[name] = measure(name)
        show(name, known[name], Console())
        arguments.output.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
