"""How large an evaluation is, and what its cache is keyed on."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from dataclasses import asdict, dataclass
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "default"
DATA = ROOT / "build" / "train" / "data"  # where `python -m tools.train fetch` puts the data
VERSIONS = ("torch", "diffusers", "numpy", "scipy", "onnxruntime")
_CODE = ("settings", "cache", "transcripts", "views", "drawing")  # of tools.evaluate: what the cached arrays depend on


class Size(Enum):
    """`QUICK` takes minutes and shows that everything works; only `FULL` proves something."""

    QUICK = "quick"
    FULL = "full"


@dataclass(frozen=True)
class Settings:
    """Everything that decides the results, besides model and code.

    Attributes:
        pictures: prompts, each drawn privately, plainly, and plainly from another seed; the attacks on pictures use them.
        steps: of DDIM.
        guidance: classifier-free guidance scale.
        transcripts: private pictures of two prompts in turn, for the distinguishers.
        relayed: how many of the pictures, the first ones, are drawn in relay mode as well.
        relayed_transcripts: and of the transcripts.
        updates: at most, of the inversion network.
        resamples: of the bootstrap.
        least_reduction: what `reduction.ours` must reach; few pictures cannot show a hundredth.
    """

    pictures: int = 200
    steps: int = 10
    guidance: float = 4.0
    transcripts: int = 144
    relayed: int = 50
    relayed_transcripts: int = 24
    updates: int = 300
    resamples: int = 10_000
    least_reduction: float = 0.99

    @property
    def pooled_steps(self) -> tuple[int, int]:
        """The steps of which every slice is kept: first and last. The slice that reads the latents is kept of all."""
        return 0, self.steps - 1


FULL = Settings()
QUICK = Settings(
    pictures=20,
    steps=3,
    transcripts=32,
    relayed=20,
    relayed_transcripts=32,
    updates=60,
    resamples=2_000,
    least_reduction=0.9,
)


def settings_of(size: Size, steps: int | None = None) -> Settings:
    """The settings of a size, perhaps with other steps."""
    chosen = asdict(FULL if size is Size.FULL else QUICK)
    return Settings(**(chosen if steps is None else chosen | {"steps": steps}))


def model_digest(model: Path = MODEL) -> str:
    """SHA-256 over the model's files."""
    return _digest(path for path in sorted(model.rglob("*")) if path.suffix in {".json", ".safetensors"})


def cache_folder(size: Size, settings: Settings, data: Path) -> Path:
    """`build/evaluate/<size>-<digest>`: of the model, the settings, the data's place, and the code that makes the views."""
    code = [Path(__file__).with_name(f"{name}.py") for name in _CODE] + sorted((ROOT / "protocol").glob("*.py"))
    parts = [model_digest(), _digest(code), json.dumps(asdict(settings)), str(data)]
    return ROOT / "build" / "evaluate" / f"{size.value}-{hashlib.sha256(' '.join(parts).encode()).hexdigest()[:16]}"


def code_digest(*names: str) -> str:
    """Of modules of tools.evaluate: results that are cached under it are made anew when they change."""
    return _digest(Path(__file__).with_name(f"{name}.py") for name in names)[:16]


def circumstances(size: Size, settings: Settings, seconds: float) -> dict[str, Any]:
    """What every result says of where it comes from."""
    return {
        "model": model_digest(),
        "size": size.value,
        "settings": asdict(settings),
        "seconds": round(seconds),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version(), **{name: version(name) for name in VERSIONS}},
    }


def _digest(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
