"""Learns how the process ends: exit code, exception, signal; so that a run that nobody finished ends truthfully."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import traceback
from types import FrameType, TracebackType
from typing import Any, Callable, NoReturn

EXIT_CODE_INTERRUPTED = 130
"""What a shell sees of a program that Ctrl-C ended."""
EXIT_CODE_TERMINATED = 143
EVIDENCE_LENGTH_MAX = 16_000

FINISH_CALLED = "FINISH_CALLED"
PROCESS_EXITED = "PROCESS_EXITED"
UNHANDLED_EXCEPTION = "UNHANDLED_EXCEPTION"
SIGNAL = "SIGNAL"


class ExitHooks:
    """Watches sys.exit, sys.excepthook, SIGTERM and atexit, and passes everything on to who was there before.

    `on_exit` is called when the interpreter ends, `on_terminate` on SIGTERM, in the main thread.
    """

    def __init__(self, on_exit: Callable[[], None], on_terminate: Callable[[], bool]) -> None:
        self.exit_code = 0
        self.cause = PROCESS_EXITED
        self.evidence = ""
        self._on_exit = on_exit
        self._on_terminate = on_terminate
        self._is_installed = False
        self._is_exit_registered = False
        self._exit: Any = None
        self._excepthook: Any = None
        self._quitter_call: Any = None

    def install(self) -> None:
        """Puts the hooks in place; a repeat does nothing."""
        if self._is_installed:
            return
        self._is_installed = True
        self._exit, sys.exit = sys.exit, self._watch_exit
        self._excepthook, sys.excepthook = sys.excepthook, self._watch_exception
        self._wrap_quitter()
        if not self._is_exit_registered:
            self._is_exit_registered = True
            atexit.register(self._on_exit)
        if (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        ):
            signal.signal(signal.SIGTERM, self._watch_terminate)

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
        if (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGTERM) == self._watch_terminate
        ):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _watch_exit(self, code: Any = None) -> NoReturn:
        self._take_exit(code)
        self._exit(code)
        raise AssertionError("sys.exit returned")

    def _take_exit(self, code: Any) -> None:
        self.cause, self.evidence = PROCESS_EXITED, ""
        if code is None:
            self.exit_code = 0
        elif isinstance(code, int):
            self.exit_code = int(code) & 0xFF
        else:  # anything else is printed, and the code is 1
            self.exit_code, self.evidence = 1, str(code)[:EVIDENCE_LENGTH_MAX]

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
        if issubclass(kind, KeyboardInterrupt):
            self.exit_code, self.cause = EXIT_CODE_INTERRUPTED, SIGNAL
            self.evidence = "SIGINT (KeyboardInterrupt)"
        else:
            self.exit_code, self.cause = 1, UNHANDLED_EXCEPTION
            self.evidence = evidence_of(kind, error, trace)
        self._excepthook(kind, error, trace)

    def _watch_terminate(self, number: int, frame: FrameType | None) -> None:
        self.exit_code, self.cause, self.evidence = EXIT_CODE_TERMINATED, SIGNAL, "SIGTERM"
        if self._on_terminate():
            self.die_of_terminate()

    def die_of_terminate(self) -> None:
        """Ends the process as SIGTERM does without a handler."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


def evidence_of(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> str:
    """Returns the end of the traceback, which names the exception."""
    try:
        text = "".join(traceback.format_exception(kind, error, trace))
    except Exception:  # an exception whose str() raises must not hide that there was one
        text = kind.__name__
    return text[-EVIDENCE_LENGTH_MAX:]


def _quitter() -> Any:
    """Returns the class of the builtins exit and quit; None where site put none there."""
    import builtins

    quitter = type(getattr(builtins, "exit", None))
    return quitter if quitter.__name__ == "Quitter" else None
