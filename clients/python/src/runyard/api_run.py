"""A run as Python reads it: what it is, its history, its life, its files; edits, stops and deletes it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from runyard import (
    api_artifacts,
    extended_json,
    rpc_console,
    rpc_lives,
    rpc_stops,
    rpc_system,
    rpc_trash,
)
from runyard.api_files import File
from runyard.api_media import RunMedia
from runyard.api_rows import PAGE_SIZE_MAX, RowShape, merged_rows, scanned_rows, spread_rows
from runyard.artifacts.artifact import Artifact
from runyard.errors import InvalidArgument, NotFound, NotOffered, Unavailable
from runyard.records import ROW_KEYS, Columns, Receipt, RunRecord
from runyard.rpc import Client
from runyard.rpc_console import ConsoleLine
from runyard.rpc_lives import AttemptRecord, EventRecord, RunLiveness, WriterRecord
from runyard.rpc_stops import StopState
from runyard.rpc_trash import DeletedRun
from runyard.text_format import iso_time

METRICS_PER_CALL = 1000
SAMPLES_MAX = 10_000
BUCKETS_PER_CALL = 500_000
"""What one reply may hold."""


class Run(RunMedia):
    """A run as it was when it was read; `reload()` reads it again, `update()` writes what was changed here."""

    def __init__(self, client: Client, record: RunRecord, base_url: str) -> None:
        self._client = client
        self._base_url = base_url
        self._summary: dict[str, Any] | None = None
        self._host: dict[str, Any] | None = None
        self._take(record)

    @property
    def path(self) -> str:
        """Returns entity/project/run_id."""
        return self.record.path

    @property
    def url(self) -> str:
        """Returns the address of the run's page."""
        record = self.record
        return f"{self._base_url}/{record.entity}/{record.project}/runs/{record.run_id}"

    @property
    def created_at(self) -> str | None:
        """Returns when the server first heard of the run, ISO 8601, UTC."""
        return iso_time(self.record.create_time_s)

    @property
    def summary(self) -> dict[str, Any]:
        """Returns the results: what the script set, and the last value of each other metric."""
        if self._summary is None:
            text = self.record.summary_json or self._client.summary_json(self.path)
            self._summary = summary = dict(extended_json.loads(text))
            return summary
        return self._summary

    @property
    def metadata(self) -> dict[str, Any]:
        """Returns where the run came from: `hostname`, `command` …, and `git`, `gpu`, `environment` … where they are known.

        See metadata.v1.Host, whose extra facts stand among the others here.
        """
        if self._host is None:
            self._host = self._client.get_run(self.path).host
        return self._host

    @property
    def metrics(self) -> list[str]:
        """Returns the names of all metrics, in byte order."""
        return self._client.metric_names(self.path)

    def logged_artifacts(self, per_page: int = 100) -> list[Artifact]:
        """Returns the versions of artifacts that the run logged, oldest first."""
        return api_artifacts.linked_versions(self._client.connection, self.path, "logged")

    def used_artifacts(self, per_page: int = 100) -> list[Artifact]:
        """Returns the versions of artifacts that the run used, oldest use first."""
        return api_artifacts.linked_versions(self._client.connection, self.path, "used")

    @property
    def transitions(self) -> list[dict[str, Any]]:
        """Returns the changes of state with their causes, oldest first."""
        return self._client.list_transitions(self.path)

    def history(
        self,
        keys: Sequence[str] | str | None = None,
        samples: int = 1500,
        *,
        require: str = "all",
        pandas: bool = False,
    ) -> Any:
        """Returns about `samples` rows in step order: dicts with `_step`, `_timestamp` and metrics.

        With `keys`, rows in which each of them has a value; `require="any"` gives rows with any of them. Without, each
        row has the metrics that have a point there. A metric of more than `samples` points comes as the last points of
        that many aligned buckets; where keys of so many points were logged at different steps, all are read for the
        rows that they share. A row is a step, whoever logged it: of several writers' points it shows one. `scan_history` gives every
        point. With `pandas=True` a DataFrame.
        """
        if samples < 1:
            raise InvalidArgument(
                f"history(samples={samples}): it must be at least 1", reason="FIELD_INVALID"
            )
        shape = dataclasses.replace(self._shape("history", keys, require), is_by_step=True)
        columns: list[Columns] = []
        count_max = min(samples, SAMPLES_MAX)
        for chunk in chunks(shape.keys, min(METRICS_PER_CALL, BUCKETS_PER_CALL // count_max)):
            columns += self._client.query_buckets(self.path, chunk, bucket_count_max=count_max)
        if shape.is_every_key and _is_torn(columns, shape):
            rows = spread_rows(self._scanned(shape, page_size=PAGE_SIZE_MAX), samples)
        else:
            rows = list(merged_rows(columns, shape))
        if not pandas:
            return rows
        import importlib

        library = importlib.import_module("pandas")
        return library.DataFrame(
            rows, columns=[*shape.row_keys, *filter(shape.is_shown, shape.keys)]
        )

    def scan_history(
        self,
        keys: Sequence[str] | str | None = None,
        page_size: int = 10_000,
        min_step: int | None = None,
        max_step: int | None = None,
        *,
        require: str = "all",
        writer: str | int | None = None,
        attempts: str = "current",
    ) -> Iterator[dict[str, Any]]:
        """Yields every point, bit-exact, in rows by step: dicts with `_step`, `_timestamp` and the metrics.

        With `keys`, rows in which each of them has a value; `require="any"` gives rows with any of them. `max_step` is
        not included. In a run of several writers a row is what one of them logged at a step, and has its number as
        `_writer` (`writers()` tells who that is); values of two writers are never in one row. `writer` (a label like
        "rank17", or a number) gives that writer's alone; `attempts="all"` also what a rewind superseded, and of a fork
        only what itself logged. Raises NotFound for a writer that the run has not.
        """
        if attempts not in ("current", "all"):
            raise InvalidArgument(
                f'scan_history(attempts={attempts!r}): it is "current" or "all"',
                reason="FIELD_INVALID",
            )
        shape = self._shape("scan_history", keys, require)
        if self.record.writer_count > 1:
            shape = dataclasses.replace(shape, is_labelled=True)
        return self._scanned(
            shape,
            page_size=page_size,
            first_step=min_step,
            last_step=None if max_step is None else max_step - 1,
            writers=() if writer is None else self._writers_of(writer),
            is_every_attempt=attempts == "all",
        )

    def _scanned(
        self,
        shape: RowShape,
        *,
        page_size: int,
        first_step: int | None = None,
        last_step: int | None = None,
        **selection: Any,
    ) -> Iterator[dict[str, Any]]:
        return scanned_rows(
            functools.partial(self._client.query_series, **selection),
            self.path,
            shape,
            first_step=first_step,
            last_step=last_step,
            page_size=page_size,
        )

    def _writers_of(self, writer: str | int) -> list[int]:
        """Returns the numbers of the writers of that label: one in each attempt; raises NotFound, Unavailable."""
        known = self._client.receipt(self.path).writers
        found = [one.writer for one in known if writer in (one.label, one.writer)]
        if not found and not any(one.label for one in known):
            raise Unavailable(
                f"the server cannot tell the labels of {self.path}'s writers now; give the number, or try again",
                reason="WRITERS_UNKNOWN",
            )
        if not found:
            labels = ", ".join(sorted({one.label for one in known})[:10])
            raise NotFound(
                f"{self.path} has no durable records of writer {writer!r}; it has {labels}",
                reason="WRITER_NOT_FOUND",
            )
        return found

    def receipt(self) -> Receipt:
        """Returns what is durable of the run, as the store says now."""
        return self._client.receipt(self.path)

    def events(self) -> list[EventRecord]:
        """Returns what happened to the run, oldest first: transitions, stops, alerts, stalls, writers lost."""
        return list(rpc_lives.list_events(self._client.connection, self.path))

    def attempts(self) -> list[AttemptRecord]:
        """Returns how often the run was begun, and from where: its start, resumes, rewinds; oldest first."""
        return rpc_lives.list_attempts(self._client.connection, self.path)

    def writers(self) -> list[WriterRecord]:
        """Returns the processes that wrote the run, those of earlier attempts too, by number."""
        return list(rpc_lives.list_writers(self._client.connection, self.path))

    def liveness(self) -> RunLiveness:
        """Returns how far each writer of a live run is, and when it last beat; raises Unavailable without the monitor."""
        return rpc_lives.read_liveness(self._client.connection, self.path)

    def logs(
        self,
        contains: str = "",
        *,
        regex: str = "",
        case_sensitive: bool = False,
        writers: Sequence[int] = (),
        streams: Sequence[str] = (),
        since_s: float | None = None,
        until_s: float | None = None,
        context: int = 0,
        tail: int | None = None,
    ) -> Iterator[ConsoleLine]:
        """Yields lines that the run's processes printed, by time: all, or those found, or the last `tail` of them.

        `contains` is found anywhere in a line, `regex` (RE2) as well; with `context`, lines around what was found come too.
        `streams` are "stdout", "stderr" and "note"; times are Unix seconds. Raises InvalidArgument for an expression that cannot be.
        """
        query = rpc_console.LineQuery(
            writers=tuple(writers),
            streams=(streams,) if isinstance(streams, str) else tuple(streams),
            contains=contains,
            matches=regex,
            is_case_sensitive=case_sensitive,
            since_s=since_s,
            until_s=until_s,
            context=context,
        )
        if tail is None:
            return rpc_console.list_lines(self._client.connection, self.path, query)
        return iter(rpc_console.last_lines(self._client.connection, self.path, query, tail)[0])

    def download_logs(
        self,
        file: str | Path,
        *,
        writers: Sequence[int] = (),
        streams: Sequence[str] = (),
        colours: bool = False,
        times: bool = False,
        labels: bool = False,
    ) -> Path:
        """Writes all that the run's processes printed into a text file, by time, and returns its path.

        `colours` keeps ANSI colours, `times` puts the time before each line, `labels` the writer's name. The file is there
        when it is whole: what it was before is overwritten then. Raises Unavailable if not all of it came.
        """
        target = Path(file)
        rpc_console.download_log(
            self._client.connection,
            self.path,
            target,
            writers=tuple(writers),
            streams=(streams,) if isinstance(streams, str) else tuple(streams),
            colours=colours,
            times=times,
            labels=labels,
        )
        return target

    def system_metrics(
        self, names: Sequence[str] | None = None, samples: int = 500, *, writers: Sequence[int] = ()
    ) -> list[dict[str, Any]]:
        """Returns what the run's machines did: rows by `_timestamp` (Unix seconds) with the metrics that have a sample there.

        Without names all of them; of more than about `samples` times the last value of each of that many spans.
        """
        if samples < 1:
            raise InvalidArgument(
                f"system_metrics(samples={samples}): it must be at least 1", reason="FIELD_INVALID"
            )
        connection = self._client.connection
        if names is None:
            names = [
                one.name
                for one in rpc_system.list_system_metrics(connection, self.path, is_brief=True)
            ]
        wanted = [names] if isinstance(names, str) else list(names)
        return rpc_system.system_rows(
            connection, self.path, wanted, count_max=samples, writers=writers
        )

    def stop(
        self,
        reason: str = "",
        *,
        grace_s: float | None = None,
        kill: bool = False,
        wait_s: float = 0.0,
    ) -> StopState:
        """Asks the run to stop, and returns how far that has come; it has ended when that is no longer `is_live`.

        Its script is told, and has `grace_s` (None: 60 s) to wind up until SIGTERM; with `kill`, SIGKILL follows 10 s
        later. Waits for the end up to `wait_s` (math.inf: until it has ended). Another call goes on with the same stop
        under the new wishes. Raises FailedPrecondition for a run that has ended. `reload()` shows the state here.
        """
        if not wait_s >= 0:
            raise InvalidArgument(
                f"stop(wait_s={wait_s}): it must be at least 0", reason="FIELD_INVALID"
            )
        state = rpc_stops.request_stop(
            self._client.connection,
            self.path,
            grace_s=grace_s,
            may_kill=kill,
            reason=reason,
            requested_by=rpc_trash.who(),
        )
        if not wait_s:
            return state
        return rpc_stops.await_end(self._client.connection, self.path, wait_s=wait_s)

    def delete_files(self, names: Sequence[str]) -> tuple[int, int]:
        """Removes files of the run, at most 1,000; returns how many there were and how many bytes that freed."""
        return self._client.delete_files(self.path, names)

    def files(self, names: Sequence[str] | None = None) -> list[File]:
        """Returns the run's files by name."""
        records = self._client.list_files(self.path)
        return [
            File(self._client, self.path, r) for r in records if names is None or r.name in names
        ]

    def file(self, name: str) -> File:
        """Returns one file; raises NotFound."""
        record, _ = self._client.file_url(self.path, name)
        return File(self._client, self.path, record)

    def update(self) -> None:
        """Writes name, notes, tags, group, job_type and config, as far as they were changed here."""
        wanted = self._editable()
        changed = {key: value for key, value in wanted.items() if value != self._as_read[key]}
        if changed:
            self._take(self._client.update_run(self.path, changed))

    def reload(self) -> Run:
        """Reads the run again and returns it; changes that were not written are lost."""
        self._take(self._client.get_run(self.path))
        return self

    load = reload

    def delete(self, now: bool = False) -> DeletedRun:
        """Moves the run to the trash, or with `now=True` purges it at once; raises FailedPrecondition for a live one."""
        deleted, refusals = rpc_trash.delete_runs(self._client.connection, [self.path], is_now=now)
        rpc_trash.raise_refusal(refusals)
        return deleted[0]

    def wait_until_finished(self) -> None:
        """Is not offered: ask `reload().state` at your pace."""
        raise NotOffered(
            "wait_until_finished() is not offered; ask run.reload().state at your pace"
        )

    def __repr__(self) -> str:
        return f"<runyard run {self.path} ({self.state})>"

    def _take(self, record: RunRecord) -> None:
        self.record = record
        self.id = record.run_id
        self.entity = record.entity
        self.project = record.project
        self.state = record.state
        self.exit_code = record.exit_code
        self.name = record.display_name
        self.notes = record.notes
        self.tags = list(record.tags)
        self.group = record.group
        self.job_type = record.job_type
        self.config: dict[str, Any] = extended_json.loads(record.config_json)
        self._summary = None
        self._host = None if record.summary_json else record.host  # a list has it in part
        self._as_read = self._editable()

    def _editable(self) -> dict[str, Any]:
        return {
            "display_name": self.name,
            "notes": self.notes,
            "tags": list(self.tags),
            "group": self.group,
            "job_type": self.job_type,
            "config_json": extended_json.dumps(extended_json.plain(self.config)),
        }

    def _shape(self, call: str, keys: Sequence[str] | str | None, require: str) -> RowShape:
        """Returns which rows those keys ask for; keys that every row has ask for nothing more."""
        if require not in ("all", "any"):
            raise InvalidArgument(
                f'{call}(require={require!r}): it is "all" or "any"', reason="FIELD_INVALID"
            )
        if keys is None:
            return RowShape(self.metrics)
        wanted = [keys] if isinstance(keys, str) else list(keys)
        names = [key for key in dict.fromkeys(wanted) if key not in ROW_KEYS]
        if not names:
            return RowShape(self.metrics, is_bare=True)
        return RowShape(names, is_every_key=require == "all")


def _is_torn(columns: Sequence[Columns], shape: RowShape) -> bool:
    """Returns whether the steps that all keys share cannot be told from these: some are buckets, of different last steps."""
    if len(columns) < len(shape.keys) or all(column.is_raw for column in columns):
        return False
    return any(column.steps != columns[0].steps for column in columns)


def chunks(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Yields the items in pieces of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
