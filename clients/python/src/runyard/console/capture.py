"""Takes stdout and stderr of this process at their descriptors, its C extensions and children included, and gives them back.

Each stream gets a pipe, or a pair of terminals where it went to a terminal, so that what asks for one (colours, progress
bars) still finds one. The keeper reads; see there. This process keeps the reading ends open too: if the keeper dies,
nobody is told of a broken pipe, and another one goes on.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable, Protocol

from runyard.console import handover
from runyard.console.lines import LOGGED, STDERR, STDOUT

try:
    import fcntl
    import pty
    import termios
    import tty
except ImportError:  # Windows
    fcntl = pty = termios = tty = None  # type: ignore[assignment]  # absent there

PIPE_BYTES = 1 << 20
"""Most that may be printed at once by code that gives way to nobody."""
STOP_TIMEOUT_S = 5.0
"""Longest wait at the end for a keeper that is busy, or whose terminal is slow."""
LEAVE_TIMEOUT_S = 1.0
"""The same for a process that a signal ends."""
RESTART_COUNT_MAX = 5
HIDDEN_WAIT_S = 0.2
"""Longest wait for room for a line that is kept and not shown."""
LEAVE_WAIT_S = 0.2
"""Longest wait for a keeper that has nothing more to read; one whose children go on printing is left alone."""
_F_SETPIPE_SZ = 1031


_lingering: list[subprocess.Popen[bytes]] = []
"""Keepers of runs that have ended, and which children of this process keep busy; kept so that they are reaped."""


class Capture(Protocol):
    """What the run's handle needs of whatever takes its console."""

    takes_prints: bool
    """Whether what is printed is taken."""

    def keep_line(self, line: bytes) -> None:
        """Keeps a line, or several, that end with a newline, without showing it; safe from any thread."""

    def tick(self) -> None:
        """Looks after it; called a few times a second."""

    def stop(self) -> None:
        """Returns when all that was printed is kept and shown, or a few seconds have passed; nothing is taken any more."""

    def leave(self) -> None:
        """Does the same in a second at most: a signal is about to end the process."""

    def abandon(self) -> None:
        """Lets go in a forked child: what it prints is still its parent's run's."""


class _Stream:
    """One descriptor that was taken."""

    def __init__(self, stream: int, number: int) -> None:
        self.stream = stream
        self.number = number
        self.is_terminal = os.isatty(number)
        self.before = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3)
        """Where it went."""
        if self.is_terminal:
            self.reading, writing = pty.openpty()
            tty.setraw(writing)
            self.size = b""
            self.copy_size()
        else:
            self.reading, writing = os.pipe()
            _widen(writing)
        os.set_inheritable(self.reading, False)
        # Before anybody can print there, so that nobody is refused whose child is faster than the keeper.
        self.listener = handover.listen(writing)
        os.dup2(writing, number, inheritable=True)
        os.close(writing)

    def copy_size(self) -> None:
        """Gives the terminal that programs see the size of the real one."""
        if not self.is_terminal:
            return
        try:
            size = fcntl.ioctl(self.before, termios.TIOCGWINSZ, bytes(8))
            if size != self.size:
                self.size = size
                fcntl.ioctl(self.reading, termios.TIOCSWINSZ, size)
        except OSError:
            return  # it was closed

    def give_back(self) -> None:
        """Has the stream go where it went before."""
        os.dup2(self.before, self.number, inheritable=True)

    def close(self) -> None:
        if self.listener is not None:
            self.listener.close()
        for file in (self.before, self.reading):
            os.close(file)


class _Hidden:
    """A pipe for lines that are kept and shown nowhere, beside the streams."""

    stream = LOGGED
    listener = None

    def __init__(self) -> None:
        self.before = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        self.reading, self.number = os.pipe()
        os.set_blocking(self.number, False)
        _widen(self.number)
        self._is_torn = False
        """Whether the beginning of a line was written whose end had no room."""
        self._lock = threading.Lock()

    def write(self, line: bytes) -> None:
        """Writes a line for which there is room within a moment; the script does not wait longer."""
        with self._lock:
            view = memoryview(b"\n" + line if self._is_torn else line)
            end_s = time.monotonic() + HIDDEN_WAIT_S
            try:
                while view and self.number >= 0:
                    if select.select([], [self.number], [], max(0.0, end_s - time.monotonic()))[1]:
                        view = view[os.write(self.number, view[: select.PIPE_BUF]) :]
                        self._is_torn = bool(view)
                    else:
                        return
            except (OSError, ValueError):
                return

    def abandon(self) -> None:
        """Takes a lock of its own: in a forked child, where another thread may have held the old one for ever."""
        self._lock = threading.Lock()

    def copy_size(self) -> None:
        """Has no size."""

    def give_back(self) -> None:
        """Takes no more lines."""
        with self._lock:
            if self.number >= 0:
                os.close(self.number)
                self.number = -1

    def close(self) -> None:
        for file in (self.before, self.reading):
            os.close(file)


class DescriptorCapture:
    """Descriptors 1 and 2, taken; see Capture."""

    takes_prints = True

    def __init__(
        self,
        folder: Path,
        *,
        environ: Mapping[str, str],
        bytes_per_s_max: int,
        is_redacting: bool,
        journal_bytes_max: int,
        on_trouble: Callable[[str], None],
    ) -> None:
        """Takes the streams. Raises OSError where that cannot be; then nothing is changed.

        `on_trouble` is told, once, if what is printed cannot be kept any longer.
        """
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._environ = environ
        self._orders: dict[str, Any] = {
            "folder": str(folder),
            "bytes_per_s_max": bytes_per_s_max,
            "is_redacting": is_redacting,
            "journal_bytes_max": journal_bytes_max,
            "parent": os.getpid(),
        }
        self._streams: list[_Stream | _Hidden] = []
        self._hidden: _Hidden | None = None
        self._keeper: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._restart_count = 0
        self._on_trouble = on_trouble
        # `tick` comes from the journal's thread; a signal may come while the main thread is within `stop`.
        self._lock = threading.RLock()
        self._is_stopping = False
        self._is_over = False
        _flush()
        _reap(0)
        try:
            for stream, number in ((STDOUT, 1), (STDERR, 2)):
                if _is_open(number):
                    self._streams.append(_Stream(stream, number))
            self._hidden = _Hidden()
            self._streams.append(self._hidden)
            self._start_keeper()
        except BaseException:
            self._give_back()
            raise
        _buffer_by_line()

    def tick(self) -> None:
        """Starts another keeper if it died; follows the size of the terminal."""
        with self._lock:
            if self._is_over or self._is_stopping:
                return
            for one in self._streams:
                one.copy_size()
            if self._keeper is None or self._keeper.poll() is None:
                return
            self._restart_count += 1
            try:
                if self._restart_count > RESTART_COUNT_MAX:
                    raise OSError("what reads it dies again and again")
                self._start_keeper()
            except OSError as error:
                self._give_back()
                self._on_trouble(f"what this run prints is not kept any longer: {error}")

    def keep_line(self, line: bytes) -> None:
        """Hands a line to the keeper; one that comes faster than it reads is dropped."""
        if self._hidden is not None:
            self._hidden.write(line)

    def stop(self) -> None:
        """Gives the streams back when all that was printed is kept and shown."""
        _flush()
        self._stop(STOP_TIMEOUT_S)

    def leave(self) -> None:
        """Has the keeper end its journal now: the process may wait, before it dies, until the server knows of its end."""
        self._stop(LEAVE_TIMEOUT_S)

    def _stop(self, timeout_s: float) -> None:
        with self._lock:
            if self._is_over or self._is_stopping:
                return
            self._is_stopping = True
            self._drain(timeout_s)
            self._give_back()

    def _drain(self, timeout_s: float) -> None:
        """Returns when the keeper has seen all that this process printed, or the time is up; the streams are given back."""
        mark = f"\x1b]runyard;{secrets.token_hex(8)}\x07".encode()
        end_s = time.monotonic() + timeout_s
        is_ready = self._ask(mark) and self._answer(b"r", end_s)
        if is_ready:
            for one in self._streams:
                _write_within(one.number, mark, end_s)
        for one in self._streams:
            one.give_back()
        if is_ready:
            self._answer(b"d", end_s)

    def abandon(self) -> None:
        """Closes what only the parent needs; descriptors 1 and 2 stay as they are."""
        self._is_over = True
        if self._control is not None:
            self._control.close()
        for one in self._streams:
            one.close()
        if self._hidden is not None:
            self._hidden.abandon()

    def _start_keeper(self) -> None:
        ours, theirs = socket.socketpair()
        streams = [
            [
                one.stream,
                one.reading,
                one.before,
                -1 if one.listener is None else one.listener.fileno(),
            ]
            for one in self._streams
        ]
        files = [theirs.fileno()]
        files += [file for one in streams for file in one[1:] if file >= 0]
        self._orders["control"] = theirs.fileno()
        self._orders["streams"] = streams
        command = [sys.executable or "python3", "-m", "runyard.console.keeper", json.dumps(self._orders)]  # fmt: skip
        try:
            with (self._folder.parent / "logs" / "console.log").open("ab") as log:
                self._keeper = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self._folder,  # no module beside the script may stand in for a library's
                    env=dict(self._environ),
                    pass_fds=files,
                    start_new_session=True,
                )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        if self._control is not None:
            self._control.close()
        self._control = ours

    def _ask(self, mark: bytes) -> bool:
        assert self._control is not None
        try:
            self._control.sendall(mark)
        except OSError:
            return False
        return True

    def _answer(self, word: bytes, end_s: float) -> bool:
        assert self._control is not None
        self._control.settimeout(max(0.01, end_s - time.monotonic()))
        try:
            return self._control.recv(1) == word
        except OSError:  # it is dead, or has no time
            return False

    def _give_back(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        if self._control is not None:
            self._control.close()
        for one in self._streams:
            one.give_back()
            if self._keeper is None or self._keeper.poll() is not None:
                _pour(one)
            one.close()
        if self._keeper is not None:
            _lingering.append(self._keeper)
            _reap(LEAVE_WAIT_S)


def _widen(pipe: int) -> None:
    try:
        fcntl.fcntl(pipe, _F_SETPIPE_SZ, PIPE_BYTES)
    except OSError:
        pass  # more than this user may have: what there is must do


def _reap(timeout_s: float) -> None:
    """Takes leave of keepers that have ended, or end within the time."""
    for keeper in list(_lingering):
        try:
            keeper.wait(timeout_s)
        except subprocess.TimeoutExpired:
            continue
        _lingering.remove(keeper)


def let_go() -> None:
    """Stops watching keepers, which may outlive this process: the interpreter's end need not warn of them."""
    for keeper in _lingering:
        keeper.returncode = keeper.poll() or 0


def _pour(one: _Stream | _Hidden) -> None:
    """Writes what a dead keeper left unread to where it belongs."""
    try:
        while select.select([one.reading], [], [], 0)[0]:
            data = os.read(one.reading, PIPE_BYTES)
            if not data:
                return
            os.write(one.before, data)
    except OSError:
        return


def _write_within(file: int, data: bytes, end_s: float) -> None:
    """Writes a few bytes if there is room for them in time."""
    try:
        if select.select([], [file], [], max(0.0, end_s - time.monotonic()))[1]:
            os.write(file, data)
    except (OSError, ValueError):
        return


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _flush() -> None:
    """Writes out what Python and the C library hold back."""
    for file in (sys.stdout, sys.stderr):
        try:
            file.flush()
        except (AttributeError, OSError, ValueError):
            continue
    try:
        import ctypes

        ctypes.CDLL(None).fflush(None)
    except (ImportError, OSError, AttributeError, TypeError):
        return


def _buffer_by_line() -> None:
    """Has each line leave the process when it is printed: what waits in a buffer is lost with the process."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None and not sys.stdout.line_buffering:
        reconfigure(line_buffering=True)
