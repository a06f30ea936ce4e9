"""Run: the handle through which a script logs."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable

from runyard import (
    exit_hooks,
    last_runs,
    naming,
    not_offered,
    run_config,
    run_end,
    run_registry,
    run_summary,
    terminal,
)
from runyard import journal_format as form
from runyard.agent_link import AgentLink
from runyard.errors import InvalidArgument, UsageError
from runyard.exit_hooks import End
from runyard.journal import JournalWriter
from runyard.metric_definition import MetricDefinition, make_definition
from runyard.metric_log import MetricLog
from runyard.run_artifacts import RunArtifacts
from runyard.run_config import Config
from runyard.run_contents import RunContents
from runyard.run_ends import RunEnds
from runyard.run_folder import REFUSED, RunAnswer, RunFolder
from runyard.run_integrations import RunIntegrations
from runyard.run_media import RunMedia
from runyard.run_receipt import LagClock, RunReceipt, make_receipt
from runyard.run_records import RunRecords
from runyard.run_summary import Summary
from runyard.settings import DEFAULT_ENTITY, DEFAULT_PROJECT, ResolvedSettings
from runyard.stop_listener import StopListener
from runyard.terminal import Terminal

AGENT_CHECK_TICKS = 20
"""Ticks of the journal's thread between two looks at what the agent says."""


@dataclasses.dataclass(frozen=True)
class RunParts:
    """What init() puts together for a run; no folder where nothing can be kept, no link where nothing is sent."""

    run_id: str
    settings: ResolvedSettings
    journal: JournalWriter
    terminal: Terminal
    folder: RunFolder | None
    link: AgentLink | None
    start_time_unix_ns: int
    config: Mapping[str, Any]
    """What the START frame holds."""


class Run(RunContents, RunArtifacts, RunEnds, RunIntegrations):
    """One recorded computation, as its own process sees it. Made by `runyard.init()`."""

    def __init__(self, parts: RunParts) -> None:
        self._parts = parts
        self._settings = parts.settings
        self._journal = parts.journal
        self._terminal = parts.terminal
        self._metrics = MetricLog(parts.journal, parts.terminal.note)
        self._log = self._metrics.log
        self._answer: RunAnswer | None = None
        self._name = parts.settings.name
        self._notes = parts.settings.notes
        self._tags = parts.settings.tags
        self._state = "running"
        self._tick_count = 0
        self._lag = LagClock()
        self._finish_lock = threading.RLock()
        self._is_foreign = False
        self._records = RunRecords(parts.journal, self._metrics, parts.terminal, parts.folder)
        files_path = parts.folder.files_path if parts.folder is not None else None
        self._metrics.media = RunMedia(self._records, files_path)
        self._config = Config(parts.config, on_change=self._records.write_config)
        self._summary = Summary(self._metrics, self._records.write_summary)
        self._stop = StopListener(
            parts.folder if parts.link is not None else None,
            parts.terminal,
            run_registry.hooks,
            lambda fields: self._records.write(form.STOP_TOLD, fields),
            lambda: self._end_between_cells(is_idle=run_registry.cells.is_idle),
        )

    def log(
        self, data: Mapping[str, Any], step: int | None = None, commit: bool | None = None
    ) -> None:
        """Records numbers and media at a step; they survive the process the moment this returns.

        Without `step` they go to the current step, which then goes up by one unless `commit=False`. A higher `step`
        becomes the current one and stays open; the current one again adds to it; a lower one is kept as late data.
        Nested dicts become names joined with dots. Media (runyard.Image, Table …) are encoded where they are made and written
        here. Raises TypeError or ValueError for what cannot be logged, and then records nothing of the call.
        """
        self._log(data, step, commit)

    @property
    def id(self) -> str:
        """Returns the id, unique in the project."""
        return self._parts.run_id

    @property
    def name(self) -> str:
        """Returns the readable name; the id until the server has given one."""
        answer = self._look_for_answer()
        return self._name or (answer.display_name if answer is not None else "") or self.id

    @name.setter
    def name(self, name: str) -> None:
        if not _text("name", name):
            raise InvalidArgument("name is empty: a run that has a name keeps one")
        self._name = naming.check_label(name, "name")
        self._records.change({"display_name": name})

    @property
    def notes(self) -> str:
        """Returns the notes."""
        return self._notes

    @notes.setter
    def notes(self, notes: str) -> None:
        self._notes = naming.check_notes(_text("notes", notes))
        self._records.change({"notes": notes})

    @property
    def tags(self) -> tuple[str, ...]:
        """Returns the labels."""
        return self._tags

    @tags.setter
    def tags(self, tags: Iterable[str]) -> None:
        if isinstance(tags, str):
            raise InvalidArgument(f"tags is the string {tags!r}; it must be a list of strings")
        self._tags = naming.check_tags(tuple(dict.fromkeys(_text("tag", tag) for tag in tags)))
        self._records.change({"tags": list(self._tags)})

    @property
    def entity(self) -> str:
        """Returns the owner."""
        return self._path_parts()[0]

    @property
    def project(self) -> str:
        """Returns the project."""
        return self._path_parts()[1]

    @property
    def path(self) -> str:
        """Returns entity/project/run_id."""
        return "/".join(self._path_parts())

    @property
    def url(self) -> str | None:
        """Returns the address of the run's page; None for a run that is not sent."""
        if self._parts.link is None:
            return None
        answer = self._look_for_answer()
        entity, project, run_id = self._path_parts()
        made = f"{self._settings.base_url}/{entity}/{project}/runs/{run_id}"
        return (answer.url if answer is not None else "") or made

    @property
    def project_url(self) -> str | None:
        """Returns the address of the project's page; None for a run that is not sent."""
        if self._parts.link is None:
            return None
        answer = self._look_for_answer()
        made = "/".join((self._settings.base_url, *self._path_parts()[:2]))
        return (answer.project_url if answer is not None else "") or made

    @property
    def state(self) -> str:
        """Returns running, finished, failed, killed or preempted."""
        return self._state

    @property
    def config(self) -> Config:
        """Returns the inputs of the run; changes are recorded."""
        return self._config

    @property
    def summary(self) -> Summary:
        """Returns the results of the run: last values of metrics, and what the script sets."""
        return self._summary

    @property
    def group(self) -> str:
        """Returns the group."""
        return self._settings.group

    @property
    def job_type(self) -> str:
        """Returns the kind of work."""
        return self._settings.job_type

    @property
    def step(self) -> int:
        """Returns the current step."""
        return self._metrics.step

    @property
    def starting_step(self) -> int:
        """Returns the step at which this attempt began."""
        return self._answer.next_step if self._answer is not None and self.resumed else 0

    @property
    def resumed(self) -> bool:
        """Returns whether the run existed before this process."""
        return self._answer is not None and self._answer.is_resumed

    @property
    def start_time(self) -> float:
        """Returns when init() ran, in Unix seconds."""
        return self._parts.start_time_unix_ns / 1e9

    @property
    def offline(self) -> bool:
        """Returns whether nothing is sent before `runyard sync`."""
        return self._settings.mode == "offline"

    @property
    def disabled(self) -> bool:
        """Returns whether nothing is kept."""
        return self._settings.mode == "disabled"

    @property
    def dir(self) -> str:
        """Returns the folder for files of the run; "" if nothing is kept."""
        folder = self._parts.folder
        return str(folder.files_path) if folder is not None else ""

    @property
    def settings(self) -> ResolvedSettings:
        """Returns the settings that hold for this run."""
        return self._settings

    @property
    def writer(self) -> str:
        """Returns the label of this writer of the run: the one given, else that of its rank, else "main"."""
        return self._settings.writer_label or "main"

    @property
    def sweep_id(self) -> None:
        """Returns None: sweeps are not offered yet."""
        return None

    def get_url(self) -> str | None:
        """Returns `url`."""
        return self.url

    def get_project_url(self) -> str | None:
        """Returns `project_url`."""
        return self.project_url

    def project_name(self) -> str:
        """Returns `project`."""
        return self.project

    def define_metric(
        self,
        name: str,
        step_metric: Any = None,
        step_sync: bool | None = None,
        hidden: bool | None = None,
        summary: str | Sequence[str] | None = None,
        *,
        goal: str | None = None,
        overwrite: bool | None = None,
    ) -> MetricDefinition:
        """Says how a metric, or all that match a glob, is drawn and summarised."""
        definition = make_definition(name, step_metric, summary, goal, is_hidden=bool(hidden))
        self._records.change({"metric_definition": dataclasses.asdict(definition)})
        return definition

    def finish(self, exit_code: int | None = None, quiet: bool | None = None) -> None:
        """Ends the run: returns when everything is durable, or says what is not after `finish_timeout_s`."""
        code = 0 if exit_code is None else int(exit_code)
        if quiet is not None:
            self._terminal.is_quiet = quiet
        self.end(End(code, exit_hooks.FINISH_CALLED))

    def receipt(self) -> RunReceipt:
        """Returns how many records were logged and how many of them the server has for good; asks no server."""
        return make_receipt(
            self._parts.folder,
            self._lag,
            mode=self._settings.mode,
            written=self._journal.sequence,
            dropped=self._journal.dropped_count,
        )

    def end(self, end: End) -> None:
        """Ends the run as told; a repeat does nothing."""
        self.call_soon(lambda: self._end(end))

    def end_without_waiting(self, end: End) -> None:
        """Writes the end of the run and nothing more: the process is about to die, the agent does the rest."""
        if self._state == "running" and not self._is_foreign:
            self._close(end)

    def call_soon(self, call: Callable[[], Any]) -> None:
        """Calls at once, or right after the row that this thread is in the middle of."""
        self._metrics.call_soon(call)

    def become_foreign(self) -> None:
        """Makes this handle inert: it is in a forked child now, and the run is its parent's."""
        self._is_foreign = True
        self._records.abandon()
        if self._parts.folder is not None:
            self._parts.folder.release()
        self._log = self._log_foreign

    def take_answer(self, answer: RunAnswer) -> None:
        """Takes what the server answered to the start."""
        self._answer = answer
        if answer.is_resumed:
            self._restore(answer)
        if answer.next_step > 0:
            self.continue_at(answer.next_step)

    @property
    def is_answered(self) -> bool:
        """Returns whether the server has answered to the start."""
        return self._answer is not None

    def continue_at(self, step: int) -> None:
        """Lets steps count on from there, unless something was logged already."""
        if self._metrics.step == 0:
            self._metrics.resume_at(step)
            self._records.write(form.RESUMED_STEP, {"step": step})

    def tick(self) -> None:
        """Looks for a stop, and after the agent now and then; called by the journal's thread."""
        self._stop.look()
        self._records.tick()
        self._lag.note(self._journal.sequence)
        self._tick_count += 1
        folder, link = self._parts.folder, self._parts.link
        if folder is None or link is None or self._tick_count % AGENT_CHECK_TICKS:
            return
        mark = folder.read_mark()
        if mark is None and not folder.path.exists():
            self._terminal.warn(
                "removed", f"{folder.path} was removed: what is logged from now on may be lost"
            )
        if mark is not None and mark.is_dropped:
            self._terminal.warn(
                "refused",
                "this run was deleted on the server: what it logs from now on is dropped; training goes on",
            )
        elif mark is not None and mark.server == REFUSED:
            self._terminal.warn(
                "refused",
                f"the server refuses this run: {mark.message}. What is logged stays in {folder.path}",
            )
        elif mark is not None and mark.records_refused:
            self._terminal.warn(
                "set_aside", f"the server refuses records of this run: {mark.message}"
            )
        link.revive(mark, self._journal.sequence + (self.artifacts_pending > 0))
        if self._answer is None and self._look_for_answer() is not None:
            self._terminal.line(f"The server answers now: syncing run {self.name} to {self.url}")

    def display(self, height: int = 420, hidden: bool = False) -> bool:
        """Shows the run in a notebook; returns False outside of one."""
        return terminal.is_notebook() and terminal.show_html(self._repr_html_())

    def to_html(self, height: int = 420, hidden: bool = False) -> str:
        """Returns a compact view as HTML."""
        return self._repr_html_()

    def __repr__(self) -> str:
        return f"<runyard run {self.path} ({self._state})>"

    def _repr_html_(self) -> str:
        return terminal.run_html(self.name, self.url or "", self._state, self._summary.as_dict())

    def __getattr__(self, name: str) -> Any:
        if name in not_offered.HARMLESS:
            return not_offered.harmless_call(name, self._terminal.note)
        if name in not_offered.LATER:
            raise AttributeError(not_offered.later_message(name, "run"))
        raise AttributeError(f"a run has no attribute {name!r}")

    def __reduce__(self) -> Any:
        raise UsageError("a run cannot be sent to another process; call init() there")

    def _path_parts(self) -> tuple[str, str, str]:
        answer = self._look_for_answer()
        if answer is not None and answer.path.count("/") == 2:
            entity, project, run_id = answer.path.split("/")
            return entity, project, run_id
        settings = self._settings
        return settings.entity or DEFAULT_ENTITY, settings.project or DEFAULT_PROJECT, self.id

    def _look_for_answer(self) -> RunAnswer | None:
        """Returns the server's answer, which may have come since init()."""
        folder = self._parts.folder
        if self._answer is None and self._parts.link is not None and folder is not None:
            answer = folder.read_answer()
            if answer is not None and not answer.error_reason:
                self._answer = answer
        return self._answer

    def _restore(self, answer: RunAnswer) -> None:
        """Shows what earlier attempts left, below what this init() set."""
        run_config.restore(self._config, answer.config)
        if answer.summary is None:
            self._terminal.note(
                "summary",
                "the summary of earlier attempts is too large to be read back into run.summary",
            )
            return
        run_summary.restore(self._summary, answer.summary)

    def _end(self, end: End) -> None:
        with self._finish_lock:
            if self._state != "running" or self._is_foreign:
                return
            self._records.write_rest()
            run_registry.deactivate(self)
            self._close(end)
            self._show_end()

    def _close(self, end: End) -> None:
        self._stop.close()
        end = self._decided(end)
        self._state = _end_state(end)
        self._log = self._log_late
        self._records.close(end)
        last_runs.leave_word(self, self._parts.folder, last_step=self._metrics.last_step)

    def _show_end(self) -> None:
        folder, link = self._parts.folder, self._parts.link
        outcome = None
        if folder is not None:
            folder.release()
            if link is not None:
                outcome = run_end.await_durable(
                    folder,
                    link,
                    self._settings,
                    self._terminal,
                    records_written=self._journal.sequence,
                    records_dropped=self._journal.dropped_count,
                )
        if self.disabled:
            return
        from runyard import run_report

        dropped_count = self._journal.dropped_count
        run_report.print_end(self, self._metrics, self._terminal, folder, outcome or dropped_count)

    def _log_late(self, data: Any, step: Any = None, commit: Any = None) -> None:
        raise UsageError(
            f"run {self.id} is finished: log() has nowhere to go. Log before finish(), or init() a run again"
        )

    def _log_foreign(self, data: Any, step: Any = None, commit: Any = None) -> None:
        self._terminal.note(
            "foreign_log",
            "log() in a forked child of the process that called init() is passed over: log there, or init() here",
        )


def _end_state(end: End) -> str:
    by_cause = {exit_hooks.PREEMPTED: "preempted", exit_hooks.UNHANDLED_EXCEPTION: "failed"}
    by_cause.update({exit_hooks.SIGNAL: "killed", exit_hooks.USER_REQUEST: "killed"})
    return by_cause.get(end.cause) or ("failed" if end.exit_code else "finished")


def _text(what: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidArgument(f"{what} is of type {type(value).__name__}; it must be a string")
    return value
