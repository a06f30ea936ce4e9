"""Reads TensorBoard's event files with the standard library: frames of TFRecord, and of the messages in them what runs keep.

    ┌──────────┬───────────────┬─────────┬───────────────┐
    │ length 8 │ its CRC32C  4 │ payload │ its CRC32C  4 │   little endian; the checksums are masked
    └──────────┴───────────────┴─────────┴───────────────┘

A payload is an Event (tensorflow/core/util/event.proto). Field numbers below are those of event.proto and summary.proto.
"""

from __future__ import annotations

import struct

from runyard.integration.event_tensors import read_tensor
from runyard.integration.event_values import (
    Found,
    Histogram,
    Images,
    histogram_of_message,
    histogram_of_tensor,
    images_of_message,
    images_of_tensor,
)
from runyard.integration.event_wire import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    DamagedRecord,
    fields,
    signed,
    text,
)

HEAD_BYTES, FOOT_BYTES = 12, 4
RECORD_BYTES_MAX = 64 << 20
"""Longer records (graphs of models) are passed over unread."""
CHECKED_BYTES_MAX = 64 << 10
"""Longer payloads are not summed up: at most a few microseconds per event are spent here."""

_MASK_DELTA = 0xA282EAD8
_FLOAT, _DOUBLE = struct.Struct("<f"), struct.Struct("<d")
_HEAD = struct.Struct("<QI")
_U32 = struct.Struct("<I")

# Event and Summary
_EVENT_WALL_TIME, _EVENT_STEP, _EVENT_SUMMARY = 1, 2, 5
_SUMMARY_VALUE = 1
_VALUE_TAG, _VALUE_SIMPLE, _VALUE_IMAGE, _VALUE_HISTOGRAM, _VALUE_TENSOR, _VALUE_METADATA = (
    1,
    2,
    4,
    5,
    8,
    9,
)
_METADATA_PLUGIN, _PLUGIN_NAME = 1, 1


def crc32c(data: bytes | memoryview) -> int:
    """Returns the checksum of Castagnoli."""
    table, crc = _TABLE, 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def masked_crc32c(data: bytes | memoryview) -> int:
    """Returns the checksum as it stands in the file."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def frame(payload: bytes) -> bytes:
    """Returns the payload as a record."""
    length = struct.pack("<Q", len(payload))
    sums = _U32.pack(masked_crc32c(length)), _U32.pack(masked_crc32c(payload))
    return length + sums[0] + payload + sums[1]


def payload_bytes(head: bytes) -> int:
    """Returns the length that the first 12 bytes of a record tell; raises DamagedRecord."""
    length, checksum = _HEAD.unpack(head)
    if checksum != masked_crc32c(head[:8]):
        raise DamagedRecord("the length of a record does not fit its checksum")
    return int(length)


def check_payload(payload: bytes | memoryview, foot: bytes | memoryview) -> None:
    """Raises DamagedRecord if the payload is not what was written."""
    if len(payload) <= CHECKED_BYTES_MAX and _U32.unpack(foot)[0] != masked_crc32c(payload):
        raise DamagedRecord("a record does not fit its checksum")


class EventParser:
    """Turns the payloads of one file, in their order, into what they hold; tells kinds of values by earlier ones.

    Writers describe a tag (the plugin that it is for) with its first value only.
    """

    def __init__(self) -> None:
        self._plugins: dict[str, str] = {}

    def parse(self, payload: memoryview) -> list[Found]:
        """Returns the values of an event that runs keep. Raises DamagedRecord for what is no Event."""
        wall_time_s, step = 0.0, 0
        summaries: list[memoryview] = []
        for number, kind, value in fields(payload):
            if number == _EVENT_WALL_TIME and kind == FIXED64:
                (wall_time_s,) = _DOUBLE.unpack(value)
            elif number == _EVENT_STEP and kind == VARINT:
                step = signed(value)
            elif number == _EVENT_SUMMARY and kind == BYTES:
                summaries.append(value)
        found: list[Found] = []
        for summary in summaries:
            for number, kind, value in fields(summary):
                if number == _SUMMARY_VALUE and kind == BYTES:
                    tag, kept = self._value(value)
                    if kept is not None:
                        found.append(Found(tag, step, _unix_ns(wall_time_s), kept))
        return found

    def _value(self, message: memoryview) -> tuple[str, float | Histogram | Images | None]:
        """Returns (tag, value) of a Summary.Value; None for one that runs do not keep."""
        parts: dict[int, memoryview] = {}
        for number, kind, value in fields(message):
            if kind in (BYTES, FIXED32):
                parts[number] = value
        tag = text(parts.get(_VALUE_TAG, memoryview(b"")))
        if _VALUE_METADATA in parts:
            self._plugins[tag] = _plugin_name(parts[_VALUE_METADATA])
        if _VALUE_SIMPLE in parts and len(parts[_VALUE_SIMPLE]) == _FLOAT.size:
            return tag, float(_FLOAT.unpack(parts[_VALUE_SIMPLE])[0])
        if _VALUE_TENSOR in parts:
            return tag, self._of_tensor(tag, parts[_VALUE_TENSOR])
        if _VALUE_HISTOGRAM in parts:
            return tag, histogram_of_message(parts[_VALUE_HISTOGRAM])
        if _VALUE_IMAGE in parts:
            return tag, images_of_message(parts[_VALUE_IMAGE])
        return tag, None

    def _of_tensor(self, tag: str, message: memoryview) -> float | Histogram | Images | None:
        plugin = self._plugins.get(tag, "")
        if plugin in ("", "scalars"):
            return read_tensor(message).scalar
        if plugin == "histograms":
            return histogram_of_tensor(read_tensor(message))
        return images_of_tensor(read_tensor(message)) if plugin == "images" else None


def _plugin_name(metadata: memoryview) -> str:
    for number, kind, value in fields(metadata):
        if number == _METADATA_PLUGIN and kind == BYTES:
            for inner, inner_kind, name in fields(value):
                if inner == _PLUGIN_NAME and inner_kind == BYTES:
                    return text(name)
    return ""


def _unix_ns(wall_time_s: float) -> int:
    """Returns the time; 0 for one that is no time."""
    return int(wall_time_s * 1e9) if 0 <= wall_time_s < 9e9 else 0


def _make_table() -> tuple[int, ...]:
    table = []
    for start in range(256):
        crc = start
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


_TABLE = _make_table()
