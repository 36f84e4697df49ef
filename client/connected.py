"""A package and its servers: what everything that the client runs is opened with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from ppidm.client.exchange import Mode
from ppidm.client.files import check_timeout
from ppidm.client.links import LOOPBACK, LinkSettings
from ppidm.client.servers import Servers, connect
from ppidm.protocol.audit import DEFAULT_SHARE, require_share
from ppidm.protocol.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Any, Self

    from ppidm.client.package import ClientPackage

IN_FLIGHT = 8  # steps of the programs at the same time, over both halves of guidance

M = TypeVar("M", bound=Manifest)


class Connected(ABC, Generic[M]):
    """Runs a package on servers. Use `from_package`, and this as a context manager, or call `close`."""

    def __init__(
        self,
        package: ClientPackage[M],
        servers: Servers,
        threads: int = 0,
        audit: float = DEFAULT_SHARE,
        mode: Mode = Mode.DIRECT,
    ) -> None:
        self._audit, self._mode, self._threads = audit, mode, threads
        self._package, self._servers, self._manifest = package, servers, package.manifest
        self._pool = ThreadPoolExecutor(IN_FLIGHT, "ppidm-step")

    @staticmethod
    @abstractmethod
    def _load(directory: Path, check: Path | None, *, verify: bool, signer: Path | None) -> ClientPackage[M]:
        """Load `OUT/client` of the kind that this runs."""

    @classmethod
    def from_package(
        cls,
        path: str | Path,
        *,
        evaluator: str,
        dealers: Sequence[str],
        check: str | Path | None = None,
        verify: bool = True,
        audit: float = DEFAULT_SHARE,
        mode: Mode = Mode.DIRECT,
        signer: str | Path | None = None,
        timeout: float = 60.0,
        threads: int = 0,
        links: LinkSettings = LOOPBACK,
    ) -> Self:
        """Load `OUT/client` and connect to the servers.

        Args:
            path: the client directory of `ppidm export`.
            evaluator: HOST:PORT of the server that gets masked activations.
            dealers: HOST:PORT of the servers that get seeds; one or more, run by other operators than the evaluator.
            check: this user's check vectors; by default the folder `check` beside `path`.
            verify: check every answer, or audit truncated ones. Turn it off for measurements only.
            audit: share of truncated answers that are audited; packages of precision exact have none.
            mode: direct: every server answers the client. relay: dealers send their shares to the evaluator, ahead, and the
                client downloads one answer, whatever the number of dealers.
            signer: PEM file with the public key of who must have signed the package; None takes any.
            timeout: seconds that one request may take.
            threads: of each of the client's own graphs; 0 means one per core.
            links: pins, certificates and tokens, for servers outside of loopback.

        Raises:
            PackageError: the package is corrupt or of another version.
            InputError: a bad address, or a server in two roles.
            PeerError: a server cannot be reached or has another package.
        """
        require_share(audit)
        check, signer = (None if given is None else Path(given) for given in (check, signer))
        package = cls._load(Path(path), check, verify=verify, signer=signer)
        return cls(package, connect(evaluator, dealers, package.manifest.package, timeout, links), threads, audit, mode)

    def close(self) -> None:
        """Close the connections."""
        self._servers.close()
        self._pool.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


C = TypeVar("C", bound="Connected[Any]")


@dataclass(frozen=True)
class Connection:
    """The options that `ppidm generate` and `ppidm run` share; see their `--help`, and `Connected.from_package`."""

    package: Path
    evaluator: str
    dealers: tuple[str, ...]
    check: Path | None = None
    verify: bool = True
    audit: float = DEFAULT_SHARE
    mode: Mode = Mode.DIRECT
    signer: Path | None = None
    timeout: float = 60.0
    links: LinkSettings = LOOPBACK

    def require_valid(self) -> None:
        """Check what is checked late otherwise.

        Raises:
            InputError: names the option.
        """
        require_share(self.audit)
        check_timeout(self.timeout)

    def open(self, kind: type[C]) -> C:
        """Load the package and connect; see `Connected.from_package`."""
        return kind.from_package(
            self.package,
            evaluator=self.evaluator,
            dealers=self.dealers,
            check=self.check,
            verify=self.verify,
            audit=self.audit,
            mode=self.mode,
            signer=self.signer,
            timeout=self.timeout,
            links=self.links,
        )
