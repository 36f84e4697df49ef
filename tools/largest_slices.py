"""The largest slice of every kind of a package, through two server processes: for models that are too large to serve whole here.

    tools/make_model.py sdxl /tmp/sdxl
    tools/largest_slices.py /tmp/sdxl /tmp/sdxl-package --output docs/measurements/sdxl.json

Exports if the package is not there. A kind is a geometry (product, or kernel and strides of a convolution), and how many layers
share the input. Slices are copied, as they are, into a small package of their own, with openings and check vectors; inputs are
standard normal, of the model's own size. Every answer is checked (`ppidm.protocol.check`: a wrong integer passes with 2^-33), and
compared with float32 products of the model's weights.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from full_size import PATIENT, TIMEOUT, export, peak_megabytes
from local_servers import local_processes
from rich.progress import track

from ppidm.client import PrivateGraph
from ppidm.export.compare import snr_db
from ppidm.export.graph import load_graph
from ppidm.export.offload import cut_offloaded
from ppidm.export.settings import OffloadChoice
from ppidm.export.stand_ins import FloatOffload
from ppidm.protocol.check_file import VECTORS, read_checks, write_checks
from ppidm.protocol.cost import slice_cost
from ppidm.protocol.manifest import (
    CheckManifest,
    ClientManifest,
    GraphManifest,
    ServerManifest,
    digests_of,
    load_manifest,
    package_digest,
    write_manifest,
)
from ppidm.protocol.openings import OPENINGS, read_openings, write_openings
from ppidm.protocol.records import GraphInput, Offload, Program

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ppidm.protocol.records import Subgraph


def kind_of(subgraph: Subgraph) -> str:
    """Such as `convolution 3x3 /2` or `product, 3 layers`."""
    layer, number = subgraph.layers[0], len(subgraph.layers)
    geometry = "x".join(map(str, layer.kernel)) + (f" /{layer.strides[0]}" if layer.strides[0] > 1 else "")
    return (f"convolution {geometry}" if layer.kind == "convolution" else "product") + (
        f", {number} layers" * (number > 1)
    )


def flops_of(subgraph: Subgraph) -> int:
    """Of one evaluation at the model's own size."""
    return sum(layer.flops(subgraph.nominal_shape) for layer in subgraph.layers)


def largest(slices: Iterable[Subgraph]) -> dict[str, Subgraph]:
    """By kind, the slice of most FLOPs."""
    return {kind_of(subgraph): subgraph for subgraph in sorted(slices, key=flops_of)}


def write_package(whole: Path, client: ClientManifest, out: Path, chosen: Sequence[Subgraph]) -> None:
    """A package of some slices of another, whose client's manifest is `client`, as of a graph that does nothing else."""
    server = whole / "server-0"
    names = [subgraph.name for subgraph in chosen]
    for folder in ("client", "check", "server-0"):
        (out / folder).mkdir(parents=True)
    for subgraph in chosen:
        (out / "server-0" / subgraph.file).parent.mkdir(exist_ok=True)
        shutil.copyfile(server / subgraph.file, out / "server-0" / subgraph.file)
    openings = read_openings(whole / "client" / OPENINGS, client.slices)
    write_openings(out / "client" / OPENINGS, {name: openings[name] for name in names})
    checks = read_checks(whole / "check" / VECTORS, client.slices)
    write_checks(out / "check" / VECTORS, {name: checks[name] for name in names})
    common = {
        "model": client.model,
        "package": package_digest(chosen),
        "ring_bits": client.ring_bits,
        "weight_bits": client.weight_bits,
        "precision": client.precision,
        "slices": tuple(chosen),
    }
    inputs = tuple(GraphInput(name=subgraph.name, shape=subgraph.nominal_shape) for subgraph in chosen)
    graph = GraphManifest(
        **common, files=digests_of(out / "client"), servers=2, program=_program(chosen), inputs=inputs
    )
    write_manifest(out / "client", graph)
    write_manifest(out / "check", CheckManifest(**common, files=digests_of(out / "check")))
    write_manifest(out / "server-0", ServerManifest(**common, files=digests_of(out / "server-0")))


def _program(chosen: Sequence[Subgraph]) -> Program:
    steps = tuple(
        Offload(slice=subgraph.name, reads=(subgraph.name,), writes=tuple(_outputs(subgraph))) for subgraph in chosen
    )
    return Program(
        inputs=tuple(step.slice for step in steps),
        outputs=tuple(name for step in steps for name in step.writes),
        steps=steps,
    )


def _outputs(subgraph: Subgraph) -> list[str]:
    return [f"{subgraph.name}:{index}" for index in range(len(subgraph.layers))]


def run(package: Path, kind: str, subgraph: Subgraph, exact: FloatOffload) -> dict[str, Any]:
    """One slice in a package of its own, on two servers."""
    x = np.random.default_rng(0).standard_normal(subgraph.nominal_shape, np.float32)
    with (
        local_processes([package / "server-0"] * 2, PATIENT) as (evaluator, dealer),
        PrivateGraph.from_package(
            package / "client", evaluator=evaluator.address, dealers=[dealer.address], timeout=TIMEOUT
        ) as graph,
    ):
        start = perf_counter()
        result = graph({subgraph.name: x})
        seconds = perf_counter() - start
        peaks = [peak_megabytes(server.pid) for server in (evaluator, dealer)]
    expected = exact(subgraph.name, x)
    got = [result.outputs[name] for name in _outputs(subgraph)]
    traffic = result.report.traffic
    cost = slice_cost(graph._package.ring, subgraph.layers, subgraph.nominal_shape)  # noqa: SLF001
    return {
        "kind": kind,
        "slice": subgraph.name,
        "shape": subgraph.nominal_shape,
        "out_channels": [layer.out_channels for layer in subgraph.layers],
        "gflop": round(flops_of(subgraph) / 1e9, 2),
        "verified": result.report.verified,
        "snr_db": round(min(snr_db(*pair) for pair in zip(expected, got, strict=True)), 2),
        "seconds": round(seconds, 1),
        "evaluator": {"sent": traffic.evaluator.sent, "received": traffic.evaluator.received},
        "declared": {"sent": cost.evaluator_sent, "received": cost.received},
        "peak_megabytes": {"evaluator": peaks[0], "dealer": peaks[1]},
    }


def measure(model: Path, whole: Path) -> dict[str, Any]:
    """The largest slices of all kinds."""
    figures: dict[str, Any] = {} if whole.exists() else {"export": export(model, whole)}
    manifest = load_manifest(whole / "client", ClientManifest)
    exact = FloatOffload(cut_offloaded(load_graph(model / "unet" / "model.onnx").graph, OffloadChoice.ALL))
    rows = []
    for kind, subgraph in track(largest(manifest.slices).items(), description="slices"):
        with TemporaryDirectory() as folder:
            write_package(whole, manifest, Path(folder), [subgraph])
            rows.append(run(Path(folder), kind, subgraph, exact))
    return figures | {"model": manifest.model, "slices": len(manifest.slices), "largest": rows}


def main() -> None:
    """Parse the command line, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="pipeline folder that was exported")
    parser.add_argument("package", type=Path, help="its package; made if it is not there")
    parser.add_argument("--output", type=Path, help="JSON file to update")
    arguments = parser.parse_args()
    figures = measure(arguments.model, arguments.package)
    known = json.loads(arguments.output.read_text()) if arguments.output and arguments.output.exists() else {}
    text = json.dumps(known | figures, indent=1)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
