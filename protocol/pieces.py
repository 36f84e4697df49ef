"""Large activations travel in pieces: rows of a product, strips of an image (PROTOCOL.md, section 4).

A strip holds its own rows and those that its kernels reach above and below. Near its cut edges a server computes results
that nobody needs, since it pads with zeros there; they are checked like all others, and dropped. Where the cuts are
depends on shapes only.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm, prod
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ppidm.protocol.linear import Layer, Shape

MAX_VALUES = 1 << 22  # of one request, and of its answers together: 16 MiB at 4 bytes, and 0.7 GiB of a server's memory


@dataclass(frozen=True)
class Piece:
    """A part of an activation, along its axis 0 (rows, images) or 1 (height of one image).

    Attributes:
        image: which image; None of a product.
        reads: what of the axis it holds.
        keeps: per layer, which of the piece's own results count.
    """

    image: int | None
    reads: slice
    keeps: tuple[slice, ...]

    @property
    def index(self) -> tuple[slice, ...]:
        """Of the piece in the activation."""
        return (self.reads,) if self.image is None else (slice(self.image, self.image + 1), self.reads)

    def shape_of(self, shape: Shape) -> Shape:
        """Of the piece of an activation of `shape`."""
        sizes = [len(range(*part.indices(size))) for part, size in zip(self.index, shape, strict=False)]
        return (*sizes, *shape[len(sizes) :])

    def kept(self, layer: int) -> tuple[slice, ...]:
        """Of what counts in the piece's result of a layer."""
        return (self.keeps[layer],) if self.image is None else (slice(None), self.keeps[layer])


def pieces_of(layers: Sequence[Layer], shape: Shape, most: int = MAX_VALUES) -> list[Piece]:
    """How an input of `shape` travels: in one piece, or in pieces of about `most` values, or as many results.

    Args:
        layers: of a slice; they share the input.
        shape: (rows, C) or (N, H, W, C).
        most: values of a request, or of its answers.
    """
    largest = max(prod(shape), sum(prod(layer.output_shape(shape)) for layer in layers))
    if largest <= most:
        everything = tuple(slice(None) for _ in layers)
        return [Piece(None, slice(None), everything)]
    if len(shape) == 2:  # noqa: PLR2004
        return [
            Piece(None, rows, tuple(slice(None) for _ in layers))
            for rows in _cuts(shape[0], max(1, shape[0] * most // largest), 1)
        ]
    per_image = largest // shape[0]
    strips = _strips(layers, shape[1], max(1, shape[1] * most // per_image))
    return [Piece(image, reads, keeps) for image in range(shape[0]) for reads, keeps in strips]


def put_together(pieces: Sequence[Piece], results: Sequence[NDArray[Any]], layer: int) -> NDArray[Any]:
    """The result of a layer, from its results of all pieces."""
    if len(pieces) == 1:
        return results[0]
    images: dict[int | None, list[NDArray[Any]]] = {}
    for piece, result in zip(pieces, results, strict=True):
        images.setdefault(piece.image, []).append(result[piece.kept(layer)])
    axis = 0 if None in images else 1
    return np.concatenate([np.concatenate(parts, axis=axis) for parts in images.values()])


def _cuts(size: int, step: int, unit: int) -> list[slice]:
    """Of about `step`, which is rounded to a multiple of `unit`."""
    step = max(unit, step // unit * unit)
    return [slice(start, min(start + step, size)) for start in range(0, size, step)]


def _strips(layers: Sequence[Layer], height: int, step: int) -> list[tuple[slice, tuple[slice, ...]]]:
    unit = lcm(*(layer.strides[0] for layer in layers))
    least = max(1, *(_reach(layer) - layer.pads[0] - layer.pads[2] for layer in layers))  # rows that a kernel needs
    above = max(least - 1, *(layer.pads[0] for layer in layers))
    above = -(-above // unit) * unit  # so that strides meet the same rows
    cuts = _cuts(height, step, unit)
    strips = []
    for cut in cuts:
        top, last = max(0, cut.start - above), cut is cuts[-1]
        ends = [cut.stop - layer.strides[0] - layer.pads[0] + _reach(layer) for layer in layers]
        bottom = height if last else min(height, max(top + least, *ends))
        strips.append((slice(top, bottom), tuple(_kept(layer, cut, top, last=last) for layer in layers)))
    return strips


def _reach(layer: Layer) -> int:
    return layer.dilations[0] * (layer.kernel[0] - 1) + 1


def _kept(layer: Layer, cut: slice, top: int, *, last: bool) -> slice:
    """Of a strip that starts at `top`, the results that start in `cut`; the last strip has all that is left."""
    start, stop, above = (row // layer.strides[0] for row in (cut.start, cut.stop, top))
    return slice(start - above, None if last else stop - above)
