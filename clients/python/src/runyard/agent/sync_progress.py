"""What `runyard sync` shows while it works: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from runyard.agent.retry import Reach
from runyard.agent.sync_job import Job
from runyard.settings import is_terminal_plain
from runyard.text_format import age_text, bar_text, bytes_text

PREFIX = "runyard: "
DRAW_INTERVAL_S = 0.2
LINE_INTERVAL_S = 10.0
"""Pause between two lines where no terminal is."""
RATE_SPAN_S = 5.0


class Progress:
    """Writes on stderr. `jobs` is read, never changed."""

    def __init__(self, jobs: Mapping[Path, Job], *, is_quiet: bool) -> None:
        self.total_is_known = False
        """Whether all runs that are to be sent are among the jobs."""
        self._jobs = jobs
        self._is_quiet = is_quiet
        self._is_bar = not is_quiet and sys.stderr.isatty() and not is_terminal_plain()
        self._is_bar_shown = False
        self._line_time_s = time.monotonic() + LINE_INTERVAL_S
        self._samples: deque[tuple[float, int]] = deque()
        self._reach_text = ""
        self._last_line = ""

    async def run(self) -> None:
        """Draws until it is cancelled."""
        while True:
            await asyncio.sleep(DRAW_INTERVAL_S)
            self.show()

    def show(self) -> None:
        """Draws the bar anew, or writes a line if it is time."""
        if self._is_quiet:
            return
        now_s = time.monotonic()
        self._sample(now_s)
        if self._is_bar:
            columns = shutil.get_terminal_size().columns
            text = f"{PREFIX}{self._bar()} {self.text()}"
            sys.stderr.write("\r\x1b[K" + text[: max(20, columns - 1)])
            sys.stderr.flush()
            self._is_bar_shown = True
        elif now_s >= self._line_time_s:
            self._line_time_s = now_s + LINE_INTERVAL_S
            line = self.text()
            if line != self._last_line:
                self._last_line = line
                self.say(line)

    def say(self, text: str) -> None:
        """Writes a line, above the bar."""
        if self._is_quiet:
            return
        self.clear()
        sys.stderr.write(f"{PREFIX}{text}\n")
        sys.stderr.flush()

    def clear(self) -> None:
        """Takes the bar away."""
        if self._is_bar_shown:
            sys.stderr.write("\r\x1b[K")
            self._is_bar_shown = False

    def tell_reach(self, reach: Reach) -> None:
        """Says once that the server does not answer, and once that it does again."""
        text = "" if reach.is_reachable else reach.message or "the server does not answer"
        if text and not self._reach_text:
            self.say(f"{text}; it is tried again")
        elif self._reach_text and not text:
            self.say("the server answers again")
        self._reach_text = text

    def text(self) -> str:
        """Returns how far it is: records, bytes, rate, time left, runs."""
        jobs = self._sent_jobs()
        done, total = self._bytes(jobs)
        durable = sum(job.records_durable for job in jobs)
        written = sum(job.records_written for job in jobs)
        rate = self._rate()
        words = [
            f"{durable:,} of {written:,} records",
            f"{bytes_text(done)} of {bytes_text(total)}",
            f"{bytes_text(rate)}/s",
        ]
        if self.total_is_known and rate > 0 and total > done:
            words.append(f"{age_text((total - done) / rate)} left")
        files_total = sum(job.files_total for job in jobs)
        if files_total:
            words.append(f"{sum(job.files_durable for job in jobs):,} of {files_total:,} files")
        words.append(f"{sum(1 for job in jobs if job.outcome)} of {len(jobs)} runs")
        if self._reach_text:
            words.append("the server does not answer")
        return ", ".join(words)

    def _sent_jobs(self) -> list[Job]:
        return [job for job in self._jobs.values() if not job.was_complete]

    def _bytes(self, jobs: list[Job]) -> tuple[int, int]:
        done = sum(job.bytes_done + job.file_bytes_done for job in jobs)
        return done, sum(job.bytes_total + job.file_bytes_total for job in jobs)

    def _bar(self) -> str:
        done, total = self._bytes(self._sent_jobs())
        return bar_text(done, total, sys.stderr)

    def _sample(self, now_s: float) -> None:
        done, _ = self._bytes(self._sent_jobs())
        self._samples.append((now_s, done))
        while len(self._samples) > 2 and now_s - self._samples[0][0] > RATE_SPAN_S:
            self._samples.popleft()

    def _rate(self) -> float:
        if len(self._samples) < 2:
            return 0.0
        (first_s, first), (last_s, last) = self._samples[0], self._samples[-1]
        return max(0, last - first) / (last_s - first_s) if last_s > first_s else 0.0
