"""The part of a run's handle that is about its end: stops, preemption, alerts, and leaving a `with` block."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, TypeVar

from runyard import alerts, exit_hooks, preemption
from runyard.errors import InvalidArgument
from runyard.exit_hooks import End
from runyard.run_folder import REFUSED, UNREACHABLE
from runyard.run_records import RunRecords
from runyard.settings import ResolvedSettings
from runyard.stop_listener import StopListener

if TYPE_CHECKING:
    from runyard.active_run import RunParts
    from runyard.console.capture import Capture
    from runyard.origin_link import OriginLink

_Callback = TypeVar("_Callback", bound=Callable[[], Any])
_Self = TypeVar("_Self", bound="RunEnds")


class RunEnds:
    """What `Run` offers besides logging, naming and reading; `Run` sets the attributes."""

    _parts: RunParts
    _records: RunRecords
    _settings: ResolvedSettings
    _stop: StopListener
    _preemption_notice = ""

    def finish(self, exit_code: int | None = None, quiet: bool | None = None) -> None:
        """Ends the run; see Run.finish."""
        raise NotImplementedError

    def end(self, end: End) -> None:
        """Ends the run as told; see Run.end."""
        raise NotImplementedError

    def on_stop(self, callback: _Callback) -> _Callback:
        """Has `callback()` called, in a thread of its own, when somebody asks the run to stop; returns it.

        Then nothing else is done until the grace time of the request is over: the callback sees to it that the
        script saves what it needs and ends. If it raises, the main thread is interrupted as by Ctrl-C. At most once
        per request; at once if a stop was asked for already. May stand as a decorator.
        """
        if not callable(callback):
            raise InvalidArgument(
                f"on_stop(): {callback!r} cannot be called; give a function without arguments"
            )
        self._stop.on_stop(callback)
        return callback

    @property
    def should_stop(self) -> bool:
        """Returns whether somebody asked the run to stop.

        A script that reads this is not interrupted: it goes on reading it, saves what it needs, and ends within the
        grace time of the request.
        """
        return self._stop.should_stop

    @property
    def is_interrupted(self) -> bool:
        """Returns whether a stop interrupted the script."""
        return self._stop.is_told

    @property
    def is_told(self) -> bool:
        """Returns whether nothing is to be waited for: the server knows of the end, or cannot be told now."""
        folder = self._parts.folder
        if folder is None or self._parts.link is None:
            return True
        mark = folder.read_mark()
        return mark is not None and (
            mark.is_ended or mark.is_complete or mark.server in (REFUSED, UNREACHABLE)
        )

    def mark_preempting(self, reason: str = "") -> None:
        """Tells that the machine will be taken away: the SIGTERM that follows is a preemption, and can be resumed."""
        if not isinstance(reason, str):
            raise InvalidArgument(
                f"mark_preempting(): reason is of type {type(reason).__name__}; it must be a string"
            )
        notice = preemption.MARKED + (f": {reason[:1000]}" if reason else "")
        if notice != self._preemption_notice:
            self._preemption_notice = notice
            self._records.change({"preemption_notice": notice})

    def alert(
        self,
        title: str,
        text: str = "",
        level: alerts.AlertLevel | str | None = None,
        wait_duration: Any = None,
    ) -> None:
        """Tells people at once, through the notifications of the project, and keeps it in the run's history.

        `level` is INFO (the default), WARN or ERROR. Alerts of one title within `wait_duration` (seconds or a
        timedelta, 60 s unless given) after one are not sent again.
        """
        fields = alerts.alert_fields(title, text, level, wait_duration)
        self._records.change({"alert": fields})

    def keep_console(self, console: Capture | None) -> None:
        """Takes what keeps what is printed from now on."""
        self._records.console = console

    def keep_origin(self, origin: OriginLink) -> None:
        """Takes what finds out where the run came from."""
        self._records.origin = origin

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None or error is None:
            self.finish()
        else:
            self.end(exit_hooks.end_of(kind, error, trace))

    def _end_between_cells(self, *, is_idle: bool) -> bool:
        """Ends the run if a prompt waits for its next cell, which has nothing that could be interrupted."""
        if (
            is_idle
        ):  # in a thread of its own: the journal's is the one that calls, and ends with the journal
            end = End(
                exit_hooks.EXIT_CODE_INTERRUPTED, exit_hooks.USER_REQUEST, "between two cells"
            )
            threading.Thread(target=self.end, args=(end,), name="runyard-stop").start()
        return is_idle

    def _decided(self, end: End) -> End:
        """Returns the end as it is in the light of a stop or a preemption that was announced."""
        stopped = self._stop.decided(end)
        if stopped is not end:
            return stopped
        notice = preemption.notice_of(end, self._settings.preemption)
        if notice and not self._preemption_notice:
            self._preemption_notice = notice
            self._records.change({"preemption_notice": notice})
        return preemption.decided(end, self._preemption_notice)
