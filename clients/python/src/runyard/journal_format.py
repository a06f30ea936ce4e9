"""The bytes of a journal, as protos/journal.md says: what its writer and its reader share."""

from __future__ import annotations

import struct

MAGIC = b"RYJOURN1"
VERSION = 1
HEADER = struct.Struct("<8sIIQQ32x")
"""magic, version, header_bytes, first_sequence, create_unix_ns."""
HEADER_BYTES = 64
FRAME_HEADER = struct.Struct("<IIHHI")
"""length, crc32, kind, flags, schema."""
FRAME_HEADER_BYTES = 16
CHECKED_OFFSET = 8
"""The checksum covers a frame from here to the end of its payload."""
ROW_HEAD = struct.Struct("<qq")
"""step, time_unix_ns; the values follow."""
CONSOLE_HEAD = struct.Struct("<QqII")
"""first_line, time_unix_ns, stream, line_count; the lines follow, joined by newlines."""
RUN_JOURNAL, CONSOLE_JOURNAL, SYSTEM_JOURNAL = "journal", "console", "system"
"""Folders of the journals of a run: what the training process logs, what it prints, what the agent samples."""
SIDE_JOURNALS = (CONSOLE_JOURNAL, SYSTEM_JOURNAL)
JOURNAL_FOLDERS = (RUN_JOURNAL, *SIDE_JOURNALS)

START = 1
SCHEMA = 2
ROW = 3
CHANGE = 4
FILE = 5
FINISH = 6
RESUMED_STEP = 7
CONSOLE = 8
MEDIA = 9
ARTIFACT = 10
STOP_TOLD = 0x8001
KIND_NAMES = {
    START: "START",
    SCHEMA: "SCHEMA",
    ROW: "ROW",
    CHANGE: "CHANGE",
    FILE: "FILE",
    FINISH: "FINISH",
    RESUMED_STEP: "RESUMED_STEP",
    CONSOLE: "CONSOLE",
    MEDIA: "MEDIA",
    ARTIFACT: "ARTIFACT",
    STOP_TOLD: "STOP_TOLD",
}
SKIPPABLE = 0x8000
"""A reader that does not know a kind with this bit may pass over the frame."""

STEP_MIN = -(2**63)
STEP_MAX = 2**63 - 1
METRIC_NAME_BYTES_MAX = 512

assert HEADER.size == HEADER_BYTES
assert FRAME_HEADER.size == FRAME_HEADER_BYTES


def padded(length: int) -> int:
    """Returns the length rounded up to the next multiple of 8."""
    return (length + 7) & ~7


def segment_name(number: int) -> str:
    """Returns the file name of the n-th segment, from 1."""
    return f"{number:08d}.seg"
