"""Protobuf's wire format, as far as reading needs it; the standard library only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class DamagedRecord(ValueError):
    """A frame or message is not what its checksum or its format says."""


def fields(message: memoryview) -> Iterator[tuple[int, int, Any]]:
    """Yields (field number, wire type, value) of a message; values are ints of VARINT, else their bytes."""
    place, end = 0, len(message)
    while place < end:
        key, place = varint(message, place)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, place = varint(message, place)
            yield number, kind, value
            continue
        if kind == BYTES:
            length, place = varint(message, place)
        elif kind == FIXED64:
            length = 8
        elif kind == FIXED32:
            length = 4
        else:
            raise DamagedRecord(f"a field of the unknown wire type {kind}")
        if place + length > end:
            raise DamagedRecord("a field is longer than its message")
        yield number, kind, message[place : place + length]
        place += length


def varint(message: memoryview, place: int) -> tuple[int, int]:
    """Returns (number, the place behind it); raises DamagedRecord."""
    value, shift = 0, 0
    try:
        while True:
            byte = message[place]
            place += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, place
            shift += 7
            if shift > 63:
                raise DamagedRecord("a number is longer than 64 bits")
    except IndexError:
        raise DamagedRecord("a message ends within a number") from None


def signed(value: int) -> int:
    """Returns the number that a varint of 64 bits stands for."""
    return value - (1 << 64) if value >= 1 << 63 else value


def text(value: memoryview) -> str:
    """Returns the text of bytes that may be damaged."""
    return bytes(value).decode("utf-8", "replace")
