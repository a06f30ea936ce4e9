"""Writes on to where a stream went before it was taken, in a thread of its own: a slow terminal does not keep lines from the journal."""

from __future__ import annotations

import os
import threading
from collections import deque

PENDING_BYTES_MAX = 1 << 20
"""With more than this unwritten, no more of the stream is read: whoever prints waits, as without us."""


class Echo:
    """One terminal, pipe or file. What it refuses (it was closed, the disk is full) is passed over."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._chunks: deque[bytes] = deque()
        self._pending_bytes = 0
        self._is_closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="echo", daemon=False)
        self._thread.start()

    @property
    def is_full(self) -> bool:
        """Returns whether it is so slow that its stream must wait."""
        return self._pending_bytes > PENDING_BYTES_MAX

    def write(self, data: bytes) -> None:
        """Takes bytes; never blocks."""
        with self._changed:
            self._chunks.append(data)
            self._pending_bytes += len(data)
            self._changed.notify_all()

    def wait(self, timeout_s: float, *, pending_bytes_max: int = 0) -> bool:
        """Returns whether all but so many bytes were written within the time."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._pending_bytes <= pending_bytes_max, timeout_s
            )

    def close(self) -> None:
        """Has the thread end when all is written."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._chunks or self._is_closing)
                if not self._chunks:
                    return
                data = b"".join(self._chunks) if len(self._chunks) > 1 else self._chunks[0]
                self._chunks.clear()
            self._write(data)
            with self._changed:
                self._pending_bytes -= len(data)
                self._changed.notify_all()

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._file, view) :]
            except OSError:
                return
