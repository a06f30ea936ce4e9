"""Writes on to where a stream went before it was taken, in a thread of its own: a slow terminal does not keep lines from the journal."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from typing import Callable

from runyard.text_format import bytes_text

PENDING_BYTES_MAX = 1 << 20
"""With more than this unwritten, no more of the stream is read: whoever prints waits, as without us …"""
STUCK_S = 5.0
"""… but if nothing at all goes out for so long, what comes is not shown: nobody is there, and training must go on."""
WRITE_BYTES_MAX = 16 << 10


class Echo:
    """One terminal, pipe or file. What it refuses (it was closed, the disk is full) is passed over."""

    def __init__(self, file: int, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.file = file
        self._monotonic = monotonic
        self._chunks: deque[bytes] = deque()
        self._pending_bytes = 0
        self._hidden_bytes = 0
        self._progress_time_s = monotonic()
        self._changed = threading.Condition()
        # A daemon: a terminal that nobody reads any more must not keep the keeper for ever.
        self._thread = threading.Thread(target=self._run, name="echo", daemon=True)
        self._thread.start()

    @property
    def is_full(self) -> bool:
        """Returns whether it is so slow that its stream must wait."""
        return self._pending_bytes > PENDING_BYTES_MAX and not self._is_stuck

    def write(self, data: bytes) -> None:
        """Takes bytes; never blocks."""
        with self._changed:
            if self._pending_bytes > PENDING_BYTES_MAX and self._is_stuck:
                self._hidden_bytes += len(data)
                return
            if self._hidden_bytes:
                hidden, self._hidden_bytes = bytes_text(self._hidden_bytes), 0
                note = f"\nrunyard: {hidden} are not shown here, as nothing could be written for {STUCK_S:.0f} s\n"
                data = note.encode() + data
            if not self._pending_bytes:
                self._progress_time_s = self._monotonic()
            self._chunks.append(data)
            self._pending_bytes += len(data)
            self._changed.notify_all()

    def wait(self, timeout_s: float, *, pending_bytes_max: int = 0) -> bool:
        """Returns whether all but so many bytes were written within the time."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._pending_bytes <= pending_bytes_max, timeout_s
            )

    @property
    def _is_stuck(self) -> bool:
        return self._monotonic() - self._progress_time_s > STUCK_S

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._chunks))
                data = self._chunks.popleft()
            self._write(data)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                written = os.write(self.file, view[:WRITE_BYTES_MAX])
            except OSError:
                written = len(view)
            view = view[written:]
            with self._changed:
                self._pending_bytes -= written
                self._progress_time_s = self._monotonic()
                self._changed.notify_all()
