"""One evaluation of a full-size U-Net through two server processes: how exact, how much offloaded, how many bytes, how much memory.

    tools/make_model.py sd15 /tmp/sd15
    tools/full_size.py /tmp/sd15 /tmp/sd15-package --output docs/measurements/sd15.json

Exports if the package is not there. The U-Net of the package is compared with the traced one in float32 at the model's own
size. Peak memory is that of each process by itself, as the kernel counts it, files that are mapped included: `local` is that
of this process while it runs the traced U-Net, `client` is what it takes from then on.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from local_servers import local_processes

from ppidm.client.account import Account
from ppidm.client.offload import Offloader
from ppidm.client.package import load_package
from ppidm.client.servers import connect
from ppidm.engines.unet import SAMPLE, TIMESTEP, PartitionedUNet
from ppidm.export import reference as references
from ppidm.export.client_files import config_from_model
from ppidm.export.compare import snr_db
from ppidm.protocol.cost import slice_cost

if TYPE_CHECKING:
    from ppidm.client.package import ClientPackage
    from ppidm.protocol.manifest import ClientManifest

    Package = ClientPackage[ClientManifest]

TIMEOUT = 3600.0  # seconds of one request: on a busy machine a large slice takes minutes
PATIENT = "--max-seconds", str(int(TIMEOUT))  # of `ppidm serve`
STEP = 981.0


def peak_megabytes(process: int | str = "self") -> int:
    """The largest resident memory of a running process so far."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) // 1024


def forget_peak() -> None:
    """Count the largest resident memory of this process anew, from what it has now."""
    Path("/proc/self/clear_refs").write_text("5")


def export(model: Path, package: Path, *options: str) -> dict[str, Any]:
    """Run `ppidm export` as a process of its own."""
    start = perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "ppidm", "export", str(model), str(package), *options])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit("the export failed; its message is above")
    return {"seconds": round(perf_counter() - start), "peak_megabytes": usage.ru_maxrss // 1024}


def traced(model: Path) -> tuple[references.Reference, float]:
    """Inputs of one evaluation at the model's own size, and the traced U-Net's output; seconds."""
    config = config_from_model(model)
    start = perf_counter()
    conditions = references.conditions_of(model, config, np.random.default_rng(0))
    conditions = {name: value[:1] for name, value in conditions.items()}
    sample = np.random.default_rng(1).standard_normal((1, *config.sample_shape), np.float32)
    feeds = {SAMPLE: sample, TIMESTEP: np.array([STEP], np.float32), **conditions}
    [expected] = references.run_graph(model / "unet" / "model.onnx", feeds)
    return references.Reference(sample, conditions, expected), perf_counter() - start


def evaluate(package: Package, addresses: list[str], reference: references.Reference) -> dict[str, Any]:
    """One evaluation on servers."""
    servers = connect(addresses[0], addresses[1:], package.manifest.package, TIMEOUT)
    start = perf_counter()
    with ThreadPoolExecutor(2) as pool:
        unet = PartitionedUNet(package.directory, package.manifest.programs, pool)
        account = Account(servers)
        offload = Offloader(package, servers, account)
        hoisted = [
            unet.hoist_prompts(reference.conditions, offload),
            unet.hoist_timesteps(np.array([STEP]), offload, reference.conditions),
        ]
        last = unet.evaluate(reference.sample, hoisted[0].outputs, hoisted[1].outputs, offload)
    seconds = perf_counter() - start
    for result in (*hoisted, last):
        account.add_side_by_side([result])
    report = account.graph_report(package)
    servers.close()
    [output] = last.outputs.values()
    return {
        "snr_db": round(snr_db(reference.expected, output), 2),
        "unet_fraction": round(report.offload_fraction, 4),
        "rounds": report.rounds,
        "seconds": round(seconds),
        "traffic": report.traffic.model_dump(),
        "declared": _declared(package),
    }


def _declared(package: Package) -> dict[str, int]:
    programs = package.manifest.programs
    steps = (*programs.prompt.steps, *programs.timestep.steps, *programs.sample.steps)
    slices = [package.slices[step.slice] for step in steps if step.kind == "offload"]
    costs = [slice_cost(package.ring, subgraph.layers, subgraph.nominal_shape) for subgraph in slices]
    return {
        "evaluator_sent": sum(cost.evaluator_sent for cost in costs),
        "dealer_sent": sum(cost.dealer_sent for cost in costs),
        "received": sum(cost.received for cost in costs),
    }


def client_bytes(out: Path, model: Path) -> dict[str, float]:
    """All files of the client, its check vectors too, relative to the model's float16 weights."""
    files = (path for folder in ("client", "check") for path in (out / folder).rglob("*"))
    held = sum(path.stat().st_size for path in files if path.is_file())
    whole = sum(path.stat().st_size for path in model.rglob("*.safetensors"))
    return {"client": held, "model": whole, "share": round(held / whole, 4)}


def measure(model: Path, out: Path) -> dict[str, Any]:
    """Everything."""
    figures: dict[str, Any] = {} if out.exists() else {"export": export(model, out)}
    with local_processes([out / "server-0", out / "server-1"], PATIENT) as (evaluator, dealer):
        reference, seconds = traced(model)
        local = peak_megabytes()
        forget_peak()
        package = load_package(out / "client")
        figures |= evaluate(package, [evaluator.address, dealer.address], reference)
        figures["local_seconds"] = round(seconds)
        figures["peak_megabytes"] = {
            "local": local,
            "client": peak_megabytes(),
            "evaluator": peak_megabytes(evaluator.pid),
            "dealer": peak_megabytes(dealer.pid),
        }
    return figures | {"bytes": client_bytes(out, model)}


def main() -> None:
    """Parse the command line, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="pipeline folder, as of tools/make_model.py")
    parser.add_argument("package", type=Path, help="package of `ppidm export`; made if it is not there")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    text = json.dumps(measure(arguments.model, arguments.package), indent=1)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
