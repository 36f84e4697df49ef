r"""The file of a compiled slice: written whole or not at all, and looked into before it is loaded.

    "ppidm plan 1\n", 4 bytes (length of the header, little-endian), header (JSON), plan

Security:
    The digest in a header is against damage, not against whoever can write to the file: see `cache`.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

from pydantic import NonNegativeInt, ValidationError

from ppidm.engines.profiles import Profile  # noqa: TC001  (pydantic reads it at run time)
from ppidm.protocol.errors import PackageError
from ppidm.protocol.records import Digest, Record

if TYPE_CHECKING:
    from collections.abc import Sequence

MAGIC = b"ppidm plan 1\n"
MAX_HEADER_BYTES = 1 << 16
_LENGTH_BYTES = 4
_AGAIN = "run `ppidm build` again, which replaces it"


class Origin(Record):
    """What a plan is made of; equal origins have equal keys.

    Attributes:
        slice: SHA-256 of the ONNX file.
        engine: "tensorrt" or "tensorrt-rtx".
        version: of the library.
        targets: GPU architectures, such as "sm89".
        profiles: of input shapes.
        tf32: whether products may round operands to TF32; only where the exporter proved that they cannot.
    """

    slice: Digest
    engine: str
    version: str
    targets: tuple[str, ...]
    profiles: tuple[Profile, ...]
    tf32: bool

    @property
    def key(self) -> str:
        """A digest of all of it."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


class Header(Record):
    """What stands before a plan."""

    origin: Origin
    plan: Digest
    size: NonNegativeInt


def read_header(path: Path) -> Header:
    """The header of a plan, without the plan.

    Raises:
        PackageError: it is no plan of ours.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(MAGIC) + _LENGTH_BYTES)
            length = int.from_bytes(start[len(MAGIC) :], "little")
            if not start.startswith(MAGIC) or length > MAX_HEADER_BYTES:
                raise PackageError(f"{path}: not an engine of ppidm; {_AGAIN}")
            return Header.model_validate_json(file.read(length))
    except OSError as error:
        raise PackageError(f"{path}: {error.strerror}; {_AGAIN}") from error
    except ValidationError as error:
        raise PackageError(f"{path}: its header is damaged ({error.errors()[0]['msg']}); {_AGAIN}") from error


def read_plan(path: Path) -> tuple[Header, bytes]:
    """A plan and its header.

    Raises:
        PackageError: it is damaged or truncated.
    """
    header = read_header(path)
    plan = path.read_bytes()[-header.size or None :] if header.size else b""
    got = hashlib.sha256(plan).hexdigest()
    if got != header.plan:
        raise PackageError(
            f"{path}: SHA-256 of the plan is {got[:16]}..., its header says {header.plan[:16]}...: damaged or truncated; "
            f"{_AGAIN}"
        )
    return header, plan


def write_plan(path: Path, origin: Origin, plan: bytes) -> None:
    """Write a plan.

    Raises:
        OSError: see `write_whole`.
    """
    header = Header(origin=origin, plan=hashlib.sha256(plan).hexdigest(), size=len(plan)).model_dump_json().encode()
    write_whole(path, [MAGIC, len(header).to_bytes(_LENGTH_BYTES, "little"), header, plan])


def write_whole(path: Path, parts: Sequence[bytes | memoryview]) -> None:
    """Write a file: readers see the one that was there before, or the whole new one, even after a power failure.

    Raises:
        OSError: the disk is full, or the folder cannot be written to; then the old file is as it was.
    """
    with NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".tmp", delete=False) as file:
        temporary = Path(file.name)
        try:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
