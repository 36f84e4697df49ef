"""Compiled slices of all packages, in one folder of the operator's.

The name of a file is derived from what the plan was made of: the digest of the slice, the library and its version, target
architectures, profiles, TF32 or not. So a build that was interrupted goes on, and copies of a package share their engines.

Security:
    A plan is code for a GPU, and the libraries that load it trust it. So engines are kept on the operator's own machine, never
    in a package, and in a folder that nobody else may write to.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from time import time
from typing import TYPE_CHECKING

from ppidm.engines.plans import Origin, read_header, read_plan, write_plan
from ppidm.protocol.errors import InputError, PackageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ppidm.protocol.records import Subgraph

_ABANDONED = 86_400  # seconds after which nobody writes to a file any more
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def default_cache() -> Path:
    """`$XDG_CACHE_HOME/ppidm/engines`, or `~/.cache/ppidm/engines`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ppidm" / "engines"


class EngineCache:
    """A folder of plans.

    Args:
        folder: is made if it is missing, for the user alone.

    Raises:
        InputError: it cannot be made, or others can write to it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            mode = folder.stat().st_mode
        except OSError as error:
            raise InputError(f"{folder}: {error.strerror}; give another folder with --cache") from error
        if mode & _OTHERS_WRITE:
            raise InputError(
                f"{folder}: other users can write to it, and engines are code that runs on your GPU; chmod go-w, or give "
                "another folder with --cache"
            )

        for leftover in folder.glob("*/.*.tmp"):  # of a writer that was killed
            with suppress(OSError):
                if time() - leftover.stat().st_mtime > _ABANDONED:
                    leftover.unlink()

    def path(self, origin: Origin) -> Path:
        """Where the plan of `origin` is, or would be."""
        return self.folder / origin.engine / f"{origin.slice[:32]}-{origin.key[:16]}.plan"

    def holds(self, origin: Origin) -> bool:
        """Whether there is a plan of `origin`, undamaged."""
        try:
            return read_plan(self.path(origin))[0].origin == origin
        except PackageError:
            return False

    def store(self, origin: Origin, plan: bytes) -> Path:
        """Write a plan: whole, or not at all.

        Raises:
            InputError: the disk is full, or the folder cannot be written to.
        """
        path = self.path(origin)
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            write_plan(path, origin, plan)
        except OSError as error:
            raise InputError(
                f"{path}: cannot write {len(plan)} bytes ({error.strerror}); free some space, or give another folder with "
                "--cache. What was compiled before is kept, and the next build goes on from there"
            ) from error
        return path

    def find(self, directory: Path, subgraph: Subgraph, engine: str, version: str, target: str) -> Path:
        """The plan of a slice that runs here: of this version, and for this GPU; with the largest pictures, if there are several.

        Args:
            directory: of the package, for messages.
            subgraph: the slice.
            engine: "tensorrt" or "tensorrt-rtx".
            version: of its library.
            target: architecture of the GPU, such as "sm89".

        Raises:
            PackageError: there is none, or its header is damaged.
        """
        there, damaged = self._origins(engine, subgraph)
        good = {
            path: origin for path, origin in there.items() if origin.version == version and target in origin.targets
        }
        if good:
            return max(good, key=lambda path: good[path].profiles[-1].most)
        if damaged is not None:
            raise damaged
        others = sorted({f"for {engine} {origin.version} on {' '.join(origin.targets)}" for origin in there.values()})
        raise PackageError(
            f"slice {subgraph.name}: not compiled for {engine} {version} on {target}, but {', '.join(others) or 'for nothing'}, in "
            f"{self.folder}; run `ppidm build {directory} --engine {engine}`, for --target {target}"
        )

    def _origins(self, engine: str, subgraph: Subgraph) -> tuple[dict[Path, Origin], PackageError | None]:
        """What the plans of a slice are made of, and what is wrong with the last that cannot be read."""
        found, damaged = {}, None
        for path in self.candidates(engine, subgraph.sha256):
            try:
                found[path] = read_header(path).origin
            except PackageError as error:
                damaged = error
        return found, damaged

    def timings(self, engine: str, version: str, target: str) -> Path:
        """Where TensorRT's timings are kept."""
        return self.folder / engine / f"timings-{version}-{target}"

    def candidates(self, engine: str, digest: str) -> Iterator[Path]:
        """Plans of a slice, of any version, target and profile."""
        return iter(sorted((self.folder / engine).glob(f"{digest[:32]}-*.plan")))
