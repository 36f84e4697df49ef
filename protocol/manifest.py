"""The manifest of a package directory: what is in it, and the digest of every file (PROTOCOL.md, section 10).

`OUT/client`, `OUT/check` and `OUT/server-<i>` each hold one `manifest.json`. `package` is one digest over all slices; a
client refuses a server, and a check folder, whose `package` differs from its own.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from pydantic import Field, PositiveInt, ValidationError, model_validator

from ppidm.protocol.errors import PackageError
from ppidm.protocol.precision import Precision
from ppidm.protocol.records import (
    Conditioning,
    Digest,
    GraphInput,
    ImageConfig,
    Program,
    Programs,
    Record,
    RelativePath,
    RingBits,
    Subgraph,
)
from ppidm.protocol.ring import Ring
from ppidm.protocol.signatures import SUFFIX, load_private_key, load_public_key, require_signed, sign_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from typing import Self

FORMAT: Final = 1
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 64 << 20  # SD 1.5's has 0.5 MB
_CHUNK = 1 << 20
_AGAIN = "copy or export the package again"
_LONGEST_QUOTE = 200  # characters of a hostile file that an error message repeats


def _quote(value: object) -> str:
    return ascii(value)[:_LONGEST_QUOTE]


class Manifest(Record):
    """What all three kinds of directory have in common."""

    format: Literal[1] = FORMAT
    model: str
    package: Digest
    ring_bits: RingBits
    weight_bits: int
    precision: Precision = Precision.EXACT
    slices: tuple[Subgraph, ...]
    files: dict[RelativePath, Digest]

    @model_validator(mode="after")
    def _ring_is_that_of_the_precision(self) -> Self:
        if self.precision is not Precision.EXACT and self.ring_bits != self.precision.ring.bits:
            raise ValueError(f"precision {self.precision} in {self.ring_bits} bits")
        return self

    @property
    def ring(self) -> Ring:
        """The ring of all slices."""
        return Ring(self.ring_bits)


class ServerManifest(Manifest):
    """`OUT/server-<i>`: slices."""

    kind: Literal["server"] = "server"


class ClientManifest(Manifest):
    """`OUT/client`: segments, programs, text encoder, tokenizer, VAE decoder, samplers."""

    kind: Literal["client"] = "client"
    servers: int = Field(ge=2)
    programs: Programs
    image: ImageConfig
    max_tokens: PositiveInt
    scheduler: str  # diffusers' class name, the default of `--scheduler`

    conditioning: Conditioning = Conditioning()

    @model_validator(mode="after")
    def _segments_have_digests(self) -> Self:
        _require_digests(self.programs.all, self.files)
        return self


class GraphManifest(Manifest):
    """`OUT/client` of a graph that is no pipeline: segments and their program."""

    kind: Literal["graph"] = "graph"
    servers: int = Field(ge=2)
    program: Program
    inputs: tuple[GraphInput, ...]

    @model_validator(mode="after")
    def _segments_have_digests(self) -> Self:
        _require_digests((self.program,), self.files)
        return self


class CheckManifest(Manifest):
    """`OUT/check`: one user's secret check vectors."""

    kind: Literal["check"] = "check"


def _require_digests(programs: Iterable[Program], files: dict[str, str]) -> None:
    for step in (step for program in programs for step in program.steps):
        if step.kind == "segment" and step.file not in files:
            raise ValueError(f"no digest of segment {step.file}")


M = TypeVar("M", bound=Manifest)


def package_digest(slices: Iterable[Subgraph]) -> str:
    """One digest over the names, layers and files of all slices."""
    content = json.dumps([subgraph.model_dump(mode="json") for subgraph in slices], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def digests_of(directory: Path) -> dict[str, str]:
    """Digest of every file below `directory`, but the manifest and its signature."""
    own = {directory / MANIFEST, directory / f"{MANIFEST}{SUFFIX}"}
    files = sorted(path for path in directory.rglob("*") if path.is_file() and path not in own)
    return {path.relative_to(directory).as_posix(): file_digest(path) for path in files}


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write `manifest` into `directory`."""
    (directory / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")


def load_manifest(directory: Path, kind: type[M], signer: Path | None = None) -> M:
    """Read the manifest of `directory` and verify every file against its digest.

    Args:
        directory: of a package.
        kind: of manifest.
        signer: PEM file with the public key of who must have signed the manifest; None takes any.

    Raises:
        InputError: `signer` is no such key.
        PackageError: no manifest, one that `signer` has not signed, another kind or version, or a file that is missing,
            truncated or changed.
    """
    manifest = _parse(directory / MANIFEST, kind, signer)
    if manifest.package != package_digest(manifest.slices):
        raise PackageError(f"{directory}: `package` is not the digest of the slices that the manifest lists; {_AGAIN}")
    for name, expected in manifest.files.items():
        _verify_file(directory / name, expected)
    return manifest


def manifest_kind(directory: Path) -> str:
    """What `directory` is: "client", "server", "check", or something that this version of ppidm does not write.

    Raises:
        PackageError: no manifest of this version.
    """
    return str(_content(directory / MANIFEST).get("kind"))


def sign_manifest(directory: Path, key: Path) -> None:
    """Sign the manifest of `directory`.

    Args:
        directory: of a package.
        key: PEM file with an Ed25519 private key.

    Raises:
        InputError: `key` is no such key.
    """
    sign_file(directory / MANIFEST, load_private_key(key))


def _content(path: Path, signer: Path | None = None) -> dict[str, Any]:
    try:
        content = _read(path)
    except (OSError, ValueError) as error:
        raise PackageError(
            f"{path}: not a readable manifest ({error}); expected a directory of `ppidm export`"
        ) from error
    if signer is not None:
        require_signed(path, content, load_public_key(signer))
    return _json(path, content)


def _json(path: Path, text: bytes) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        problem = f"{path}: not a readable manifest ({error})"
        raise PackageError(f"{problem}; expected a directory of `ppidm export`") from error
    version = content.get("format") if isinstance(content, dict) else None
    if version != FORMAT:
        raise PackageError(
            f"{path}: format {_quote(version)}; this ppidm reads format {FORMAT}. Export the package again"
        )
    return dict(content)


def _read(path: Path) -> bytes:
    """A pipe would never end, and a file may be larger than the memory."""
    if path.exists() and not path.is_file():
        raise ValueError("not a file")
    with path.open("rb") as file:
        content = file.read(MAX_MANIFEST_BYTES + 1)
    if len(content) > MAX_MANIFEST_BYTES:
        raise ValueError(f"more than {MAX_MANIFEST_BYTES} bytes")
    return content


def _parse(path: Path, kind: type[M], signer: Path | None) -> M:
    content = _content(path, signer)
    expected = kind.model_fields["kind"].default
    if (got := content.get("kind")) != expected:
        raise PackageError(f"{path}: the manifest of a {_quote(got)} directory; expected {expected!r}")
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PackageError(f"{path}: {_quote(where)}: {first['msg']}; {_AGAIN}") from error


def _verify_file(path: Path, expected: str) -> None:
    try:
        # A pipe would never end. Links are followed: Hugging Face's cache consists of them, and the digest decides.
        if path.exists() and not path.is_file():
            raise PackageError(f"{path}: not a file; {_AGAIN}")
        got = file_digest(path)
    except OSError as error:
        raise PackageError(f"{path}: {error.strerror}; {_AGAIN}") from error
    if got != expected:
        raise PackageError(f"{path}: SHA-256 is {got[:16]}..., the manifest says {expected[:16]}...; {_AGAIN}")
