"""Learns how the process ends: exit code, exception, signal; so that a run that nobody finished ends truthfully."""

from __future__ import annotations

import atexit
import dataclasses
import os
import signal
import sys
import threading
from collections.abc import Mapping
from types import FrameType, TracebackType
from typing import Any, Callable, NoReturn

from runyard.exception_text import exception_fields
from runyard.terminal import is_notebook

EXIT_CODE_INTERRUPTED = 130
"""What a shell sees of a program that Ctrl-C ended."""
EVIDENCE_LENGTH_MAX = 16_000
INIT_PID = 1

FINISH_CALLED = "FINISH_CALLED"
PROCESS_EXITED = "PROCESS_EXITED"
UNHANDLED_EXCEPTION = "UNHANDLED_EXCEPTION"
SIGNAL = "SIGNAL"
USER_REQUEST = "USER_REQUEST"
PREEMPTED = "PREEMPTED"

_ENDING_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


@dataclasses.dataclass(frozen=True)
class End:
    """How a run ends; `cause` is a TransitionCause."""

    exit_code: int
    cause: str
    evidence: str = ""
    exception: Mapping[str, str] | None = None
    """`type`, `message` and `traceback` of the exception that nobody handled."""
    signal: int = 0
    """The signal that ended the process, where one did."""
    is_of_kernel: bool = False
    """Whether a Jupyter kernel was shut down: whoever did that kills what takes longer to end, after a few seconds."""


class ExitHooks:
    """Watches sys.exit, sys.excepthook, SIGTERM, SIGHUP and atexit, and passes everything on to who was there before.

    `on_exit` is called when the interpreter ends, `on_terminate` on a signal that ends the process, in the main thread.
    """

    def __init__(self, on_exit: Callable[[], None], on_terminate: Callable[[], bool]) -> None:
        self.end = End(0, PROCESS_EXITED)
        self.is_interrupt_wanted = False
        """Set before a SIGTERM that shall interrupt the main thread as Ctrl-C does, where SIGINT is ignored."""
        self._on_exit = on_exit
        self._on_terminate = on_terminate
        self._is_installed = False
        self._is_exit_registered = False
        self._is_exit_called = False
        self._exit: Any = None
        self._excepthook: Any = None
        self._quitter_call: Any = None
        self._handlers: dict[int, Any] = {}

    def install(self) -> None:
        """Puts the hooks in place; a repeat does nothing."""
        if self._is_installed:
            return
        self._is_installed = True
        self.forget()  # an exit that was caught while an earlier run was open
        self._exit, sys.exit = sys.exit, self._watch_exit
        self._excepthook, sys.excepthook = sys.excepthook, self._watch_exception
        self._wrap_quitter()
        if not self._is_exit_registered:
            self._is_exit_registered = True
            atexit.register(self._on_exit)
        if threading.current_thread() is threading.main_thread():
            for number in _ENDING_SIGNALS:
                self._handle(number, self._watch_terminate)

    def uninstall(self) -> None:
        """Restores what was there, unless somebody has put a hook over ours; then ours goes on passing through."""
        if not self._is_installed:
            return
        self._is_installed = False
        if sys.exit == self._watch_exit:
            sys.exit = self._exit
        if sys.excepthook == self._watch_exception:
            sys.excepthook = self._excepthook
        if self._quitter_call is not None:
            _quitter().__call__, self._quitter_call = self._quitter_call, None
        handlers, self._handlers = self._handlers, {}
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                if signal.getsignal(number) == handler:
                    signal.signal(number, signal.SIG_DFL)

    @property
    def handles_terminate(self) -> bool:
        """Returns whether a SIGTERM comes to these hooks."""
        handler = self._handlers.get(signal.SIGTERM)
        return handler is not None and signal.getsignal(signal.SIGTERM) == handler

    def end_at_exit(self) -> End:
        """Returns what is known when the interpreter ends; leaving its prompt by Ctrl-D is a stop by the user."""
        is_prompt = hasattr(sys, "ps1") and "ipykernel" not in sys.modules
        if is_prompt and not self._is_exit_called and self.end == End(0, PROCESS_EXITED):
            return End(0, USER_REQUEST, "Ctrl-D: the input of the prompt ended")
        return dataclasses.replace(self.end, is_of_kernel=is_notebook())

    def take_exception(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        """Notes an exception that nobody handles."""
        self.end = end_of(kind, error, trace)

    def forget(self) -> None:
        """Forgets what was noted: it ended something else, and the process goes on."""
        self.end, self._is_exit_called = End(0, PROCESS_EXITED), False

    def note_exit(self) -> None:
        """Notes that the user leaves the prompt by its own command."""
        self._is_exit_called = True

    def die_of_signal(self) -> None:
        """Ends the process as the signal does without a handler."""
        number = self.end.signal
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        if (
            os.getpid() == INIT_PID
        ):  # the kernel keeps such signals from a container's first process
            os._exit(128 + number)

    def _handle(self, number: int, handler: Any) -> None:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, handler)
            self._handlers[number] = handler

    def _watch_exit(self, code: Any = None) -> NoReturn:
        self._take_exit(code)
        self._exit(code)
        raise AssertionError("sys.exit returned")

    def _take_exit(self, code: Any) -> None:
        self._is_exit_called = True
        self.end = _end_of_exit(code)

    def _wrap_quitter(self) -> None:
        """Watches exit() and quit(), which raise SystemExit past sys.exit."""
        quitter = _quitter()
        if quitter is None:
            return
        self._quitter_call = original = quitter.__call__

        def watched(quitter_self: Any, code: Any = None) -> Any:
            self._take_exit(code)
            return original(quitter_self, code)

        quitter.__call__ = watched

    def _watch_exception(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if not hasattr(sys, "ps1"):  # at a prompt it ends nothing
            self.take_exception(kind, error, trace)
        self._excepthook(kind, error, trace)

    def _watch_terminate(self, number: int, frame: FrameType | None) -> None:
        if self.is_interrupt_wanted and number == signal.SIGTERM:
            self.is_interrupt_wanted = False
            raise KeyboardInterrupt
        name = signal.Signals(number).name
        self.end = End(128 + number, SIGNAL, name, signal=number)
        if self._on_terminate():
            self.die_of_signal()


def end_of(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> End:
    """Returns the end that an exception means which nobody handles."""
    if issubclass(kind, KeyboardInterrupt):
        return End(
            EXIT_CODE_INTERRUPTED, SIGNAL, "SIGINT (KeyboardInterrupt)", signal=signal.SIGINT
        )
    if isinstance(error, SystemExit):
        return _end_of_exit(error.code)
    if issubclass(kind, EOFError) and _is_of_input(trace) and _is_typed_at():
        return End(1, USER_REQUEST, "Ctrl-D: the input that the script asked for ended")
    fields = exception_fields(kind, error, trace)
    evidence = f"{fields['type']}: {fields['message']}"[:EVIDENCE_LENGTH_MAX]
    return End(1, UNHANDLED_EXCEPTION, evidence, exception=fields)


def _end_of_exit(code: Any) -> End:
    if code is None:
        return End(0, PROCESS_EXITED)
    if isinstance(code, int):
        return End(int(code) & 0xFF, PROCESS_EXITED)
    # anything else is printed, and the code is 1
    return End(1, PROCESS_EXITED, str(code)[:EVIDENCE_LENGTH_MAX])


def _is_of_input(trace: TracebackType | None) -> bool:
    """Returns whether input() raised, as against a pipe that ended; neither need say so."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and "input" in trace.tb_frame.f_code.co_names


def _is_typed_at() -> bool:
    """Returns whether somebody types at this process."""
    try:
        return sys.stdin is not None and sys.stdin.isatty()
    except ValueError:  # closed
        return False


def _quitter() -> Any:
    """Returns the class of the builtins exit and quit; None where site put none there."""
    import builtins

    quitter = type(getattr(builtins, "exit", None))
    return quitter if quitter.__name__ == "Quitter" else None
