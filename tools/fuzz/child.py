"""Fuzz one target in this process, and say how it went; `run.py` starts one process per target.

    python child.py TARGET COUNT REPORT.json

Inputs come from atheris where it is installed (coverage-guided), otherwise from Hypothesis. Every input may take a second of this
process's time, and all of them together may raise its memory by 512 MiB. A crash of the interpreter leaves no report.
"""
# ruff: noqa: PLC0415  (what is fuzzed is imported under the instrumentation of atheris)

from __future__ import annotations

import json
import os
import re
import resource
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

    from targets import Target

SECONDS_PER_INPUT = 1.0  # of processor time
MEMORY_MIB = 512  # that all inputs together may add to the process
ADDRESS_SPACE = 16 << 30  # a last barrier; ONNX Runtime maps much that it never touches


class HangError(BaseException):
    """An input took too long. No `Exception`: nobody may catch it on the way."""


@dataclass
class Progress:
    """What has happened so far."""

    target: str
    engine: str
    inputs: int = 0
    accepted: int = 0
    seconds: float = 0.0
    peak_mib_more: float = 0.0
    failure: str = ""
    failing_input: str = ""


class Bounded:
    """Runs inputs of a target under the bounds, and writes the report when `count` is reached or one fails."""

    def __init__(self, name: str, target: Target, engine: str, count: int, report: Path) -> None:
        self.progress = Progress(name, engine)
        self._target, self._count, self._report = target, count, report
        self._started, self._memory = perf_counter(), _peak_mib()
        signal.signal(signal.SIGVTALRM, _hang)

    def __call__(self, content: bytes) -> None:
        """One input."""
        from targets import try_input

        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS_PER_INPUT)
        try:
            self.progress.accepted += try_input(self._target, content)
        except BaseException as error:  # noqa: BLE001  (whatever it is, it is the finding)
            self._fail(f"{type(error).__name__}: {error}", content)
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        self.progress.inputs += 1
        self.progress.peak_mib_more = _peak_mib() - self._memory
        if self.progress.peak_mib_more > MEMORY_MIB:
            self._fail(f"{self.progress.peak_mib_more:.0f} MiB more than at the start", content)
        if self.progress.inputs >= self._count:
            self.finish()

    def _fail(self, what: str, content: bytes) -> None:
        self.progress.failure, self.progress.failing_input = what[:500], content.hex()
        self.finish()

    def finish(self) -> None:
        """Write the report and end the process: atheris does not return."""
        self.progress.seconds = round(perf_counter() - self._started, 1)
        self._report.write_text(json.dumps(asdict(self.progress)))
        os._exit(1 if self.progress.failure else 0)


def _hang(_number: int, _frame: Any) -> None:  # noqa: ANN401
    raise HangError(f"more than {SECONDS_PER_INPUT:g} s")


def _peak_mib() -> float:
    """The most memory that this process has held. On Linux `getrusage` would tell that of its parent, if it had more."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) / 1024  # type: ignore[index]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def load_atheris() -> ModuleType | None:
    """The fuzzing engine, or None where it is not installed (or switched off by PPIDM_FUZZ=hypothesis)."""
    if os.environ.get("PPIDM_FUZZ") == "hypothesis":
        return None
    try:
        import atheris
    except ImportError:
        return None
    return atheris


def fuzz_with_atheris(atheris: ModuleType, name: str, folder: Path, count: int, report: Path) -> None:
    """Coverage-guided, from the good inputs on."""
    with atheris.instrument_imports(include=["ppidm", "zipfile", "numpy.lib"]):
        from targets import all_targets
    target = all_targets(folder)[name]
    seeds = folder / "seeds"
    seeds.mkdir()
    for index, content in enumerate(target.seeds):
        (seeds / str(index)).write_bytes(content)
    bounded = Bounded(name, target, "atheris", count, report)
    longest = 2 * max(map(len, target.seeds)) + 64
    arguments = [
        sys.argv[0],
        str(seeds),
        f"-max_len={longest}",
        "-rss_limit_mb=0",
        "-verbosity=0",
        "-print_final_stats=0",
    ]
    atheris.Setup(arguments, bounded, enable_python_coverage=True)
    atheris.Fuzz()


def fuzz_with_hypothesis(name: str, folder: Path, count: int, report: Path) -> None:
    """Damaged copies of the good inputs."""
    from hypothesis import HealthCheck, given, settings
    from strategies import damaged
    from targets import all_targets

    target = all_targets(folder)[name]
    bounded = Bounded(name, target, "hypothesis", count, report)

    def run(content: bytes) -> None:
        bounded(content)

    rounds = settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    while True:  # Hypothesis may stop early, when it has seen everything
        rounds(given(damaged(target.seeds))(run))()


def main() -> None:
    """Fuzz; ends the process by itself."""
    name, count, report = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108  (files are written a hundred thousand times)
    with TemporaryDirectory(dir=memory) as folder:
        atheris = load_atheris()
        if atheris is None:
            fuzz_with_hypothesis(name, Path(folder), count, report)
        else:
            fuzz_with_atheris(atheris, name, Path(folder), count, report)


if __name__ == "__main__":
    main()
