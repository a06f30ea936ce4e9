"""The part of a run's handle that integrations use; `Run` sets the attributes."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Callable

from runyard import run_console
from runyard.metric_log import MetricLog
from runyard.run_records import RunRecords
from runyard.terminal import Terminal

if TYPE_CHECKING:
    from runyard.active_run import RunParts

_console_lock = threading.Lock()


class RunIntegrations:
    """What `Run` offers to those who tie it to another library."""

    _metrics: MetricLog
    _parts: RunParts
    _records: RunRecords
    _terminal: Terminal

    def log_beside(self, data: Mapping[str, float], *, step: int, time_unix_ns: int) -> None:
        """Records numbers of something that counts its steps by itself, with the time that they were made at.

        The run's own step stays as it is, whatever that step is.
        """
        self._metrics.log_beside(data, step=step, time_unix_ns=time_unix_ns)

    def before_end(self, call: Callable[[], None]) -> None:
        """Has `call()` called once, when the run ends and still takes records; not when a signal ends the process."""
        self._records.before_end.append(call)

    def note(self, key: str, text: str) -> None:
        """Tells the user something, once per key."""
        self._terminal.note(key, text)

    @property
    def keeps_what_is_printed(self) -> bool:
        """Returns whether what this process prints becomes part of the run."""
        console = self._records.console
        return console is not None and console.takes_prints

    def keep_line(self, text: str) -> None:
        """Puts a line, or several, into the run's log without printing it; does nothing once the run has ended."""
        if self._records.console is None:
            self._begin_unprinted()
        console = self._records.console
        if console is not None:
            console.keep_line(text.encode("utf-8", "replace") + b"\n")

    def _begin_unprinted(self) -> None:
        folder = self._parts.folder
        with _console_lock:
            if folder is None or self._records.console is not None or self._records.is_closed:
                return
            self._records.console = run_console.begin_unprinted(
                folder, self._parts.settings, self._terminal
            )
