"""Takes what Python prints where descriptors cannot be taken: notebooks, whose output goes to no descriptor, and Windows."""

from __future__ import annotations

import sys
import threading
from typing import Any, Callable

from runyard.console.lines import LOGGED, STDERR, STDOUT
from runyard.console.recorder import ConsoleRecorder


class WriteCapture:
    """`sys.stdout.write` and `sys.stderr.write`, listened to; see capture.Capture. The recorder is in this process."""

    def __init__(
        self,
        recorder: ConsoleRecorder,
        *,
        on_trouble: Callable[[str], None],
        takes_prints: bool = True,
    ) -> None:
        """`takes_prints=False`: only what `keep_line` is given is kept."""
        self.takes_prints = takes_prints
        self._recorder = recorder
        self._on_trouble = on_trouble
        self._lock = threading.RLock()
        self._is_over = False
        self._is_busy = threading.local()
        self._wrapped: list[tuple[Any, Any, Any]] = []
        """Files, what was put in the place of their `write`, and what was there."""
        if takes_prints:
            for stream, name in ((STDOUT, "stdout"), (STDERR, "stderr")):
                self._wrap(stream, getattr(sys, name))

    def keep_line(self, line: bytes) -> None:
        """Keeps a line, or several, that end with a newline, without showing it."""
        self._take(LOGGED, line.decode("utf-8", "replace"))

    def tick(self) -> None:
        """Keeps unfinished lines."""
        with self._lock:
            if not self._is_over:
                self._recorder.tick()

    def stop(self) -> None:
        """Listens no longer, and ends the journal."""
        with self._lock:
            if self._is_over:
                return
            self._is_over = True
            for file, write, original in self._wrapped:
                if (
                    getattr(file, "write", None) is write
                ):  # else somebody wrapped it again, and goes on passing through
                    file.write = original
            self._recorder.close()

    def leave(self) -> None:
        """Ends the journal: nobody does so after this process."""
        self.stop()

    def abandon(self) -> None:
        """Lets go of the journal, which is the parent's."""
        self._lock = threading.RLock()  # another thread of the parent may have held it
        self._is_over = True
        self._recorder.abandon()

    def _wrap(self, stream: int, file: Any) -> None:
        original = getattr(file, "write", None)
        if original is None:
            return

        def write(text: Any, *arguments: Any, **named: Any) -> Any:
            written = original(text, *arguments, **named)
            self._take(stream, text)
            return written

        try:
            file.write = write
        except (AttributeError, TypeError):  # an object that cannot be listened to
            return
        self._wrapped.append((file, write, original))

    def _take(self, stream: int, text: Any) -> None:
        if getattr(self._is_busy, "value", False) or not isinstance(text, str):
            return
        self._is_busy.value = True
        try:
            with self._lock:
                if not self._is_over:
                    self._recorder.take(stream, text.encode("utf-8", "replace"))
        except (
            Exception
        ) as error:  # the SDK's edge: whoever prints is not to suffer from a bug of ours
            self._is_over = True
            self._on_trouble(f"what this run prints is not kept any longer: a bug ({error!r})")
        finally:
            self._is_busy.value = False
