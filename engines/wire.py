"""Reads protobuf's wire format: strict, bounded, no recursion, no copies. Just enough to look into an ONNX file.

What is refused here, protobuf's own parsers accept in several ways: a singular field that comes twice, a field that the
schema does not list, numbers of more than 32 bits where 32 are read. A file must not mean two things to two readers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import TypeAlias

MAX_FIELDS = 1_000_000  # of a whole file: bounds the time that a hostile one takes; SD 1.5's U-Net has 50,000
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT, _LONGEST_TAG = 10, 5  # bytes
_INT32_LIMIT = 1 << 31


class Kind(Enum):
    """What a field holds, and whether it may come more than once."""

    INT32 = "a number from 0 to 2**31 - 1, once"
    INT64 = "a number, once"
    NUMBERS = "numbers, packed or not"
    FIXED = "4 or 8 bytes, once"
    BYTES = "text, bytes or a message, once"
    MANY = "texts or messages"
    SCALARS = "numbers of 4 or 8 bytes, packed or not: their bytes"


Schema: TypeAlias = Mapping[int, tuple[str, Kind]]
"""Field number -> name and kind."""

_WIRE_TYPES = {
    Kind.INT32: {_VARINT},
    Kind.INT64: {_VARINT},
    Kind.NUMBERS: {_VARINT, _BYTES},
    Kind.FIXED: {_FIXED32, _FIXED64},
    Kind.BYTES: {_BYTES},
    Kind.MANY: {_BYTES},
    Kind.SCALARS: {_BYTES, _FIXED32, _FIXED64},
}
_ONCE = {Kind.INT32, Kind.INT64, Kind.FIXED, Kind.BYTES}


class WireError(ValueError):
    """Not a message of this schema."""


class Message:
    """The fields of one message, by name."""

    def __init__(self) -> None:
        self._values: dict[str, list[int | memoryview]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def add(self, name: str, value: int | memoryview) -> None:
        """Append a value of a field."""
        self._values.setdefault(name, []).append(value)

    def number(self, name: str) -> int:
        """The value of a field of kind INT32 or INT64; 0 by default."""
        return next(iter(self.numbers(name)), 0)

    def numbers(self, name: str) -> list[int]:
        """The values of a field of kind NUMBERS."""
        return [value for value in self._values.get(name, []) if isinstance(value, int)]

    def parts(self, name: str) -> list[memoryview]:
        """The values of a field of kind BYTES, MANY or SCALARS."""
        return [value for value in self._values.get(name, []) if isinstance(value, memoryview)]

    def text(self, name: str) -> str:
        """The value of a field of kind BYTES as text; "" by default."""
        return next(iter(self.texts(name)), "")

    def texts(self, name: str) -> list[str]:
        """The values of a field of kind MANY as texts."""
        return [bytes(part).decode("utf-8", "backslashreplace") for part in self.parts(name)]


class Reader:
    """Reads the messages of one file, `MAX_FIELDS` fields in all."""

    def __init__(self) -> None:
        self._left = MAX_FIELDS

    def read(self, data: memoryview, schema: Schema) -> Message:
        """Read one message; those inside of it stay bytes.

        Raises:
            WireError: it is truncated, or not of `schema`.
        """
        message = Message()
        for number, wire_type, value in self._fields(data):
            name, kind = schema.get(number, (f"field {number}", None))
            if kind is None or wire_type not in _WIRE_TYPES[kind]:
                known = ", ".join(known for known, _ in schema.values())
                raise WireError(f"{name} of wire type {wire_type}; expected one of {known}")
            if kind in _ONCE and name in message:
                raise WireError(f"{name} comes twice")
            if kind is Kind.INT32 and isinstance(value, int) and not 0 <= value < _INT32_LIMIT:
                raise WireError(f"{name} is {value}; expected {kind.value}")
            for single in self._unpacked(value) if kind is Kind.NUMBERS else [value]:
                message.add(name, single)
        return message

    def _fields(self, data: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
        position = 0
        while position < len(data):
            tag, position = self._varint(data, position, _LONGEST_TAG)
            number, wire_type = tag >> 3, tag & 7
            if wire_type == _VARINT:
                value, position = self._varint(data, position, _LONGEST_VARINT)
                yield number, wire_type, value - (1 << 64) if value >> 63 else value
                continue
            size = {_FIXED64: 8, _FIXED32: 4}.get(wire_type, -1)
            if wire_type == _BYTES:
                size, position = self._varint(data, position, _LONGEST_VARINT)
            if not 0 <= size <= len(data) - position:
                raise WireError(
                    f"field {number} of wire type {wire_type} and {size} bytes, {len(data) - position} left"
                )
            yield number, wire_type, data[position : position + size]
            position += size

    def _unpacked(self, value: int | memoryview) -> Iterator[int]:
        if isinstance(value, int):
            yield value
            return
        position = 0
        while position < len(value):
            number, position = self._varint(value, position, _LONGEST_VARINT)
            yield number - (1 << 64) if number >> 63 else number

    def _varint(self, data: memoryview, position: int, longest: int) -> tuple[int, int]:
        self._left -= 1
        if self._left < 0:
            raise WireError(f"more than {MAX_FIELDS} fields")
        value = 0
        for index, byte in enumerate(data[position : position + longest]):
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:  # noqa: PLR2004
                if value >> (64 if longest == _LONGEST_VARINT else 32):
                    break
                return value, position + index + 1
        raise WireError("a number that is truncated or too long")
