"""The shipped model: its package, exported once, and servers of it in this process."""

from __future__ import annotations

import atexit
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from parties import Party

from ppidm.engines.onnxruntime import CpuEngine
from ppidm.export.package import export_package
from ppidm.export.settings import ExportSettings
from ppidm.protocol.manifest import ServerManifest, load_manifest
from ppidm.runtime.service import Service

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ppidm.protocol.messages import Tensor

MODEL = Path(__file__).resolve().parents[2] / "models" / "default"
_given: list[Path] = []


def use(package: Path) -> None:
    """Take this export of the shipped model instead of making one."""
    _given.append(package)


@cache
def package() -> Path:
    """`ppidm export models/default`."""
    if _given:
        return _given[-1]
    folder = TemporaryDirectory()
    atexit.register(folder.cleanup)
    out = Path(folder.name) / "package"
    export_package(ExportSettings(str(MODEL), out))
    return out


@cache
def manifest() -> ServerManifest:
    """Of a server directory: the same for all servers."""
    return load_manifest(package() / "server-0", ServerManifest)


@cache
def service() -> Service:
    """All slices, loaded; keeps no state, so that all parties can share it."""
    engine, folder = CpuEngine(manifest().ring), package() / "server-0"
    runners = {subgraph.name: engine.load(folder, subgraph) for subgraph in manifest().slices}
    return Service(manifest(), runners, engine.name)


class ShippedParty(Party):
    """A server of the shipped model."""

    def __init__(self, role: str) -> None:
        super().__init__(role, {})

    def compute(self, name: str, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The honest answer, from the engine that `ppidm serve` uses."""
        return service().infer(name, tensors).answer

    def close(self) -> None:
        """Nothing to close."""
