"""The npm packages that the training pictures and their captions come from, fetched with npm and verified.

All licences permit use and redistribution: see `PACKAGES`. A package is read from its tarball, never unpacked or run.
"""

from __future__ import annotations

import base64
import hashlib
import subprocess
import tarfile
from dataclasses import dataclass
from shutil import which
from typing import TYPE_CHECKING

from ppidm.protocol.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Package:
    """One package of the npm registry.

    sha512: of the tarball, base64: what the registry publishes as its integrity.
    """

    name: str
    version: str
    licence: str
    holds: str
    sha512: str

    @property
    def tarball(self) -> str:
        """The file name that `npm pack` gives."""
        return f"{self.name.lstrip('@').replace('/', '-')}-{self.version}.tgz"


FLUENT_3D = Package(
    "@lobehub/fluent-emoji-3d", "1.1.0", "MIT", "Microsoft's Fluent emoji, rendered in 3D, 256 pixels",
    "Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
)  # fmt: skip
FLUENT_FLAT = Package(
    "@iconify-json/fluent-emoji-flat", "1.2.6", "MIT", "Microsoft's Fluent emoji, flat, SVG",
    "RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
)  # fmt: skip
NOTO = Package(
    "emoji-datasource-google", "16.0.0", "Apache-2.0 (pictures), MIT (package)", "Google's Noto emoji, 64 pixels",
    "ZRexfzs7MVoLnmzZmNsO4TKhnAJp5D++Vm6PpUpH/jEQQlemp3l88CjZ+DoZ2faM9R4QxZkOPJCoT8DlPhfQ3A==",
)  # fmt: skip
CAPTIONS = Package(
    "emojibase-data", "17.0.0", "MIT", "names and groups of emoji",
    "Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
)  # fmt: skip
PACKAGES = (FLUENT_3D, FLUENT_FLAT, NOTO, CAPTIONS)


def fetch(folder: Path, progress: Callable[[str, int, int], None]) -> None:
    """Bring every package that is not in `folder` yet, and verify all of them.

    Raises:
        InputError: npm is missing or fails, or a tarball is not what was published.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for done, package in enumerate(PACKAGES):
        progress("fetching packages", done, len(PACKAGES))
        if not (folder / package.tarball).exists():
            _npm_pack(package, folder)
        verify(package, folder)


def _npm_pack(package: Package, folder: Path) -> None:
    npm = which("npm")
    if npm is None:
        raise InputError("npm is not installed, and the training pictures are npm packages; install Node.js with npm")
    command = [npm, "pack", f"{package.name}@{package.version}", "--pack-destination", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise InputError(
            f"npm pack {package.name}@{package.version} failed: {reason[0]}; is the npm registry reachable?"
        )


def verify(package: Package, folder: Path) -> None:
    """Compare a tarball with its published digest.

    Raises:
        InputError: it is missing or differs.
    """
    path = folder / package.tarball
    if not path.is_file():
        raise InputError(f"{path} is not there; run `python -m tools.train fetch` first")
    found = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    if found != package.sha512:
        raise InputError(
            f"{path}: SHA-512 is {found[:12]}..., expected {package.sha512[:12]}...; delete the file and fetch it again"
        )


def read_members(package: Package, folder: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """The files of a verified package that are `wanted`, as (path within the package, content).

    Raises:
        InputError: the tarball is missing or is not what was published.
    """
    verify(package, folder)
    with tarfile.open(folder / package.tarball) as tarball:
        for member in tarball:
            path = member.name.removeprefix("package/")
            if member.isfile() and wanted(path) and (stream := tarball.extractfile(member)):
                yield path, stream.read()
