"""What a run's processes print: numbered lines, on their way from a batch to the store and back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

LINE_MAX = 1 << 40
LINE_BYTES_MAX = 64 * 1024


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
