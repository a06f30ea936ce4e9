"""Keeps what is printed: chunks in, lines into the journal `console`, and a count of what came too fast to be kept."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

from runyard import journal_format as form
from runyard.console.lines import LOGGED, STDERR, Block, ConsoleLines
from runyard.console.redaction import Redaction
from runyard.journal import JournalWriter
from runyard.journal_room import JournalRoom
from runyard.journal_walk import end_of, last_line
from runyard.text_format import bytes_text

FLUSH_INTERVAL_S = 1.0
"""An unfinished line, a progress bar say, is kept at most so often."""
BURST_S = 8.0
"""So many seconds' worth of the limit may come at once."""
HELD_FRAME_COUNT_MAX = 16
"""Blocks that wait for a disk that refuses; further ones are dropped."""


class ConsoleRecorder:
    """Writes the journal of one run's console. One at a time may write it; a later one goes on where an earlier one ended."""

    def __init__(
        self,
        folder: Path,
        *,
        environ: Mapping[str, str],
        is_redacting: bool,
        bytes_per_s_max: int,
        room: JournalRoom | None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        redaction = Redaction(environ if is_redacting else {})
        goes_on_from = end_of(folder)
        self._lines = ConsoleLines(
            first_line=last_line(folder) + 1 if goes_on_from[0] else 1,
            redact=redaction.redact,
            ends_inside=redaction.ends_inside,
            secret_bytes_max=redaction.longest,
        )
        self._journal = JournalWriter(
            folder,
            room=room,
            held_frame_count_max=HELD_FRAME_COUNT_MAX,
            goes_on_from=goes_on_from,
        )
        self._monotonic = monotonic
        self._rate = bytes_per_s_max
        self._budget = BURST_S * bytes_per_s_max
        self._budget_time_s = monotonic()
        self._flush_time_s = 0.0
        self._skipped_lines, self._skipped_bytes = 0, 0
        self._lines_dropped, self._bytes_dropped = 0, 0

    @property
    def line_count(self) -> int:
        """Returns how many lines there are so far."""
        return self._lines.next_line - 1

    def take(self, stream: int, data: bytes) -> None:
        """Takes a chunk as it was written."""
        cost = self._lines.cost(stream, data)
        if not self._afford(cost):
            self._skipped_lines += data.count(b"\n")
            self._skipped_bytes += len(data)
            self._lines.skip(stream)
            return
        now_unix_ns = time.time_ns()
        self._say_skipped(now_unix_ns)
        self._write(self._lines.feed(stream, data, now_unix_ns))

    def tick(self) -> None:
        """Keeps unfinished lines that changed; called a few times a second at least."""
        now_s = self._monotonic()
        if now_s < self._flush_time_s:
            return
        self._flush_time_s = now_s + FLUSH_INTERVAL_S
        self._write(self._lines.flush(time.time_ns()))
        if self._skipped_bytes and self._afford(0):
            self._say_skipped(time.time_ns())

    def close(self) -> None:
        """Keeps what is unfinished, and ends the journal."""
        if self._journal.is_closed:
            return
        now_unix_ns = time.time_ns()
        self._say_skipped(now_unix_ns)
        self._write(self._lines.flush(now_unix_ns, is_last=True))
        fields: dict[str, Any] = {
            "line_count": self.line_count,
            "lines_dropped": self._lines_dropped,
            "bytes_dropped": self._bytes_dropped,
            "time_unix_ns": now_unix_ns,
        }
        self._journal.close((form.FINISH, json.dumps(fields).encode()))

    def abandon(self) -> None:
        """Lets go of the journal without touching it: in a forked child."""
        self._journal.abandon()

    def _afford(self, cost: int) -> bool:
        """Returns whether a chunk may be kept. After one that may not, none may until a second's worth has come together."""
        now_s = self._monotonic()
        gained = (now_s - self._budget_time_s) * self._rate
        self._budget = min(BURST_S * self._rate, self._budget + gained)
        self._budget_time_s = now_s
        if self._budget < (self._rate if self._skipped_bytes else 0):
            return False
        self._budget -= cost
        return True

    def _say_skipped(self, now_unix_ns: int) -> None:
        if not self._skipped_bytes:
            return
        text = (
            f"runyard: {self._skipped_lines:,} lines ({bytes_text(self._skipped_bytes)}) are not kept here: "
            f"they came faster than {bytes_text(self._rate)} a second (RUNYARD_CONSOLE_BYTES_PER_S_MAX)"
        )
        self._lines_dropped += self._skipped_lines
        self._bytes_dropped += self._skipped_bytes
        self._skipped_lines, self._skipped_bytes = 0, 0
        self._write(self._lines.note(text, now_unix_ns))

    def _write(self, blocks: list[Block]) -> None:
        for block in blocks:
            stream = STDERR if block.stream == LOGGED else block.stream
            head = form.CONSOLE_HEAD.pack(block.first_line, block.time_unix_ns, stream, block.count)
            self._journal.append(form.CONSOLE, head + block.text)
