"""Which inputs an engine is compiled for: buckets of picture sizes, batches of one and two; what is larger runs in pieces."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from pydantic import PositiveInt, model_validator

from ppidm.protocol.errors import InputError, PackageError
from ppidm.protocol.records import Record

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

    from ppidm.protocol.linear import Layer, Shape
    from ppidm.protocol.records import Subgraph

MOST_IMAGES = 2  # of a batch; the two halves of guidance are requests of their own
FEW_ROWS = 128  # of a product: all timesteps of a picture, or the tokens of a prompt, whatever the nominal shape is
_PRODUCT_RANK = 2
_ADDRESSABLE = 2**31 // 4  # elements: times the limbs, what TensorRT can address in one tensor


class Profile(Record):
    """A range of input shapes, (rows, C) or (N, H, W, C), and the one to be fastest at."""

    least: tuple[PositiveInt, ...]
    best: tuple[PositiveInt, ...]
    most: tuple[PositiveInt, ...]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for sizes in zip(self.least, self.best, self.most, strict=True):
            if list(sizes) != sorted(sizes):
                raise ValueError(f"profile {self.least} to {self.most}, best {self.best}")
        return self

    def covers(self, shape: Shape) -> bool:
        """Whether an engine with this profile takes an input of `shape`."""
        return all(low <= size <= high for low, size, high in zip(self.least, shape, self.most, strict=True))


def profiles_of(subgraph: Subgraph, sides: Sequence[int] = (2,)) -> tuple[Profile, ...]:
    """The profiles of a slice, small pictures first.

    Args:
        subgraph: its nominal shape is that of the model's own picture size.
        sides: a bucket each: the largest height and width, relative to the nominal ones. The smallest bucket begins at the
            least that the kernel takes, and so do the others: they overlap, and `pieces` takes the first that fits.

    Raises:
        PackageError: pictures of that size have no size that a GPU can address.
    """
    profiles = tuple(_profile(subgraph, side, before) for before, side in zip((0, *sides), sides, strict=False))
    if (elements := max(prod(profile.most) for profile in profiles)) > _ADDRESSABLE:
        raise PackageError(
            f"slice {subgraph.name}: nominal shape {subgraph.nominal_shape} makes inputs of {elements} elements; expected at most "
            f"{_ADDRESSABLE}; build with a smaller --largest, or export the model again at a smaller picture size"
        )
    return profiles


def _profile(subgraph: Subgraph, side: int, before: int) -> Profile:
    first, *inner, channels = subgraph.nominal_shape
    scale = side if before else 1  # the first bucket is fastest at the nominal size
    if not inner:
        rows = max(FEW_ROWS, MOST_IMAGES * first * side * side)
        return Profile(least=(1, channels), best=(first * scale * scale, channels), most=(rows, channels))
    least = [max(_least(layer, axis) for layer in subgraph.layers) for axis in range(2)]
    return Profile(
        least=(1, *least, channels),
        best=(1, *(size * scale for size in inner), channels),
        most=(MOST_IMAGES, *(size * side for size in inner), channels),
    )


def _least(layer: Layer, axis: int) -> int:
    """Of height (axis 0) or width (axis 1)."""
    reach = layer.dilations[axis] * (layer.kernel[axis] - 1) + 1
    return max(1, reach - layer.pads[axis] - layer.pads[axis + 2])


def pieces(name: str, profiles: Sequence[Profile], shape: Shape) -> Iterator[tuple[int, int, int]]:
    """Cut an input along its first axis, whose entries do not depend on each other: (profile, start, end) of every piece.

    Args:
        name: of the slice.
        profiles: of its engine.
        shape: of the input.

    Raises:
        InputError: no profile takes pictures of this size.
    """
    for number, profile in enumerate(profiles):
        length = min(shape[0], profile.most[0])
        last = number == len(profiles) - 1
        if profile.covers((length, *shape[1:])) and (length == shape[0] or last or len(shape) > _PRODUCT_RANK):
            yield from ((number, start, min(start + length, shape[0])) for start in range(0, shape[0], length))
            return
    most = max((profile.most for profile in profiles), key=prod)
    raise InputError(
        f"{name}: input of shape {shape}; this server's engines take {profiles[0].least} to {most}, and any batch. Ask for "
        "a smaller picture, or its operator for `ppidm build --largest`"
    )
