"""What finish() shows while it waits: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
from collections import deque

from runyard.run_folder import Mark
from runyard.terminal import Terminal
from runyard.text_format import age_text, bar_text, bytes_text

FIRST_S = 0.5
"""Nothing is shown of a wait that is shorter."""
INTERVAL_S = 0.1
LINE_INTERVAL_S = 10.0
"""Pause between two lines where no terminal is."""
RATE_SPAN_S = 5.0
STALL_S = 15.0
"""Files of which no byte moves for so long are not on their way."""


class FinishProgress:
    """Follows the mark of a run that ends."""

    def __init__(self, terminal: Terminal, records_written: int, *, start_s: float) -> None:
        self._terminal = terminal
        self._records_written = records_written
        self._next_time_s = start_s + FIRST_S
        self._line_time_s = start_s + LINE_INTERVAL_S
        self._samples: deque[tuple[float, int]] = deque()
        self._moved_time_s = start_s - STALL_S
        self._bytes_done = 0
        self._artifacts_done = (0, 0)

    def are_files_moving(self, now_s: float) -> bool:
        """Returns whether bytes of files or artifacts have been sent a moment ago: the wait is worth going on."""
        return now_s - self._moved_time_s < STALL_S

    def look(self, mark: Mark | None, now_s: float) -> None:
        """Takes note of how far the agent is, and shows it if it is time."""
        if mark is not None and mark.file_bytes_done != self._bytes_done:
            self._bytes_done, self._moved_time_s = mark.file_bytes_done, now_s
        if mark is not None:
            done = (mark.artifact_entries_done, mark.artifact_bytes_sent)
            if done != self._artifacts_done:
                self._artifacts_done, self._moved_time_s = done, now_s
        if now_s < self._next_time_s:
            return
        self._next_time_s = now_s + INTERVAL_S
        self._sample(now_s)
        text = self.text(mark or Mark())
        self._terminal.progress(text)
        if now_s >= self._line_time_s and not self._terminal.is_coloured:
            self._line_time_s = now_s + LINE_INTERVAL_S
            self._terminal.line(text)

    def text(self, mark: Mark) -> str:
        """Returns how far it is: files if some are on their way, else records."""
        records = f"{mark.durable_sequence:,} of {self._records_written:,} records durable"
        settled = mark.files_settled
        if not mark.files_total or settled >= mark.files_total:
            return artifacts_text(mark) or f"{records} …"
        done, total, rate = mark.file_bytes_done, mark.file_bytes_total, self._rate()
        words = [
            f"{settled:,} of {mark.files_total:,} files",
            f"{bytes_text(done)} of {bytes_text(total)}",
        ]
        if rate > 0:
            words.append(f"{bytes_text(rate)}/s")
            words.append(f"{age_text((total - done) / rate)} left")
        if mark.durable_sequence < self._records_written - 1:  # FINISH comes after the files
            words.append(records)
        bar = f"{bar_text(done, total, sys.stderr)} " if self._terminal.is_coloured else ""
        return f"{bar}uploading {', '.join(words)}"

    def _sample(self, now_s: float) -> None:
        self._samples.append((now_s, self._bytes_done))
        while len(self._samples) > 2 and now_s - self._samples[0][0] > RATE_SPAN_S:
            self._samples.popleft()

    def _rate(self) -> float:
        if len(self._samples) < 2:
            return 0.0
        (first_s, first), (last_s, last) = self._samples[0], self._samples[-1]
        return max(0, last - first) / (last_s - first_s) if last_s > first_s else 0.0


def artifacts_text(mark: Mark) -> str:
    """Returns how far the artifacts of the run are; "" if none are on their way."""
    settled = mark.artifacts_durable + mark.artifacts_failed
    if settled >= mark.artifacts_total:
        return ""
    entries = f"{mark.artifact_entries_done:,} of {mark.artifact_entries_total:,} entries"
    sent = f", {bytes_text(mark.artifact_bytes_sent)} sent" if mark.artifact_bytes_sent else ""
    return f"sending artifacts: {settled:,} of {mark.artifacts_total:,}, {entries}{sent}"
