"""A handler for the standard library's `logging`: records become lines of the run's log without being printed.

What a logger prints to stdout or stderr is in the log anyway. The handler is for what is not: loggers that write to a file
or to nowhere, runs with `console="off"`, and the second of two runs that are open at once. What another handler of the
same logger prints is not kept a second time.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

from runyard import run_registry

if TYPE_CHECKING:
    from runyard.active_run import Run

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class RunyardHandler(logging.Handler):
    """Writes records into the log of a run: `logging.getLogger("my").addHandler(RunyardHandler())`.

    Without `run` they go to the run that is current when they are made, and nowhere while there is none. Lines are in the
    log as stderr; credentials are taken out of them as out of what is printed.
    """

    def __init__(self, run: Run | None = None, level: int | str = logging.NOTSET) -> None:
        super().__init__(level)
        self._given_run = run
        self.setFormatter(logging.Formatter(FORMAT))

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one record; never raises into the script."""
        run = self._given_run if self._given_run is not None else run_registry.current()
        if run is None:
            return
        try:
            if not (run.keeps_what_is_printed and _is_printed(record)):
                run.keep_line(self.format(record))
        except Exception:  # as the standard library's handlers do: a wrong format string, say
            self.handleError(record)


def _is_printed(record: logging.LogRecord) -> bool:
    """Returns whether another handler prints the record on stdout or stderr."""
    logger: logging.Logger | None = logging.getLogger(record.name)
    while logger is not None:
        for handler in logger.handlers:
            if _prints(handler) and record.levelno >= handler.level:
                return True
        logger = logger.parent if logger.propagate else None
    return False


def _prints(handler: logging.Handler) -> bool:
    stream: Any = getattr(handler, "stream", None)
    if stream is None:  # that of rich
        stream = getattr(getattr(handler, "console", None), "file", None)
    if isinstance(handler, RunyardHandler) or stream is None:
        return False
    if stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        return True
    try:
        return stream.fileno() in (1, 2)
    except (AttributeError, OSError, TypeError, ValueError):
        return False
