"""A folder that appears when it is complete: all or nothing."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from ppidm.protocol.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator


def require_free(out: Path, *, force: bool) -> None:
    """Check that `out` may be written.

    Raises:
        InputError: it exists and `force` is off, or it is no package.
    """
    if not out.exists():
        return
    if not force:
        raise InputError(f"{out} exists; give another OUT, or --force to replace it")
    if not out.is_dir() or (any(out.iterdir()) and not (out / "client" / "manifest.json").exists()):
        raise InputError(f"{out} is no package of `ppidm export`; --force replaces packages only")


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Give a folder beside `out`; it takes the place of `out`, or vanishes if something fails."""
    out.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        yield staging
        _move_into_place(staging, out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _move_into_place(staging: Path, out: Path) -> None:
    staging.chmod(0o755)
    if not out.exists():
        staging.rename(out)
        return
    old = staging.with_name(f"{staging.name}-old")
    out.rename(old)
    try:
        staging.rename(out)
    except BaseException:
        old.rename(out)
        raise
    shutil.rmtree(old)
