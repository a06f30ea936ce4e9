"""Writes protobuf messages as proto3 JSON, long columns of numbers at the speed of the json module instead of one by one."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

CHUNK_LENGTH: Final = 16_384
"""Numbers converted at one go: between two goes other threads get their turn."""

_NON_FINITE = re.compile(r"NaN|-?Infinity")
_INT64_TYPES: Final = frozenset({FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64})
_INT32_TYPES: Final = frozenset({FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32})
_WELL_KNOWN_PREFIX: Final = "google.protobuf."


def to_json(message: Message) -> str:
    """Returns the message as compact proto3 JSON: lowerCamelCase names, 64-bit integers as text, defaults left out."""
    parts: list[str] = []
    _write_message(message, parts)
    return "".join(parts)


def _write_message(message: Message, parts: list[str]) -> None:
    if message.DESCRIPTOR.full_name.startswith(_WELL_KNOWN_PREFIX):
        # Timestamp, Duration, FieldMask and the like have forms of their own.
        parts.append(_dump(json_format.MessageToDict(message)))
        return
    parts.append("{")
    is_first = True
    for field, value in message.ListFields():
        parts.append(f'"{field.json_name}":' if is_first else f',"{field.json_name}":')
        is_first = False
        if _is_map(field) or field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT:
            parts.append(_dump(json_format.MessageToDict(message)[field.json_name]))
        elif field.is_repeated:
            _write_repeated(field, value, parts)
        else:
            _write_one(field, value, parts)
    parts.append("}")


def _write_repeated(field: FieldDescriptor, values: Sequence[Any], parts: list[str]) -> None:
    parts.append("[")
    if field.cpp_type in _INT64_TYPES:
        _join(('"' + '","'.join(map(str, chunk)) + '"' for chunk in _chunks(values)), parts)
    elif field.cpp_type in _INT32_TYPES:
        _join((",".join(map(str, chunk)) for chunk in _chunks(values)), parts)
    elif field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE:
        _join((_double_texts(chunk) for chunk in _chunks(values)), parts)
    else:
        for index, value in enumerate(values):
            if index:
                parts.append(",")
            _write_one(field, value, parts)
    parts.append("]")


def _write_one(field: FieldDescriptor, value: Any, parts: list[str]) -> None:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_MESSAGE:
        _write_message(value, parts)
    elif kind in _INT64_TYPES:
        parts.append(f'"{value}"')
    elif kind == FieldDescriptor.CPPTYPE_DOUBLE:
        parts.append(_double_texts([value]))
    elif kind == FieldDescriptor.CPPTYPE_ENUM:
        assert field.enum_type is not None
        known = field.enum_type.values_by_number.get(value)
        parts.append(f'"{known.name}"' if known is not None else str(value))
    elif field.type == FieldDescriptor.TYPE_BYTES:
        parts.append(f'"{base64.b64encode(value).decode()}"')
    else:
        parts.append(_dump(value))


def _double_texts(values: Sequence[float]) -> str:
    text = json.dumps(values, separators=(",", ":"))[1:-1]
    return _NON_FINITE.sub(r'"\g<0>"', text) if "N" in text or "I" in text else text


def _chunks(values: Sequence[Any]) -> Iterable[list[Any]]:
    for start in range(0, len(values), CHUNK_LENGTH):
        yield list(values[start : start + CHUNK_LENGTH])


def _join(texts: Iterable[str], parts: list[str]) -> None:
    for index, text in enumerate(texts):
        if index:
            parts.append(",")
        parts.append(text)


def _is_map(field: FieldDescriptor) -> bool:
    kind = field.message_type
    return kind is not None and bool(kind.GetOptions().map_entry)


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
