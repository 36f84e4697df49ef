"""Damaged inputs for Hypothesis: cut, spliced, overwritten, extended copies of good ones, and noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Sequence

EDGES = [
    b"\x00",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\xff" * 4,
    b"\xff" * 8,
    b"\x00" * 8,
    b"\xff\xff\xff\x7f",
    b"..",
    b"-1",
    b"1e999",
    b'"',
    b"{",
]


@st.composite
def damaged(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """A good input with a few edits, now and then noise."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        _edit(draw, content, seeds)
    return bytes(content)


def _edit(draw: st.DrawFn, content: bytearray, seeds: Sequence[bytes]) -> None:
    """One edit in place."""
    start = draw(st.integers(0, len(content)))
    end = draw(st.integers(start, min(len(content), start + 64)))
    kind = draw(st.integers(0, 4))
    if kind == 0:  # overwrite
        content[start:end] = draw(st.binary(min_size=end - start, max_size=end - start))
    elif kind == 1:  # an edge instead of as many bytes, or between them
        edge = draw(st.sampled_from(EDGES))
        content[start : start + draw(st.sampled_from([0, len(edge)]))] = edge
    elif kind == 2:  # cut  # noqa: PLR2004
        del content[start:end]
    elif kind == 3 and content:  # flip a bit  # noqa: PLR2004
        content[min(start, len(content) - 1)] ^= 1 << draw(st.integers(0, 7))
    else:  # splice
        other = draw(st.sampled_from(seeds))
        content[start:end] = other[draw(st.integers(0, len(other))) :][:64]
