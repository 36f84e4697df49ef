"""Loading `OUT/client` and `OUT/check`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from ppidm.protocol.check_file import VECTORS, read_checks
from ppidm.protocol.errors import PackageError
from ppidm.protocol.manifest import CheckManifest, ClientManifest, GraphManifest, Manifest, load_manifest
from ppidm.protocol.openings import OPENINGS, read_openings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ppidm.protocol.check import CheckVectors
    from ppidm.protocol.openings import Opening
    from ppidm.protocol.precision import Precision
    from ppidm.protocol.records import Subgraph
    from ppidm.protocol.ring import Ring


M = TypeVar("M", bound=Manifest)


@dataclass(frozen=True)
class ClientPackage(Generic[M]):
    """What a client holds. `checks` is None where answers are not verified."""

    directory: Path
    manifest: M
    slices: Mapping[str, Subgraph]
    openings: Mapping[str, Sequence[Opening]]
    checks: Mapping[str, Sequence[CheckVectors]] | None

    @property
    def ring(self) -> Ring:
        """The ring of all slices."""
        return self.manifest.ring

    @property
    def precision(self) -> Precision:
        """Whole answers that are checked, or truncated ones that are audited."""
        return self.manifest.precision

    def checks_of(self, name: str) -> Sequence[CheckVectors] | None:
        """The check vectors of a slice, one per layer."""
        return None if self.checks is None else self.checks[name]


def load_package(
    directory: Path, check: Path | None = None, *, verify: bool = True, signer: Path | None = None
) -> ClientPackage[ClientManifest]:
    """Load a client directory of a pipeline and this user's check vectors.

    Args:
        directory: `OUT/client`.
        check: this user's check vectors, `OUT/check`; by default the folder `check` beside `directory`.
        verify: whether answers will be checked.
        signer: PEM file with the public key of who must have signed the client's manifest; None takes any. The check
            vectors are the user's own, and only have to be of the same slices.

    Raises:
        InputError: `signer` is no such key.
        PackageError: either is missing, corrupt, of another kind or version, or they are of different exports.
    """
    return _load(directory, load_manifest(directory, ClientManifest, signer), check, verify=verify)


def load_graph_package(
    directory: Path, check: Path | None = None, *, verify: bool = True, signer: Path | None = None
) -> ClientPackage[GraphManifest]:
    """The same for a graph that is no pipeline."""
    return _load(directory, load_manifest(directory, GraphManifest, signer), check, verify=verify)


def _load(directory: Path, manifest: M, check: Path | None, *, verify: bool) -> ClientPackage[M]:
    return ClientPackage(
        directory=directory,
        manifest=manifest,
        slices={subgraph.name: subgraph for subgraph in manifest.slices},
        openings=read_openings(directory / OPENINGS, manifest.slices),
        checks=_load_checks(check or directory.absolute().parent / "check", manifest) if verify else None,
    )


def _load_checks(directory: Path, client: Manifest) -> Mapping[str, Sequence[CheckVectors]]:
    if not directory.is_dir():
        raise PackageError(
            f"{directory}: no check vectors; give their folder with --check DIR (`ppidm export` writes OUT/check)"
        )
    manifest = load_manifest(directory, CheckManifest)
    if manifest.package != client.package:
        raise PackageError(
            f"{directory}: check vectors of package {manifest.package[:16]}..., the client has {client.package[:16]}...; give the "
            "check folder of the same export"
        )
    return read_checks(directory / VECTORS, client.slices)
