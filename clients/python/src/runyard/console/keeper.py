"""The keeper: the process that reads what a training process and its children print, passes it on, and keeps it.

It outlives the training process by a moment, so that the last words of one that was killed are kept and shown too. It is
a process because no thread of the training process can be relied on: a C extension that prints without giving way to
other threads would wait for ever for its reader.

    training process, its children            keeper                          where it went before
      fd 1 ── pipe or terminal pair ──► reads ─┬─► echo thread ─────────────► terminal, file or pipe
      fd 2 ── pipe or terminal pair ──► reads ─┤
                                               └─► lines ─► journal `console` ─► agent
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runyard.console import handover
from runyard.console.echo import PENDING_BYTES_MAX, Echo
from runyard.console.recorder import ConsoleRecorder
from runyard.journal_room import JournalRoom
from runyard.settings import launcher_environment

try:
    import fcntl
except ImportError:  # Windows: there nothing is taken at descriptors
    fcntl = None  # type: ignore[assignment]  # the module is absent there

LOCK_NAME = "keeper.lock"
READ_BYTES_MAX = 1 << 20
TICK_S = 0.25
END_WAIT_S = 3.0
"""Longest wait for the marks that end the streams."""
LINGER_S = 60.0
"""Longest wait for a terminal that is slow, when all is kept and nobody prints any more."""
ECHO_WAIT_S = 2.0
"""Longest wait at the end for a terminal that is slow."""
IGNORED_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGPIPE", "SIGTTOU", "SIGTSTP")
"""They are meant for the training process: its last words come after them."""


def main() -> None:
    """Runs a keeper as its only argument says; see `capture`."""
    for name in IGNORED_SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    Keeper(json.loads(sys.argv[1]), launcher_environment()).run()


class _Input:
    """One stream that is read."""

    def __init__(self, stream: int, file: int, echo: Echo, listener: socket.socket | None) -> None:
        self.stream = stream
        self.file = file
        self.echo = echo
        self.listener = listener
        """Where keepers of children ask for where the stream goes."""
        self.tail = b""
        """What was read last: the mark that ends the stream may lie across two chunks."""
        self.is_marked = False
        self.is_over = False


class Keeper:
    """Reads until nobody can print any more; keeps lines until the training process ends the run, or is dead."""

    def __init__(self, orders: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        folder = Path(orders["folder"])
        self._lock = _take_lock(folder / LOCK_NAME)
        self._inputs = _inputs(orders["streams"])
        self._control = int(orders["control"])
        self._parent = _open_process(int(orders["parent"]))
        self._room = JournalRoom(folder.parent.parent, int(orders["journal_bytes_max"]))
        self._recorder: ConsoleRecorder | None = ConsoleRecorder(
            folder,
            environ=environ,
            is_redacting=bool(orders["is_redacting"]),
            bytes_per_s_max=int(orders["bytes_per_s_max"]),
            room=self._room,
        )
        self._mark = b""
        self._poll = select.poll()

    def run(self) -> None:
        """Returns when all streams are over, and all is passed on."""
        self._poll.register(self._control, select.POLLIN)
        if self._parent >= 0:
            self._poll.register(self._parent, select.POLLIN)
        for one in self._inputs:
            if one.listener is not None:
                self._poll.register(one.listener, select.POLLIN)
        while not all(one.is_over for one in self._inputs):
            self._turn()
        self._end_record()
        for one in self._inputs:
            one.echo.wait(LINGER_S)

    def _turn(self) -> None:
        for one in self._inputs:
            is_wanted = not one.is_over and not one.echo.is_full
            self._set_polled(one.file, is_wanted=is_wanted)
        full = [one for one in self._inputs if not one.is_over and one.echo.is_full]
        if full:  # nothing tells poll() that there is room again
            full[0].echo.wait(TICK_S, pending_bytes_max=PENDING_BYTES_MAX // 2)
        ready = {file for file, _ in self._poll.poll(0 if full else TICK_S * 1000)}
        for one in self._inputs:
            if one.file in ready:
                self._read(one)
            if one.listener is not None and one.listener.fileno() in ready:
                handover.answer(one.listener, one.echo.file)
        if self._recorder is not None:
            self._recorder.tick()
            self._room.look()
        if self._control in ready:
            self._hear()
        if self._parent >= 0 and self._parent in ready:
            self._outlive()

    def _set_polled(self, file: int, *, is_wanted: bool) -> None:
        try:
            self._poll.unregister(file)
        except KeyError:
            pass
        if is_wanted:
            self._poll.register(file, select.POLLIN)

    def _read(self, one: _Input) -> bool:
        """Reads once; returns whether anything came."""
        try:
            data = os.read(one.file, READ_BYTES_MAX)
        except OSError:  # a terminal pair of which the other end is closed
            data = b""
        if not data:
            one.is_over = True
            return False
        if self._mark and not one.is_marked:
            data = self._without_mark(one, data)
        if data:
            one.echo.write(data)
            if self._recorder is not None:
                self._recorder.take(one.stream, data)
        return True

    def _without_mark(self, one: _Input, data: bytes) -> bytes:
        """Returns the data without the mark that ends the stream; holds back what may be its beginning."""
        data, one.tail = one.tail + data, b""
        before, mark, behind = data.partition(self._mark)
        if mark:
            one.is_marked = True
            return before + behind
        for length in range(min(len(self._mark) - 1, len(data)), 0, -1):
            if data.endswith(self._mark[:length]):
                one.tail = data[-length:]
                return data[:-length]
        return data

    def _hear(self) -> None:
        """Takes the order to end: the mark that will be written into each stream; answers twice, when ready and when done."""
        try:
            order = os.read(self._control, 4096)
        except OSError:
            order = b""
        if not order:  # the training process is gone, or has become another program
            self._poll.unregister(self._control)
            if self._parent < 0:
                self._outlive()
            return
        self._mark = order
        self._answer(b"r")
        end = select.poll()
        for _ in range(int(END_WAIT_S / 0.05)):
            waiting = [one for one in self._inputs if not (one.is_marked or one.is_over)]
            if not waiting:
                break
            for one in waiting:
                end.register(one.file, select.POLLIN)
            ready = {file for file, _ in end.poll(50)}
            for one in waiting:
                end.unregister(one.file)
                if one.file in ready and one.echo.wait(0.05, pending_bytes_max=PENDING_BYTES_MAX):
                    self._read(one)
        self._end_record()
        for one in self._inputs:
            one.echo.wait(ECHO_WAIT_S)
        self._answer(b"d")

    def _answer(self, word: bytes) -> None:
        try:
            os.write(self._control, word)
        except OSError:
            return  # nobody waits any more

    def _outlive(self) -> None:
        """Keeps what the dead training process left in the streams; what its children still print is only passed on."""
        if self._parent >= 0:
            self._poll.unregister(self._parent)
            os.close(self._parent)
            self._parent = -1
        now = select.poll()
        for one in self._inputs:
            if not one.is_over:
                now.register(one.file, select.POLLIN)
        budget = 64  # chunks: children may print without an end
        while budget > 0 and self._recorder is not None:
            ready = {file for file, _ in now.poll(20)}
            if not ready:
                break
            for one in self._inputs:
                if one.file in ready and not self._read(one):
                    now.unregister(one.file)
            budget -= 1
        self._end_record()

    def _end_record(self) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            recorder.close()
            os.close(self._lock)


def _inputs(streams: list[list[int]]) -> list[_Input]:
    """Returns the streams; those that went to one place go there through one thread, in the order of their chunks.

    What another keeper reads is passed by: a parent's run does not keep what its child's run keeps.
    """
    echoes: dict[tuple[int, int], Echo] = {}
    found = []
    for stream, file, before, listening in streams:
        target = handover.target_of(before)
        if target != before:
            os.close(before)  # else the other keeper would wait for this one
        status = os.fstat(target)
        place = (status.st_dev, status.st_ino)
        if place not in echoes:
            echoes[place] = Echo(target)
        listener = None if listening < 0 else socket.socket(fileno=listening)
        found.append(_Input(stream, file, echoes[place], listener))
    return found


def _open_process(pid: int) -> int:
    """Returns a descriptor that is readable when the process is dead; -1 where there is no such thing."""
    if not hasattr(os, "pidfd_open"):
        return -1
    try:
        return os.pidfd_open(pid)
    except OSError:
        return -1


def _take_lock(path: Path) -> int:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


if __name__ == "__main__":
    main()
