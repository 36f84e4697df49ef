"""Canaries: secrets that stand out, the ways in which they could be written, and a search for them.

text_canary("prompt", "...")        every word of it, in several encodings
bytes_canary("seed", content)       short windows of it, in several encodings
search(canaries, evidence)          where they were found: {(canary, place), ...}
"""

from __future__ import annotations

import base64
import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

CHUNK = 1 << 22
WINDOW = 16  # bytes of a long secret that are searched for: by chance they occur in 1 GB with probability 2^-98
SHORTEST = 8  # bytes of a spelling: by chance they occur in 1 GB with probability 2^-34
FEWEST_VALUES = 8  # distinct bytes in a window; runs of zeros are no secret
MOST_WINDOWS = 4  # of one secret
LETTERS = 4_000_000  # bytes of a place up to which it is searched in lower case, too


@dataclass(frozen=True)
class Canary:
    """A secret and its spellings."""

    name: str
    spellings: frozenset[bytes]


def spell(content: bytes) -> set[bytes]:
    """Bytes as they are, in hexadecimal, in base64 at any offset, as a list of numbers and as a Python or JSON text."""
    as_text = content.decode("latin1")
    numbers = ", ".join(map(str, content))
    texts = {
        content.hex(),
        content.hex().upper(),
        content.hex(" "),
        repr(content)[2:-1],
        json.dumps(as_text)[1:-1],
        numbers,
    }
    spellings = {content} | {text.encode() for text in texts} | _base64(content)
    assert min(map(len, spellings)) >= SHORTEST, content
    return spellings


def _base64(content: bytes) -> set[bytes]:
    """Whatever stands before it: base64 groups three bytes. The ends, which depend on the neighbours, are cut off."""
    found = set()
    for offset in range(3):
        coded = base64.b64encode(bytes(offset) + content)
        whole = coded[4 if offset else 0 : len(coded) - (4 if (offset + len(content)) % 3 else 0)]
        found |= {whole, whole.replace(b"+", b"-").replace(b"/", b"_")}
    return found


def text_canary(name: str, text: str) -> Canary:
    """A text: each of its words of eight letters or more, in UTF-8, UTF-16 and their spellings, in lower case."""
    words = [word for word in text.lower().split() if len(word) >= SHORTEST]
    assert words, text
    encoded = [word.encode(code) for word in words for code in ("utf-8", "utf-16-le", "utf-16-be")]
    return Canary(name, frozenset(spelling for content in encoded for spelling in spell(content)))


def bytes_canary(name: str, *contents: bytes) -> Canary:
    """Secret bytes: windows of each."""
    spellings: set[bytes] = set()
    for content in contents:
        for window in _windows(content):
            spellings |= spell(window)
    assert spellings, f"{name}: nothing in it stands out"
    return Canary(name, frozenset(spellings))


def _windows(content: bytes) -> list[bytes]:
    starts = range(0, max(1, len(content) - WINDOW + 1), max(WINDOW, len(content) // MOST_WINDOWS))
    windows = [content[start : start + WINDOW] for start in starts]
    return [window for window in windows if len(set(window)) >= min(FEWEST_VALUES, len(content))]


def number_canary(name: str, *values: float) -> Canary:
    """Numbers: in decimal, and as 8 bytes of either order."""
    spellings: set[bytes] = set()
    for value in values:
        kind = "q" if isinstance(value, int) else "d"
        packed = [struct.pack(order + kind, value) for order in "<>"]
        spellings |= {f"{value}"[:15].encode(), *packed, *(each.hex().encode() for each in packed)}
    return Canary(name, frozenset(spellings))


def ids_canary(name: str, ids: list[int]) -> Canary:
    """Token ids: as arrays of integers, and as lists of numbers."""
    arrays = {struct.pack(f"{order}{len(ids)}{kind}", *ids) for order in "<>" for kind in "qihH"}
    texts = {separator.join(map(str, ids)).encode() for separator in (", ", ",", " ", "\n")}
    return Canary(name, frozenset(arrays | texts | {array.hex().encode() for array in arrays}))


def search(canaries: list[Canary], evidence: dict[str, bytes]) -> set[tuple[str, str]]:
    """Which canary was found where."""
    needles = Needles(canaries)
    found = set()
    for place, content in evidence.items():
        for haystack in (content, content.lower()) if len(content) < LETTERS else (content,):
            found |= {(name, place) for name in needles.names_in(haystack)}
    return found


class Needles:
    """Thousands of spellings, looked for in one pass: by their first two bytes, then their first eight, then in full."""

    def __init__(self, canaries: list[Canary]) -> None:
        self._by_key: dict[int, list[tuple[bytes, str]]] = {}
        self._starts = np.zeros(1 << 16, bool)
        for canary in canaries:
            for spelling in canary.spellings:
                assert len(spelling) >= SHORTEST, (canary.name, spelling)
                self._by_key.setdefault(int.from_bytes(spelling[:8], "little"), []).append((spelling, canary.name))
                self._starts[int.from_bytes(spelling[:2], "little")] = True
        self._keys = np.array(list(self._by_key), np.uint64)

    def names_in(self, content: bytes) -> set[str]:
        """Names of the canaries in `content`."""
        found = set()
        for start in range(0, len(content), CHUNK):
            part = np.frombuffer(content[start : start + CHUNK + SHORTEST], np.uint8)
            for position, key in self._candidates(part):
                at = start + position
                found |= {name for spelling, name in self._by_key[key] if content.startswith(spelling, at)}
        return found

    def _candidates(self, part: NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
        if len(part) < SHORTEST:
            return
        pairs = part[:-7].astype(np.uint16) | part[1 : len(part) - 6].astype(np.uint16) << 8
        positions = np.flatnonzero(self._starts[pairs])
        keys = part[positions[:, None] + np.arange(8)].copy().view(np.uint64)[:, 0]
        for index in np.flatnonzero(np.isin(keys, self._keys)):
            yield int(positions[index]), int(keys[index])


def files_below(folder: Path, *, without: tuple[str, ...] = ()) -> dict[str, bytes]:
    """Every file, with its name in front of its content: a name can leak too."""
    paths = [
        path for path in folder.rglob("*") if path.is_file() and path.relative_to(folder).as_posix() not in without
    ]
    return {path.relative_to(folder).as_posix(): str(path.name).encode() + b"\n" + path.read_bytes() for path in paths}
