"""Hears that the run shall stop, and tells the script: by its callback, by `should_stop`, or as Ctrl-C would."""

from __future__ import annotations

import signal
import threading
import time
import traceback
from collections.abc import Mapping
from typing import Any, Callable

from runyard.exit_hooks import USER_REQUEST, End, ExitHooks
from runyard.run_folder import RunFolder, StopRequest
from runyard.terminal import Terminal

CALLBACK, POLLING, INTERRUPT = "callback", "polling", "interrupt"
"""How a script is told."""


class StopListener:
    """Looks for stop.json and tells the script once per request. `look` is called by the journal's thread.

    Callbacks are called in a thread of their own, so that one which waits for the training loop to reach a point
    does not keep it from getting there.
    """

    def __init__(
        self,
        folder: RunFolder | None,
        terminal: Terminal,
        hooks: ExitHooks,
        record: Callable[[Mapping[str, Any]], None],
        end_between_cells: Callable[[], bool] = lambda: False,
    ) -> None:
        self._folder = folder
        self._terminal = terminal
        self._hooks = hooks
        self._record = record
        self._end_between_cells = end_between_cells
        self._callbacks: list[Callable[[], Any]] = []
        self._is_polled = False
        self._request: StopRequest | None = None
        self._how = ""
        self._lock = threading.Lock()
        self._is_closed = False

    def on_stop(self, callback: Callable[[], Any]) -> None:
        """Has the callback called when the run shall stop; at once if that was asked for already."""
        with self._lock:
            self._callbacks.append(callback)
            is_late = self._request is not None
        if is_late:
            self._call([callback])

    @property
    def is_told(self) -> bool:
        """Returns whether the script was told of a stop in a way that asks it to end at once."""
        return self._how == INTERRUPT

    @property
    def should_stop(self) -> bool:
        """Returns whether a stop was asked for; who has read it once is trusted to go on reading."""
        self._is_polled = True
        return self._request is not None

    def look(self) -> None:
        """Tells the script of a request that it was not told of."""
        folder = self._folder
        if folder is None or self._is_closed:
            return
        request = folder.read_stop()
        with self._lock:
            before = self._request
            if request is None or (
                before is not None and before.request_time_unix_ns == request.request_time_unix_ns
            ):
                return
            self._request = request
        self._tell(request)

    def close(self) -> None:
        """Ends listening: the run has ended."""
        self._is_closed = True

    def decided(self, end: End) -> End:
        """Returns the end as it is in the light of a stop: whatever a script does once it was told, it was stopped.

        An exception on the way out is kept and shown.
        """
        request = self._request
        if request is None and end.signal and self._folder is not None:
            request = self._folder.read_stop()  # the signal came before the look did
        if request is None:
            return end
        parts = [_asked(request)]
        if self._how:
            parts.append(f"the script was told by {self._how}")
        if end.evidence:
            parts.append(end.evidence)
        return End(end.exit_code, USER_REQUEST, "; ".join(parts), end.exception, end.signal)

    def _tell(self, request: StopRequest) -> None:
        self._terminal.line(f"Stopping: {_asked(request)}")
        with self._lock:
            callbacks = list(self._callbacks)
        how = CALLBACK if callbacks else POLLING if self._is_polled else INTERRUPT
        self._how = how
        self._record(
            {
                "how": how,
                "request_time_unix_ns": request.request_time_unix_ns,
                "time_unix_ns": time.time_ns(),
            }
        )
        if callbacks:
            self._call(callbacks)
        elif how == INTERRUPT and not self._end_between_cells():
            interrupt_main_thread(self._hooks)

    def _call(self, callbacks: list[Callable[[], Any]]) -> None:
        threading.Thread(
            target=self._call_each, args=(callbacks,), name="runyard-stop", daemon=True
        ).start()

    def _call_each(self, callbacks: list[Callable[[], Any]]) -> None:
        for callback in callbacks:
            try:
                callback()
            except Exception:  # the script's own; it must not go on as if it had been told
                self._terminal.warn(
                    "on_stop",
                    f"the callback of on_stop() failed; the main thread is interrupted instead\n"
                    f"{traceback.format_exc()}",
                )
                interrupt_main_thread(self._hooks)


def interrupt_main_thread(hooks: ExitHooks) -> None:
    """Does to the main thread what Ctrl-C does, whatever it waits for; also where a shell has SIGINT ignored."""
    thread_id = threading.main_thread().ident
    if thread_id is None:
        return
    is_ignored = signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, None)
    if not hasattr(signal, "pthread_kill"):  # Windows
        import _thread

        _thread.interrupt_main()
    elif not is_ignored:
        signal.pthread_kill(thread_id, signal.SIGINT)
    elif hooks.handles_terminate:
        hooks.is_interrupt_wanted = True
        signal.pthread_kill(thread_id, signal.SIGTERM)


def _asked(request: StopRequest) -> str:
    who = request.requested_by or "a user"
    return f"{who} asked for it" + (f" ({request.reason})" if request.reason else "")
