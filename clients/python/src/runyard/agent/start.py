"""Reads the first record of a journal, without numpy: it is what the agent needs at once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from zlib import crc32

from runyard import journal_format as form
from runyard.agent.ports import Disk

START_BYTES_MAX = 256 << 20


def read_start(disk: Disk, folder: str) -> dict[str, Any] | None:
    """Returns the START record of the journal in `folder`; None if it is not (whole) there."""
    file = disk.open(f"{folder}/{form.segment_name(1)}")
    if file is None:
        return None
    try:
        if header_sequence(file.read_at(0, form.HEADER_BYTES)) is None:
            return None
        header = file.read_at(form.HEADER_BYTES, form.FRAME_HEADER_BYTES)
        if len(header) < form.FRAME_HEADER_BYTES:
            return None
        length, checksum, kind, _, _ = form.FRAME_HEADER.unpack(header)
        if kind != form.START or length > START_BYTES_MAX:
            return None
        body = file.read_at(form.HEADER_BYTES + form.CHECKED_OFFSET, 8 + length)
    finally:
        file.close()
    if len(body) < 8 + length or crc32(body) != checksum:
        return None
    try:
        content = json.loads(body[8:])
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


STORE_WAIT_S = 900.0
"""How long after the end of a run an object store that does not answer is waited for, while the server does."""
FOREGROUND_STORE_WAIT_S = 60.0
"""Longest such wait of `runyard sync`."""


def keep_days(start: Mapping[str, Any] | None) -> float:
    """Returns for how many days a run's START asks to keep what is durable; 0: not at all."""
    try:
        return float((start or {}).get("keep_days") or 0)
    except (TypeError, ValueError):
        return 0.0


def store_wait_s(start: Mapping[str, Any] | None, *, is_foreground: bool) -> float:
    """Returns for how long after its end a run's START asks to wait for an object store that does not answer."""
    try:
        wanted_s = max(0.0, float((start or {}).get("store_wait_s", STORE_WAIT_S)))
    except (TypeError, ValueError):
        wanted_s = STORE_WAIT_S
    return min(wanted_s, FOREGROUND_STORE_WAIT_S) if is_foreground else wanted_s


def header_sequence(content: bytes) -> int | None:
    """Returns the sequence of a segment's first frame, from its header; None if it is no header."""
    if len(content) < form.HEADER_BYTES:
        return None
    magic, version, header_bytes, first_sequence, _ = form.HEADER.unpack_from(content)
    is_ours = magic == form.MAGIC and version == form.VERSION and header_bytes == form.HEADER_BYTES
    return int(first_sequence) if is_ours and first_sequence > 0 else None
