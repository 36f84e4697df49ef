"""Packages of a few made-up emoji, for tests of tools.train."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw
from tools.train import packages, pictures

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

CONCEPTS = {"1f34e": ("red apple", 4), "1f34c": ("banana", 4), "1f436": ("dog face", 3), "2764-fe0f": ("red heart", 0)}
FLAG, TONED = "1f1e6-1f1e8", "1f44b-1f3fb"
NAMES = ("FLUENT_3D", "FLUENT_FLAT", "NOTO", "CAPTIONS")


def write_packages(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four tarballs in `folder`, and the modules that read them expect just these."""
    chosen = []
    for name, files in zip(NAMES, (_fluent_3d(), _flat(), _noto(), _captions()), strict=True):
        package = getattr(packages, name)
        content = _tarball(files)
        (folder / package.tarball).write_bytes(content)
        digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
        chosen.append(dataclasses.replace(package, sha512=digest))
        monkeypatch.setattr(pictures, name, chosen[-1])
    monkeypatch.setattr(packages, "PACKAGES", tuple(chosen))


def drawn(code: str, size: int, kind: str = "webp") -> bytes:
    """A disc in the middle, transparent outside; its colour is the code's."""
    image = Image.new("RGBA", (size, size), (0, 0, 0, 0))
    colour = (*hashlib.sha256(code.encode()).digest()[:3], 255)
    ImageDraw.Draw(image).ellipse((size // 8, size // 8, size * 7 // 8, size * 7 // 8), fill=colour)
    stream = io.BytesIO()
    image.save(stream, kind, **({"lossless": True} if kind == "webp" else {}))
    return stream.getvalue()


def _fluent_3d() -> dict[str, bytes]:
    return {f"assets/{code}.webp": drawn(code, 256) for code in (*CONCEPTS, FLAG, TONED)} | {"README.md": b"text"}


def _noto() -> dict[str, bytes]:
    return {f"img/google/64/{code}.png": drawn(code, 64, "png") for code in (*CONCEPTS, FLAG, TONED)} | {
        "img/google/sheets/64.png": b"not a picture"
    }


def _flat() -> dict[str, bytes]:
    icons = {name: {"body": '<circle cx="16" cy="16" r="12" fill="#f00"/>'} for name, _ in CONCEPTS.values()}
    chars = {code.removesuffix("-fe0f"): name for code, (name, _) in CONCEPTS.items()} | {TONED: "red apple"}
    content = {"prefix": "fluent-emoji-flat", "icons": icons, "width": 32, "height": 32}
    return {"icons.json": json.dumps(content).encode(), "chars.json": json.dumps(chars).encode()}


def _captions() -> dict[str, bytes]:
    entries = [
        {"hexcode": code.upper(), "label": name.title(), "group": group} for code, (name, group) in CONCEPTS.items()
    ]
    entries += [
        {"hexcode": FLAG.upper(), "label": "flag: Ascension", "group": 9},
        {"hexcode": "1F1E6", "label": "letter"},
    ]
    return {"en/data.json": json.dumps(entries).encode()}


def _tarball(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tarball:
        for path, content in files.items():
            member = tarfile.TarInfo(f"package/{path}")
            member.size = len(content)
            tarball.addfile(member, io.BytesIO(content))
    return stream.getvalue()
