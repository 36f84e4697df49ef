"""Seeds and their expansion. The only randomness of the protocol is `os.urandom`; see `Seed.fresh`.

One seed belongs to one dealer and one attempt of one request. `expand` separates, within a seed, the numbered usages.
"""

from __future__ import annotations

import os
from enum import IntEnum

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

SEED_BYTES = 32
_DOMAIN = b"ppidm/1 prg"
_ZERO_COUNTER = bytes(16)  # every key is used for one keystream only


class Usage(IntEnum):
    """What a keystream is for."""

    MASK_IN = 1  # r: hides the input of a slice
    MASK_OUT = 2  # s: hides output number `index` on its way between servers (relay mode)


class Seed:
    """32 secret bytes: a seed share of a mask.

    Security:
        `repr` and `str` show no content. Never log, store or reuse one.
    """

    __slots__ = ("_content",)

    def __init__(self, content: bytes) -> None:
        if len(content) != SEED_BYTES:
            raise ValueError(f"a seed has {SEED_BYTES} bytes; got {len(content)}")
        self._content = bytes(content)

    @classmethod
    def fresh(cls) -> Seed:
        """Draw a seed from the operating system: safe across forks, independent of any image seed."""
        return cls(os.urandom(SEED_BYTES))

    def reveal(self) -> bytes:
        """The content, to be sent to the one dealer whose seed this is."""
        return self._content

    def __repr__(self) -> str:
        return "Seed(<secret>)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Seed) and self._content == other._content

    def __hash__(self) -> int:
        return hash(self._content)


def expand(seed: Seed, usage: Usage, index: int, length: int) -> bytes:
    """`length` bytes that only holders of `seed` can tell from uniform ones.

    HKDF-Expand with SHA-256 (RFC 5869, section 2.3) gives the key of AES-256 in counter mode.
    """
    info = _DOMAIN + bytes([usage]) + index.to_bytes(4, "little")
    key = HKDFExpand(SHA256(), 32, info).derive(seed.reveal())
    return Cipher(algorithms.AES256(key), modes.CTR(_ZERO_COUNTER)).encryptor().update(bytes(length))
