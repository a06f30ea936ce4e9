"""Sizes, counts, ages and tables as people read them."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Sequence
from typing import TextIO

BAR_LENGTH = 24
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def bytes_text(size_bytes: float) -> str:
    """Returns a size in the largest unit of which there is at least one: "1.5 MiB"."""
    unit = 0
    while abs(size_bytes) >= 1024 and unit < len(_UNITS) - 1:
        size_bytes /= 1024
        unit += 1
    digits = 0 if unit == 0 or size_bytes >= 100 else 1
    return f"{size_bytes:,.{digits}f} {_UNITS[unit]}"


def bar_text(done: float, total: float, stream: TextIO | None) -> str:
    """Returns a bar of how much is done and its share, drawn with what the stream can write: "██░░  50 %"."""
    share = min(1.0, done / total) if total else 1.0
    encoding = (getattr(stream, "encoding", None) or "").lower()
    full, empty = "█░" if encoding.startswith("utf") else "#."
    filled = int(share * BAR_LENGTH)
    return f"{full * filled}{empty * (BAR_LENGTH - filled)} {int(share * 100):>3} %"


def count_text(count: int, noun: str) -> str:
    """Returns "1 record", "2,000 records"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def age_text(seconds: float) -> str:
    """Returns a span in its largest whole unit: "3 min"."""
    for unit, size_s in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size_s:
            return f"{int(seconds // size_s)} {unit}"
    return f"{max(0, int(seconds))} s"


def iso_time(time_s: float | None) -> str | None:
    """Returns the time as ISO 8601 in UTC."""
    if time_s is None:
        return None
    moment = datetime.datetime.fromtimestamp(time_s, datetime.timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def table_lines(rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> list[str]:
    """Returns the rows, of which the first is the head, as lines of aligned columns; those in `right` end flush."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]
