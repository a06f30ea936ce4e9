"""Reads TensorFlow's TensorProto (tensor.proto): few numbers or texts, whichever way they were written."""

from __future__ import annotations

import dataclasses
import math
import struct
from collections.abc import Iterator
from typing import Any

from runyard.integration.event_wire import BYTES, VARINT, DamagedRecord, fields, signed, varint

ELEMENT_COUNT_MAX = 1 << 16
"""Tensors of more numbers are not read."""

_TYPE, _SHAPE, _CONTENT = 1, 2, 4
_SHAPE_DIM, _DIM_SIZE = 2, 1
_FLOATS, _DOUBLES, _TEXTS, _HALVES = 5, 6, 8, 13
_SIGNED = frozenset({7, 10, 11})
"""int_val, int64_val, bool_val."""
_UNSIGNED = frozenset({16, 17})
"""uint32_val, uint64_val."""
_HALF, _BFLOAT16 = 19, 14
_LAYOUTS = {
    1: "f",
    2: "d",
    3: "i",
    4: "B",
    5: "h",
    6: "b",
    9: "q",
    10: "?",
    17: "H",
    _HALF: "e",
    22: "I",
    23: "Q",
}
"""How one element lies in tensor_content, by DataType, as struct says it."""


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor of numbers, or of texts; without either it is of something else, or too large."""

    shape: tuple[int, ...]
    numbers: tuple[float, ...] = ()
    texts: tuple[bytes, ...] = ()

    @property
    def scalar(self) -> float | None:
        """Returns the only number; None if there is none, or more."""
        return self.numbers[0] if len(self.numbers) == 1 else None


def read_tensor(message: memoryview) -> Tensor:
    """Returns the tensor; raises DamagedRecord for what is none."""
    kind, content = 0, b""
    shape: tuple[int, ...] = ()
    lists: list[tuple[int, int, Any]] = []
    texts: list[bytes] = []
    for number, wire, value in fields(message):
        if number == _TYPE and wire == VARINT:
            kind = value
        elif number == _SHAPE and wire == BYTES:
            shape = tuple(_sizes(value))
        elif number == _CONTENT and wire == BYTES:
            content = bytes(value)
        elif number == _TEXTS and wire == BYTES:
            texts.append(bytes(value))
        else:
            lists.append((number, wire, value))
    count = math.prod(shape)
    if texts or count > ELEMENT_COUNT_MAX or (kind not in _LAYOUTS and kind != _BFLOAT16):
        return Tensor(shape, texts=tuple(texts))
    if content:
        return Tensor(shape, tuple(_unpacked(kind, content)))
    numbers = [value for one in lists for value in _listed(kind, *one)]
    # Equal values at the end are left out by those who write, zeros wholly.
    last = numbers[-1] if numbers else 0.0
    return Tensor(shape, tuple(numbers + [last] * (count - len(numbers))))


def _unpacked(kind: int, content: bytes) -> tuple[float, ...]:
    if kind == _BFLOAT16:
        pairs = (content[place : place + 2] for place in range(0, len(content) & ~1, 2))
        return tuple(struct.unpack("<f", b"\0\0" + pair)[0] for pair in pairs)
    layout = _LAYOUTS[kind]
    count = len(content) // struct.calcsize("<" + layout)
    return tuple(map(float, struct.unpack_from(f"<{count}{layout}", content)))


def _listed(kind: int, number: int, wire: int, value: Any) -> Iterator[float]:
    """Yields the numbers of one of the typed lists, which is packed or of one element."""
    if number in (_FLOATS, _DOUBLES):
        size, layout = (4, "f") if number == _FLOATS else (8, "d")
        if wire == VARINT or len(value) % size:
            raise DamagedRecord("a list of numbers is cut off")
        yield from struct.unpack(f"<{len(value) // size}{layout}", value)
    elif number in _SIGNED or number in _UNSIGNED or number == _HALVES:
        for whole in _wholes(wire, value):
            if number == _HALVES:  # the bits of a half-precision number
                yield from (
                    _unpacked(kind, struct.pack("<H", whole & 0xFFFF))
                    if kind in (_HALF, _BFLOAT16)
                    else ()
                )
            else:
                yield float(whole if number in _UNSIGNED else signed(whole))


def _wholes(wire: int, value: Any) -> Iterator[int]:
    if wire == VARINT:
        yield value
    elif wire == BYTES:
        place = 0
        while place < len(value):
            whole, place = varint(value, place)
            yield whole


def _sizes(shape: memoryview) -> Iterator[int]:
    for number, kind, value in fields(shape):
        if number == _SHAPE_DIM and kind == BYTES:
            sizes = (signed(v) for n, k, v in fields(value) if n == _DIM_SIZE and k == VARINT)
            yield max(0, next(sizes, 0))
