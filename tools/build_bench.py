"""What it takes to compile all slices of packages: `tools/build_bench.py OUT/server-0 ... --output docs/measurements/engines.json`.

Each package in a process of its own, with an empty cache.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Annotated, Any

import typer

from ppidm.engines.estimate import estimate, products_of, weights_of
from ppidm.engines.plans import read_header
from ppidm.engines.tensorrt.library import load_library
from ppidm.protocol.manifest import ServerManifest, load_manifest


def main(
    directories: Annotated[list[Path], typer.Argument(help="OUT/server-<i> of `ppidm export`.")],
    *,
    output: Annotated[Path, typer.Option(help="JSON to write.")],
    engine: Annotated[str, typer.Option(help="tensorrt-rtx or tensorrt.")] = "tensorrt-rtx",
    jobs: Annotated[int, typer.Option(help="Slices compiled at once; 0: one per core.")] = 0,
) -> None:
    """Compile, and write JSON. What the file holds of other models is kept."""
    found: dict[str, Any] = json.loads(output.read_text()) if output.exists() else {"models": {}}
    found |= {
        "engine": f"{engine} {load_library(engine).version}",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
    }
    for directory in directories:
        with TemporaryDirectory(dir=directory.parent) as cache, get_context("spawn").Pool(1) as pool:
            [measured] = pool.starmap(measure, [(directory, engine, jobs, Path(cache))])
        found["models"] |= measured
        output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    typer.echo(str(output))


def measure(directory: Path, engine: str, jobs: int, cache: Path) -> dict[str, Any]:
    """One package."""
    command = [sys.executable, "-m", "ppidm", "build", str(directory), "--engine", engine, "--cache", str(cache)]
    started = perf_counter()
    run = subprocess.run([*command, "--jobs", str(jobs)], capture_output=True, text=True, check=False)
    seconds, used = perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    manifest = load_manifest(directory, ServerManifest)
    plans = [read_header(path) for path in cache.rglob("*.plan")]
    weights = sum(map(weights_of, manifest.slices))
    told = estimate(manifest.slices, jobs or os.cpu_count() or 1)
    return {
        manifest.model: {
            "result": run.stdout.strip().splitlines()[-1] if run.stdout else run.stderr.strip(),
            "failures": [line for line in run.stderr.splitlines() if line.startswith("ppidm:")],
            "slices": len(manifest.slices),
            "products": sum(map(products_of, manifest.slices)),
            "proved": sum(subgraph.proof is not None for subgraph in manifest.slices),
            "weights": weights,
            "weights_on_gpu_bytes": 4 * weights,
            "plans": len(plans),
            "plan_bytes": sum(header.size for header in plans),
            "largest_plan_bytes": max((header.size for header in plans), default=0),
            "targets": list(plans[0].origin.targets) if plans else [],
            "wall_seconds": round(seconds, 1),
            "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
            "peak_memory_bytes": used.ru_maxrss * 1024,
            "estimated": {"seconds": round(told.seconds, 1), "memory_bytes": told.memory, "disk_bytes": told.disk},
        }
    }


if __name__ == "__main__":
    typer.run(main)
