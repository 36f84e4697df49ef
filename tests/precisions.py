"""Packages of other precisions. `exact` and `balanced` have the same slices, so only manifests differ."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def balanced_package(package: Path, out: Path) -> Path:
    """A copy of the client's side of an exact `package`, as `--precision balanced` writes it."""
    for name in ("client", "check"):
        shutil.copytree(package / name, out / name)
        path = out / name / "manifest.json"
        manifest = json.loads(path.read_text(encoding="utf-8"))
        assert manifest["precision"] == "exact"
        path.write_text(json.dumps(manifest | {"precision": "balanced"}), encoding="utf-8")
    return out
