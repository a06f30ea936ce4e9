"""Columns as packed protobuf fields, without a Python object per element."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

_WIRE_TYPE_LENGTH: Final = 2


def pack_columns(message: Message, columns: Sequence[tuple[int, NDArray[Any]]]) -> None:
    """Sets packed fields, given by number, by merging their wire form: no Python object per element.

    Each array MUST have the field's width and be a little-endian integer or IEEE float, as packed fixed fields are.
    """
    parts: list[bytes] = []
    for number, column in columns:
        if len(column):
            body = np.ascontiguousarray(column).tobytes()
            parts += (_varint(number << 3 | _WIRE_TYPE_LENGTH), _varint(len(body)), body)
    message.MergeFromString(b"".join(parts))


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
