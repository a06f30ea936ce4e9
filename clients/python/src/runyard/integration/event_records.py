"""Reads TensorBoard's event files with the standard library: frames of TFRecord, and of the messages in them what runs keep.

    ┌──────────┬───────────────┬─────────┬───────────────┐
    │ length 8 │ its CRC32C  4 │ payload │ its CRC32C  4 │   little endian; the checksums are masked
    └──────────┴───────────────┴─────────┴───────────────┘

A payload is an Event (tensorflow/core/util/event.proto). Field numbers below are those of event.proto, summary.proto and
tensor.proto.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator
from typing import Any

HEAD_BYTES, FOOT_BYTES = 12, 4
RECORD_BYTES_MAX = 64 << 20
"""Longer records (graphs of models) are passed over unread."""
CHECKED_BYTES_MAX = 64 << 10
"""Longer payloads are not summed up: at most a few microseconds per event are spent here."""

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_MASK_DELTA = 0xA282EAD8
_FLOAT, _DOUBLE = struct.Struct("<f"), struct.Struct("<d")
_HEAD = struct.Struct("<QI")
_U32 = struct.Struct("<I")

# Event and Summary
_EVENT_WALL_TIME, _EVENT_STEP, _EVENT_SUMMARY = 1, 2, 5
_SUMMARY_VALUE = 1
_VALUE_TAG, _VALUE_SIMPLE, _VALUE_TENSOR, _VALUE_METADATA = 1, 2, 8, 9
_METADATA_PLUGIN, _PLUGIN_NAME = 1, 1

# TensorProto
_TENSOR_TYPE, _TENSOR_SHAPE, _TENSOR_CONTENT = 1, 2, 4
_SHAPE_DIM, _DIM_SIZE = 2, 1
_TENSOR_HALF, _TENSOR_FLOAT, _TENSOR_DOUBLE, _TENSOR_INT, _TENSOR_INT64, _TENSOR_BOOL = (
    13,
    5,
    6,
    7,
    10,
    11,
)
_TENSOR_UINT32, _TENSOR_UINT64 = 16, 17
_DT_HALF, _DT_BFLOAT16 = 19, 14
_CONTENT_FORMATS = {1: "<f", 2: "<d", 3: "<i", 4: "<B", 5: "<h", 6: "<b", 9: "<q", 10: "<?", 17: "<H", 19: "<e", 22: "<I", 23: "<Q"}  # fmt: skip
"""How one element lies in tensor_content, by DataType."""


class DamagedRecord(ValueError):
    """A frame or message is not what its checksum or its format says."""


@dataclasses.dataclass(frozen=True)
class Scalar:
    """One number that was written for a tag at a step."""

    tag: str
    step: int
    time_unix_ns: int
    value: float


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

    def parse(self, payload: memoryview) -> list[Scalar]:
        """Returns the numbers of an event. Raises DamagedRecord for what is no Event."""
        wall_time_s, step = 0.0, 0
        summaries: list[memoryview] = []
        for number, kind, value in fields(payload):
            if number == _EVENT_WALL_TIME and kind == FIXED64:
                (wall_time_s,) = _DOUBLE.unpack(value)
            elif number == _EVENT_STEP and kind == VARINT:
                step = _signed(value)
            elif number == _EVENT_SUMMARY and kind == BYTES:
                summaries.append(value)
        found: list[Scalar] = []
        if summaries:
            time_unix_ns = _unix_ns(wall_time_s)
            for summary in summaries:
                for number, kind, value in fields(summary):
                    if number == _SUMMARY_VALUE and kind == BYTES:
                        scalar = self._scalar(value, step, time_unix_ns)
                        if scalar is not None:
                            found.append(scalar)
        return found

    def _scalar(self, message: memoryview, step: int, time_unix_ns: int) -> Scalar | None:
        tag, number_given, tensor = "", None, None
        metadata = None
        for number, kind, value in fields(message):
            if number == _VALUE_TAG and kind == BYTES:
                tag = _text(value)
            elif number == _VALUE_SIMPLE and kind == FIXED32:
                (number_given,) = _FLOAT.unpack(value)
            elif number == _VALUE_TENSOR and kind == BYTES:
                tensor = value
            elif number == _VALUE_METADATA and kind == BYTES:
                metadata = value
        if metadata is not None:
            self._plugins[tag] = _plugin_name(metadata)
        if (
            number_given is None
            and tensor is not None
            and self._plugins.get(tag, "") in ("", "scalars")
        ):
            number_given = tensor_scalar(tensor)
        return None if number_given is None else Scalar(tag, step, time_unix_ns, number_given)


def fields(message: memoryview) -> Iterator[tuple[int, int, Any]]:
    """Yields (field number, wire type, value) of a message; values are ints of VARINT, else their bytes."""
    place, end = 0, len(message)
    while place < end:
        key, place = _varint(message, place)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, place = _varint(message, place)
            yield number, kind, value
            continue
        if kind == BYTES:
            length, place = _varint(message, place)
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


def tensor_scalar(message: memoryview) -> float | None:
    """Returns the only number of a tensor; None if it has more, or is of something else."""
    kind, content, lists = 0, None, []
    for number, wire, value in fields(message):
        if number == _TENSOR_TYPE and wire == VARINT:
            kind = value
        elif number == _TENSOR_SHAPE and wire == BYTES:
            if any(size != 1 for size in _sizes(value)):
                return None
        elif number == _TENSOR_CONTENT and wire == BYTES:
            content = bytes(value)
        else:
            lists.append((number, wire, value))
    if content:
        return _content_scalar(kind, content)
    for number, wire, value in lists:
        found = _list_scalar(kind, number, wire, value)
        if found is not None:
            return found
    return 0.0 if kind in _CONTENT_FORMATS or kind == _DT_BFLOAT16 else None


def _content_scalar(kind: int, content: bytes) -> float | None:
    if kind == _DT_BFLOAT16 and len(content) == 2:
        return float(_FLOAT.unpack(b"\0\0" + content)[0])
    layout = _CONTENT_FORMATS.get(kind)
    if layout is None or struct.calcsize(layout) != len(content):
        return None
    return float(struct.unpack(layout, content)[0])


def _list_scalar(kind: int, number: int, wire: int, value: Any) -> float | None:
    """Returns the first number of one of the typed lists of a tensor, packed or not."""
    if number in (_TENSOR_FLOAT, _TENSOR_DOUBLE):
        layout = _FLOAT if number == _TENSOR_FLOAT else _DOUBLE
        return float(layout.unpack(value[: layout.size])[0]) if len(value) >= layout.size else None
    is_whole = number in (_TENSOR_INT, _TENSOR_INT64, _TENSOR_BOOL, _TENSOR_UINT32, _TENSOR_UINT64)
    if not is_whole and number != _TENSOR_HALF:
        return None
    if wire == BYTES:
        if not len(value):
            return None
        value, _ = _varint(value, 0)
    if number == _TENSOR_HALF:  # the bits of a half-precision number
        return _content_scalar(kind, struct.pack("<H", value & 0xFFFF))
    return float(value if number in (_TENSOR_UINT32, _TENSOR_UINT64) else _signed(value))


def _sizes(shape: memoryview) -> Iterator[int]:
    for number, kind, value in fields(shape):
        if number == _SHAPE_DIM and kind == BYTES:
            yield next(
                (_signed(v) for n, k, v in fields(value) if n == _DIM_SIZE and k == VARINT), 0
            )


def _plugin_name(metadata: memoryview) -> str:
    for number, kind, value in fields(metadata):
        if number == _METADATA_PLUGIN and kind == BYTES:
            for inner, inner_kind, text in fields(value):
                if inner == _PLUGIN_NAME and inner_kind == BYTES:
                    return _text(text)
    return ""


def _varint(message: memoryview, place: int) -> tuple[int, int]:
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


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _text(value: memoryview) -> str:
    return bytes(value).decode("utf-8", "replace")


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
