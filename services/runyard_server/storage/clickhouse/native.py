"""Writes columns in ClickHouse's Native format: a header per column, then the column's bytes as NumPy holds them.

Arrow says the same with a parser in between that costs more than the insert's own work: 400,000 points took 52 ms of CPU
this way and 78 ms as Arrow. The format: https://clickhouse.com/docs/interfaces/formats/Native
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_TYPES: Final[dict[np.dtype[Any], bytes]] = {
    np.dtype(np.uint8): b"UInt8",
    np.dtype(np.uint32): b"UInt32",
    np.dtype(np.uint64): b"UInt64",
    np.dtype(np.int64): b"Int64",
    np.dtype(np.float64): b"Float64",
}

assert sys.byteorder == "little", "Native columns are little-endian, as this machine's must be"


def native_block(columns: Mapping[str, NDArray[Any]]) -> list[bytes]:
    """Returns the columns, of one length above 0, as one block of the format, in parts."""
    lengths = {column.size for column in columns.values()}
    assert len(lengths) == 1 and 0 not in lengths, f"columns are empty or differ: {lengths}"
    parts = [_varint(len(columns)) + _varint(lengths.pop())]
    for name, column in columns.items():
        parts += [_text(name.encode()) + _text(_TYPES[column.dtype]), column.tobytes()]
    return parts


def _text(value: bytes) -> bytes:
    return _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
