"""Makes the messages of event files, as their protos say, for tests without TensorBoard."""

from __future__ import annotations

import struct

from runyard.integration.event_records import frame


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def number_field(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def bytes_field(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def double_field(number: int, value: float) -> bytes:
    return varint(number << 3 | 1) + struct.pack("<d", value)


def float_field(number: int, value: float) -> bytes:
    return varint(number << 3 | 5) + struct.pack("<f", value)


def event(value: bytes, *, step: int = 0, wall_time_s: float = 1.5e9) -> bytes:
    """Returns an Event with one Summary.Value."""
    return (
        double_field(1, wall_time_s) + number_field(2, step) + bytes_field(5, bytes_field(1, value))
    )


def simple(tag: str, value: float) -> bytes:
    """Returns a Summary.Value as TensorFlow 1, torch and tensorboardX write it."""
    return bytes_field(1, tag.encode()) + float_field(2, value)


def tensor(tag: str, message: bytes, plugin: str | None) -> bytes:
    """Returns a Summary.Value as TensorFlow 2 writes it; later ones of a tag have no plugin."""
    metadata = (
        b"" if plugin is None else bytes_field(9, bytes_field(1, bytes_field(1, plugin.encode())))
    )
    return bytes_field(1, tag.encode()) + metadata + bytes_field(8, message)


def record(tag: str, value: float, step: int, wall_time_s: float = 1.5e9) -> bytes:
    """Returns a whole record with one number."""
    return frame(event(simple(tag, value), step=step, wall_time_s=wall_time_s))
