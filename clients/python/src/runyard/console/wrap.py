"""Takes what Python prints where descriptors cannot be taken: notebooks, whose output goes to no descriptor, and Windows."""

from __future__ import annotations

import functools
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
        self._listeners: list[_Listener] = []
        if takes_prints:
            for stream, name in ((STDOUT, "stdout"), (STDERR, "stderr")):
                listener = _Listener(getattr(sys, name), functools.partial(self._take, stream))
                self._listeners += [listener] if listener.begin() else []

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
            for listener in self._listeners:
                listener.end()
            self._recorder.close()

    def leave(self) -> None:
        """Ends the journal: nobody does so after this process."""
        self.stop()

    def abandon(self) -> None:
        """Lets go of the journal, which is the parent's."""
        self._lock = threading.RLock()  # another thread of the parent may have held it
        self._is_over = True
        self._recorder.abandon()

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


class _Listener:
    """Hears what is written to a file, whichever `write` it has.

    IPython sets a `write` of its own in its streams for each cell, and afterwards the one that was there before. So what
    listens is a property of the file's class, which for this one file is a subclass. The class of objects of C cannot be
    another: there it is an attribute of the object.
    """

    def __init__(self, file: Any, hear: Callable[[Any], None]) -> None:
        self.is_over = False
        self.hear = hear
        self.inside = threading.local()
        self._file = file
        self._kind: Any = type(file)
        self._watched: type | None = None
        self._write: Any = None

    def begin(self) -> bool:
        """Returns whether it can be listened to."""
        if getattr(self._file, "write", None) is None:
            return False
        self._set(self._file.write)
        try:
            self._watch_class()
        except TypeError:
            try:
                self._file.write = self._write
            except (AttributeError, TypeError):
                return False
        return True

    def end(self) -> None:
        """Leaves the file as if nobody had listened, unless somebody put something over it, which goes on passing through."""
        self.is_over = True
        inner = self._write.inner
        if self._watched is None:
            is_ours = getattr(self._file, "write", None) is self._write
        else:
            is_ours = type(self._file) is self._watched
            if is_ours:
                self._file.__class__ = self._kind
        is_class_own = getattr(inner, "__self__", None) is self._file
        if is_ours and not (is_class_own and self._watched is not None):
            self._file.write = inner

    def _set(self, write: Any) -> None:
        while isinstance(write, _Write) and (write.listener.is_over or write.listener is self):
            write = write.inner
        self._write = _Write(write, self)

    def _watch_class(self) -> None:
        """Raises TypeError if the file's class cannot be another."""
        written = property(
            lambda file: self._write,
            lambda file, write: self._set(write),
            lambda file: self._set(self._kind.write.__get__(file)),
        )
        names = {"write": written, "__slots__": (), "__module__": self._kind.__module__}
        watched = type(self._kind.__name__, (self._kind,), names)
        self._file.__class__ = watched
        self._watched = watched
        vars(self._file).pop("write", None)


class _Write:
    """A `write` that also tells what was written: once, however many lie over each other."""

    def __init__(self, inner: Any, listener: _Listener) -> None:
        self.inner = inner
        self.listener = listener

    def __call__(self, text: Any, *arguments: Any, **named: Any) -> Any:
        listener = self.listener
        if listener.is_over or getattr(listener.inside, "value", False):
            return self.inner(text, *arguments, **named)
        listener.inside.value = True
        try:
            written = self.inner(text, *arguments, **named)
        finally:
            listener.inside.value = False
        listener.hear(text)
        return written
