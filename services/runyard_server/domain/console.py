"""What a run's processes print: numbered lines, on their way from a batch to the store and back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from runyard_server.domain.run import RunKey

LINE_MAX = 1 << 40
LINE_BYTES_MAX = 64 * 1024
ESCAPES: Final = r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-~]?"
"""ANSI escape sequences: colours, titles, what is broken off. Read by RE2 and Python alike; ClickHouse's schema has a copy."""
_ESCAPES: Final = re.compile(ESCAPES)


class ConsoleStream(IntEnum):
    """Where a line was printed; values are those of ingest.v1.ConsoleStream, and are stored."""

    STDOUT = 1
    STDERR = 2
    NOTE = 3


@dataclass(frozen=True, slots=True)
class ConsoleBlock:
    """Lines first_line, first_line + 1 …, joined by newlines; see ingest.v1.ConsoleBlock."""

    sequence: int
    first_line: int
    line_count: int
    stream: int
    time_unix_ns: int
    text: bytes
    """UTF-8."""


@dataclass(frozen=True, slots=True)
class PrintedRun:
    """A run into which lines came, and the latest block that brought some."""

    run_key: RunKey
    last_block: int


@dataclass(frozen=True, slots=True)
class ConsoleArchive:
    """The object that holds all lines of a writer, as they were when it was made."""

    writer: int
    object_key: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ArchiveCheck:
    """How far the archive of a writer was compared with the lines in the store."""

    last_line: int
    missing_count: int
    """Lines up to that one that the archive lacks, or has otherwise."""
    has_more: bool


def without_escapes(text: str) -> str:
    """Returns the text without colours and other escape sequences: what searches look at."""
    return _ESCAPES.sub("", text) if "\x1b" in text else text
