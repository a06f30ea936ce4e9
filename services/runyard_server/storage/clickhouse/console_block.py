"""Lines of the console on their way into ClickHouse: blocks of text become columns, and no line a Python object."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from runyard_server.domain.points import Batch, floor_to_ms

_NEWLINE = 10


def line_rows(batches: Sequence[Batch], block_unix_ns: int) -> pa.Table | None:
    """Returns one row per line; None if there is none. `block_unix_ns` says when the block was made."""
    owned = [(batch, block) for batch in batches for block in batch.console_blocks]
    if not owned:
        return None
    blocks = [block for _, block in owned]
    counts = np.array([block.line_count for block in blocks], np.int64)
    total = int(counts.sum())
    firsts = np.array([block.first_line for block in blocks], np.uint64)
    within = np.arange(total, dtype=np.uint64)
    starts = np.repeat((np.cumsum(counts) - counts).astype(np.uint64), counts)
    times_unix_ns = np.array([block.time_unix_ns for block in blocks], np.int64)

    def per_line(values: Sequence[int], kind: type[np.generic]) -> np.ndarray:
        return np.repeat(np.array(values, kind), counts)

    return pa.table(
        {
            "run": per_line([batch.run_key for batch, _ in owned], np.uint64),
            "writer": per_line([batch.writer for batch, _ in owned], np.uint32),
            "line": np.repeat(firsts, counts) + (within - starts),
            "time": np.repeat(floor_to_ms(times_unix_ns), counts),
            "stream": per_line([block.stream for block in blocks], np.uint8),
            "text": _texts([block.text for block in blocks], total),
            "sequence": per_line([block.sequence for block in blocks], np.uint64),
            "block": np.full(total, block_unix_ns, np.uint64),
        }
    )


def writer_rows(lines: pa.Table) -> pa.Table:
    """Returns one row per writer of the lines: that it printed, and when."""
    grouped = lines.group_by(["run", "writer"]).aggregate([("block", "max")])
    return grouped.select(["run", "writer", "block_max"]).rename_columns(["run", "writer", "block"])


def _texts(texts: Sequence[bytes], count: int) -> pa.StringArray:
    """Returns the lines of the texts: their bytes without the newlines, and where each line begins."""
    content = np.frombuffer(b"\n".join(texts) + b"\n", np.uint8)
    ends = np.flatnonzero(content == _NEWLINE)
    assert ends.size == count, (ends.size, count)
    offsets = np.zeros(count + 1, np.int32)
    offsets[1:] = ends - np.arange(count)
    letters = content[content != _NEWLINE]
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(letters))
