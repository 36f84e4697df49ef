"""`make fuzz`: a million damaged inputs, over everything that a stranger can hand to client or server.

    python tools/fuzz/run.py [--inputs 1000000] [--calls 20000] [--output FILE.json] [TARGET ...]

One process per target (`child.py`); then malformed requests to a real server. Exits 1 if an input raised what it must not, took
more than a second, or made a process grow without bound; the input is printed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import typer
from corpus import SmallPackage
from frames import Attacker
from rich.console import Console
from rich.progress import track
from rich.table import Table
from targets import all_targets
from victim import running_victim

FOLDER = Path(__file__).resolve().parent
RESULT = FOLDER.parents[1] / "docs" / "measurements" / "fuzz.json"
LONGEST_SECONDS = 1800  # of one target; a hang in native code is not interrupted by its signal
MEMORY_MIB = 512


def fuzz_target(name: str, count: int) -> dict[str, Any]:
    """Run a child; a crash is a failure, too."""
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, str(FOLDER / "child.py"), name, str(count), str(report)]
        try:
            run = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=LONGEST_SECONDS, cwd=folder
            )
            ended = f"ended with status {run.returncode}: {run.stderr[-2000:]}"
        except subprocess.TimeoutExpired:
            ended = f"hangs: no end after {LONGEST_SECONDS} s"
        if report.exists():
            return dict(json.loads(report.read_text()))
        crash = next(Path(folder).glob("crash-*"), None)  # libFuzzer writes the input before the process dies
        found = crash.read_bytes().hex() if crash else ""
        return {"target": name, "engine": "", "inputs": 0, "accepted": 0, "failure": ended, "failing_input": found}


def fuzz_server(calls: int, streams: int) -> dict[str, Any]:
    """Malformed requests to a real server, over gRPC and on its port."""
    started = perf_counter()
    with TemporaryDirectory() as folder:
        package, logs = Path(folder) / "server-0", Path(folder)
        package.mkdir()
        SmallPackage.write(package)
        with running_victim(package, logs) as victim:
            attacker, before = Attacker(victim, np.random.default_rng()), victim.peak_mib()
            attacker.call_methods(calls)
            attacker.write_streams(streams)
            grown, right = victim.peak_mib() - before, victim.answers_right()
            faults = victim.log.read_text().count('"request failed"')
    failure = f"{attacker.hangs} hangs, {faults} faults, answers right: {right}, {grown:.0f} MiB more"
    broken = not right or attacker.hangs or faults or grown > MEMORY_MIB
    return {
        "target": "a running server",
        "engine": "gRPC, TCP",
        "inputs": calls + streams,
        "accepted": attacker.codes.get("OK", 0),
        "seconds": round(perf_counter() - started, 1),
        "peak_mib_more": round(grown, 1),
        "failure": failure if broken else "",
        "failing_input": "",
        "codes": attacker.codes,
    }


def table_of(results: list[dict[str, Any]]) -> Table:
    """For people."""
    table = Table("target", "engine", "inputs", "accepted", "s", "MiB more", "failure", title="fuzzing")
    for each in results:
        cells = [each["target"], each["engine"], f"{each['inputs']:,}", f"{each['accepted']:,}"]
        table.add_row(*cells, f"{each.get('seconds', 0)}", f"{each.get('peak_mib_more', 0):.0f}", each["failure"][:60])
    return table


def shares() -> dict[str, float]:
    """What part of all inputs a target gets."""
    with TemporaryDirectory() as folder:
        return {name: target.share for name, target in all_targets(Path(folder)).items()}


def main(
    targets: Annotated[list[str] | None, typer.Argument(help="Only these.")] = None,
    inputs: Annotated[int, typer.Option(min=100, help="In all, without those to the server.")] = 1_000_000,
    calls: Annotated[int, typer.Option(min=0, help="Malformed requests to a server.")] = 20_000,
    output: Annotated[Path, typer.Option(help="JSON to write.")] = RESULT,
) -> None:
    """Fuzz everything."""
    os.nice(10)
    chosen = {name: share for name, share in shares().items() if not targets or name in targets}
    console, started = Console(), perf_counter()
    counts = {name: max(1, round(inputs * share)) for name, share in chosen.items()}
    results = [fuzz_target(name, count) for name, count in track(counts.items(), "fuzzing", console=console)]
    if calls:
        results.append(fuzz_server(calls, calls // 20))
    console.print(table_of(results))
    total = sum(each["inputs"] for each in results)
    summary = {"inputs": total, "seconds": round(perf_counter() - started), "targets": results}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(summary, indent=1) + "\n")
    console.print(f"{total:,} inputs in {summary['seconds']} s")
    if failed := [each for each in results if each["failure"]]:
        for each in failed:
            console.print(f"{each['target']}: {each['failure']}\ninput: {each['failing_input']}", markup=False)
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
