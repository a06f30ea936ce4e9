"""The part of a run's handle that integrations use; `Run` sets the attributes."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Callable

from runyard import run_console
from runyard.metric_log import MetricLog
from runyard.run_records import RunRecords
from runyard.terminal import Terminal

if TYPE_CHECKING:
    from runyard.active_run import RunParts
    from runyard.model_watch import ModelWatches

_console_lock = threading.Lock()


class RunIntegrations:
    """What `Run` offers to those who tie it to another library."""

    _metrics: MetricLog
    _model_watches: ModelWatches | None = None
    _parts: RunParts
    _records: RunRecords
    _terminal: Terminal

    def log(
        self, data: Mapping[str, Any], step: int | None = None, commit: bool | None = None
    ) -> None:
        """Records values at a step; see Run.log."""
        raise NotImplementedError

    def watch(
        self,
        models: Any,
        criterion: Any = None,
        log: str | None = "gradients",
        log_freq: int = 1000,
        idx: int | None = None,
        *,
        log_graph: bool = False,
    ) -> None:
        """Records how gradients and parameters of a torch module, or of several, are spread, every `log_freq` passes.

        `log` is "gradients", "parameters", "all" or None. The histograms `gradients/NAME` and `parameters/NAME` belong to the
        step that is current; log() of the script ends it. `criterion`, `idx` and `log_graph` are taken for scripts
        written for wandb and have no effect.
        """
        from runyard.model_watch import ModelWatches

        if self._model_watches is None:
            self._model_watches = ModelWatches(
                lambda values: self.log(values, commit=False),
                lambda sentence: self.note("watch", sentence),
            )
            self.before_end(self.unwatch)
        self._model_watches.watch(models, what=log, log_freq=log_freq)

    def unwatch(self, models: Any = None) -> None:
        """Stops watching the modules, or all."""
        if self._model_watches is not None:
            self._model_watches.unwatch(models)

    def log_beside(self, data: Mapping[str, Any], *, step: int, time_unix_ns: int) -> None:
        """Records values of something that counts its steps by itself, with the time that they were made at.

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
