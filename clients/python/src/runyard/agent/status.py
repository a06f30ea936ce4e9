"""Reads google.rpc.Status off the wire, so that the SDK needs no package of Google's common protos.

Field numbers: google/rpc/status.proto, google/rpc/error_details.proto, google/protobuf/{any,duration}.proto.
"""

from __future__ import annotations

from collections.abc import Iterator

from runyard.errors import Error, error_of

DETAILS_KEY = "grpc-status-details-bin"
CODE_NAMES = (
    "ok", "cancelled", "unknown", "invalid_argument", "deadline_exceeded", "not_found", "already_exists",
    "permission_denied", "resource_exhausted", "failed_precondition", "aborted", "out_of_range", "unimplemented",
    "internal", "unavailable", "data_loss", "unauthenticated",
)  # fmt: skip
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def error_of_status(content: bytes) -> Error | None:
    """Returns the error that a serialized google.rpc.Status tells of; None if it is damaged."""
    code, message, reason = 2, "", ""
    metadata: dict[str, str] = {}
    retry_delay_s: float | None = None
    try:
        for number, value in _fields(content):
            if number == 1 and isinstance(value, int):
                code = value
            elif number == 2 and isinstance(value, bytes):
                message = value.decode("utf-8", "replace")
            elif number == 3 and isinstance(value, bytes):
                found = detail_of(*_any(value))
                reason, metadata = found[0] or reason, found[1] or metadata
                retry_delay_s = found[2] if found[2] is not None else retry_delay_s
    except (ValueError, IndexError):
        return None
    name = CODE_NAMES[code] if 0 <= code < len(CODE_NAMES) else "unknown"
    return error_of(name, message, reason=reason, metadata=metadata, retry_delay_s=retry_delay_s)


def detail_of(name: str, content: bytes) -> tuple[str, dict[str, str], float | None]:
    """Returns (reason, metadata, retry_delay_s) as far as a detail of that type tells. Raises ValueError, IndexError."""
    if name == "google.rpc.ErrorInfo":
        reason, metadata = _error_info(content)
        return reason, metadata, None
    if name == "google.rpc.RetryInfo":
        return "", {}, _retry_delay_s(content)
    return "", {}, None


def _any(content: bytes) -> tuple[str, bytes]:
    parts = _by_number(content)
    return _text(parts.get(1)).rsplit("/", 1)[-1], _content(parts.get(2))


def _error_info(content: bytes) -> tuple[str, dict[str, str]]:
    reason, metadata = "", {}
    for number, value in _fields(content):
        if number == 1:
            reason = _text(value)
        elif number == 3:
            entry = _by_number(_content(value))
            metadata[_text(entry.get(1))] = _text(entry.get(2))
    return reason, metadata


def _retry_delay_s(content: bytes) -> float:
    duration = _by_number(_content(_by_number(content).get(1)))
    seconds, nanos = duration.get(1, 0), duration.get(2, 0)
    return (seconds if isinstance(seconds, int) else 0) + (
        nanos if isinstance(nanos, int) else 0
    ) / 1e9


def _by_number(content: bytes) -> dict[int, int | bytes]:
    return dict(_fields(content))


def _text(value: int | bytes | None) -> str:
    return _content(value).decode("utf-8", "replace")


def _content(value: int | bytes | None) -> bytes:
    return value if isinstance(value, bytes) else b""


def _fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yields (number, value) of each field. Raises ValueError or IndexError on damage."""
    position = 0
    while position < len(content):
        tag, position = _varint(content, position)
        kind = tag & 7
        if kind == _VARINT:
            value, position = _varint(content, position)
            yield tag >> 3, value
        elif kind == _BYTES:
            length, position = _varint(content, position)
            if position + length > len(content):
                raise ValueError("a field ends behind the message")
            yield tag >> 3, content[position : position + length]
            position += length
        elif kind in (_FIXED64, _FIXED32):
            position += 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind}")


def _varint(content: bytes, position: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a varint of more than 64 bits")
