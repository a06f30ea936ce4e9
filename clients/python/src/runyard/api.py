"""Reads runs back: `runyard.Api().run("entity/project/run_id").history()`."""

from __future__ import annotations

import functools
import itertools
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

from runyard import extended_json, rpc_projects, rpc_trash
from runyard.api_projects import Project
from runyard.api_rows import merged_rows, scanned_rows
from runyard.errors import DataLoss, InvalidArgument, NotFound, NotOffered, Unavailable
from runyard.records import Columns, FileRecord, Receipt, RunRecord
from runyard.rpc import Client, Connection
from runyard.rpc_trash import DeletedRun, Refusal
from runyard.settings import DEFAULT_ENTITY, DEFAULT_PROJECT, Settings, resolve
from runyard.text_format import iso_time

METRICS_PER_CALL = 1000
PAGE_SIZE = 50
DOWNLOAD_TIMEOUT_S = 60.0
DOWNLOAD_CHUNK_BYTES = 1 << 20


class Api:
    """A server to read from: by default the one that `init()` would log to."""

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout_s: float = 60.0,
        overrides: dict[str, Any] | None = None,
    ) -> None:
        given = dict(overrides or {})
        arguments = {
            "base_url": base_url or given.get("base_url"),
            "api_key": api_key or given.get("api_key"),
            "entity": given.get("entity"),
            "project": given.get("project"),
        }
        self.settings = resolve(arguments, Settings())
        self._connection = Connection(
            self.settings.base_url, self.settings.api_key, timeout_s=timeout_s
        )
        self._client = Client(self._connection)

    @property
    def default_entity(self) -> str:
        """Returns the owner that paths without one mean."""
        return self.settings.entity or DEFAULT_ENTITY

    def run(self, path: str) -> Run:
        """Returns the run at `entity/project/run_id`; parts left out at the front are the defaults. Raises NotFound."""
        full = self._run_path(path)
        return Run(self._client, self._client.get_run(full), self.settings.base_url)

    def runs(
        self,
        path: str | None = None,
        filters: Any = None,
        order: str | None = None,
        per_page: int = PAGE_SIZE,
        *,
        name_contains: str = "",
        states: Sequence[str] = (),
    ) -> Runs:
        """Returns the runs of `entity/project`, newest first; pages are fetched as they are looked at."""
        if filters:
            raise NotOffered(
                "Api.runs(filters=…) is not offered by this version; name_contains= and states= are"
            )
        if order not in (None, "-created_at"):
            raise NotOffered(
                f"Api.runs(order={order!r}) is not offered by this version: runs come newest first"
            )
        full = self._project_path(path)
        query = {"name_contains": name_contains, "states": tuple(states)}
        return Runs(self._client, full, per_page, query, self.settings.base_url)

    def project(self, path: str) -> Project:
        """Returns the project `entity/project`, with its settings; raises NotFound."""
        record = rpc_projects.read_project(self._connection, self._project_path(path))
        return Project(self._connection, record, self.settings.base_url)

    def projects(self, entity: str | None = None, per_page: int = PAGE_SIZE) -> list[Project]:
        """Returns the projects of an owner, or all, latest activity first."""
        records = self._client.list_projects(entity or "")
        return [Project(self._connection, record, self.settings.base_url) for record in records]

    def delete_runs(
        self, paths: Sequence[str], *, now: bool = False
    ) -> tuple[list[DeletedRun], list[Refusal]]:
        """Moves runs to the trash, with `now` past it; returns those that are deleted, and those that cannot be."""
        return rpc_trash.delete_runs(self._connection, paths, is_now=now)

    def restore_runs(self, paths: Sequence[str]) -> tuple[list[str], list[Refusal]]:
        """Takes runs out of the trash; returns the paths of those that are there again, and those that cannot be."""
        return rpc_trash.restore_runs(self._connection, paths)

    def restore(self, path: str) -> Run:
        """Takes a run out of the trash, as it was, and returns it; raises FailedPrecondition if it was purged."""
        full = self._run_path(path)
        rpc_trash.raise_refusal(self.restore_runs([full])[1])
        return self.run(full)

    def deleted_runs(self, path: str = "", *, with_purged: bool = False) -> Iterator[DeletedRun]:
        """Yields the runs in the trash of `entity/project`, an entity, or all; with the purged ones' receipts if asked."""
        return rpc_trash.list_deleted_runs(
            self._connection,
            _checked_path(path, "a project").strip("/"),
            is_with_purged=with_purged,
        )

    def close(self) -> None:
        """Lets go of the connection."""
        self._connection.close()

    def _project_path(self, path: str | None) -> str:
        given = "" if path is None else _checked_path(path, "a project: entity/project")
        parts = (given or self.settings.project or DEFAULT_PROJECT).strip("/").split("/")
        if len(parts) > 2 or not all(parts):
            raise InvalidArgument(
                f"{path!r} is no path of a project: entity/project", reason="FIELD_INVALID"
            )
        return "/".join([self.default_entity, *parts][-2:])

    def _run_path(self, path: str) -> str:
        parts = _checked_path(path, "a run: entity/project/run_id").strip("/").split("/")
        if len(parts) == 4 and parts[2] == "runs":  # the path of the run's page
            parts.pop(2)
        if not 1 <= len(parts) <= 3 or not all(parts):
            raise InvalidArgument(
                f"{path!r} is no path of a run: entity/project/run_id", reason="FIELD_INVALID"
            )
        defaults = [self.default_entity, self.settings.project or DEFAULT_PROJECT]
        return "/".join([*defaults[: 3 - len(parts)], *parts])

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<runyard Api {self.settings.base_url}>"


def _checked_path(path: object, what: str) -> str:
    if isinstance(path, str):
        return path
    raise InvalidArgument(
        f"{str(path)[:60]!r} is of type {type(path).__name__}; it must be a string, the path of {what}",
        reason="FIELD_INVALID",
    )


class Runs(Sequence["Run"]):
    """Runs of a project; a page is fetched when one of its runs is looked at."""

    def __init__(
        self, client: Client, path: str, page_size: int, query: dict[str, Any], base_url: str
    ) -> None:
        self._client = client
        self._path = path
        self._page_size = page_size
        self._query = query
        self._base_url = base_url
        self._loaded: list[Run] = []
        self._page_token = ""
        self._total: int | None = None
        self._is_all = False

    def __len__(self) -> int:
        if self._total is None:
            self._load_page()
        assert self._total is not None
        return self._total

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> list[Run]: ...
    def __getitem__(self, index: int | slice) -> Run | list[Run]:
        if isinstance(index, slice):
            stop = index.stop
            is_open = stop is None or stop < 0 or (index.start or 0) < 0 or (index.step or 1) < 0
            self._load_to(None if is_open else stop)
            return self._loaded[index]
        self._load_to(None if index < 0 else index + 1)
        return self._loaded[index]

    def __iter__(self) -> Iterator[Run]:
        for index in itertools.count():
            self._load_to(index + 1)
            if index >= len(self._loaded):
                return
            yield self._loaded[index]

    def __repr__(self) -> str:
        return f"<runyard runs of {self._path}>"

    def _load_to(self, count: int | None) -> None:
        while not self._is_all and (count is None or len(self._loaded) < count):
            self._load_page()

    def _load_page(self) -> None:
        records, self._page_token, self._total = self._client.query_runs(
            self._path, page_size=self._page_size, page_token=self._page_token, **self._query
        )
        self._loaded.extend(Run(self._client, record, self._base_url) for record in records)
        self._is_all = not self._page_token


class Run:
    """A run as it was when it was read; `reload()` reads it again, `update()` writes what was changed here."""

    def __init__(self, client: Client, record: RunRecord, base_url: str) -> None:
        self._client = client
        self._base_url = base_url
        self._summary: dict[str, Any] | None = None
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
    def metrics(self) -> list[str]:
        """Returns the names of all metrics, in byte order."""
        return self._client.metric_names(self.path)

    @property
    def transitions(self) -> list[dict[str, Any]]:
        """Returns the changes of state with their causes, oldest first."""
        return self._client.list_transitions(self.path)

    def history(
        self,
        keys: Sequence[str] | str | None = None,
        samples: int = 1500,
        *,
        pandas: bool = False,
    ) -> Any:
        """Returns rows in step order: dicts with `_step`, `_timestamp` and the metrics that have a point there.

        A metric of more than `samples` points comes as the last points of that many aligned buckets; `scan_history`
        gives every point. With `pandas=True` a DataFrame.
        """
        if samples < 1:
            raise InvalidArgument(
                f"history(samples={samples}): it must be at least 1", reason="FIELD_INVALID"
            )
        columns: list[Columns] = []
        names = self._names(keys)
        for chunk in chunks(names, METRICS_PER_CALL):
            columns += self._client.query_buckets(
                self.path, chunk, bucket_count_max=min(samples, 10_000)
            )
        rows = list(merged_rows(columns, keys=names))
        if not pandas:
            return rows
        import importlib

        library = importlib.import_module("pandas")
        return library.DataFrame(rows, columns=["_step", "_timestamp", *names])

    def scan_history(
        self,
        keys: Sequence[str] | str | None = None,
        page_size: int = 10_000,
        min_step: int | None = None,
        max_step: int | None = None,
        *,
        writer: str | int | None = None,
        attempts: str = "current",
    ) -> Iterator[dict[str, Any]]:
        """Yields every point, bit-exact, in rows like those of `history`; `max_step` is not included.

        `writer` (a label like "rank17", or a number) gives what that writer logged alone; `attempts="all"` also what a
        rewind superseded, and of a fork only what itself logged. Raises NotFound for a writer that the run has not.
        """
        if attempts not in ("current", "all"):
            raise InvalidArgument(
                f'scan_history(attempts={attempts!r}): it is "current" or "all"',
                reason="FIELD_INVALID",
            )
        last_step = None if max_step is None else max_step - 1
        names = self._names(keys)
        return scanned_rows(
            functools.partial(
                self._client.query_series,
                writers=() if writer is None else self._writers_of(writer),
                is_every_attempt=attempts == "all",
            ),
            self.path,
            names,
            first_step=min_step,
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
        self.metadata = record.host
        self.name = record.display_name
        self.notes = record.notes
        self.tags = list(record.tags)
        self.group = record.group
        self.job_type = record.job_type
        self.config: dict[str, Any] = extended_json.loads(record.config_json)
        self._summary = None
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

    def _names(self, keys: Sequence[str] | str | None) -> list[str]:
        if keys is None:
            return self.metrics
        wanted = [keys] if isinstance(keys, str) else list(keys)
        return [key for key in dict.fromkeys(wanted) if key not in ("_step", "_timestamp")]


class File:
    """A file of a run."""

    def __init__(self, client: Client, run_path: str, record: FileRecord) -> None:
        self._client = client
        self._run_path = run_path
        self.record = record
        self.name = record.name
        self.size = record.size_bytes
        self.size_bytes = record.size_bytes
        self.sha256 = record.sha256
        self.content_type = record.content_type

    @property
    def url(self) -> str:
        """Returns an address of the bytes that is good for an hour."""
        return self._client.file_url(self._run_path, self.name)[1]

    def download(
        self, root: str | Path = ".", replace: bool = False, exist_ok: bool = False
    ) -> Path:
        """Writes the file under `root` and returns its path, after checking its content; raises DataLoss if it differs."""
        target = Path(root) / self.name
        if target.exists() and not replace:
            if exist_ok:
                return target
            raise FileExistsError(f"{target} exists; replace=True overwrites it")
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".part")
        try:
            self._fetch(partial)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        return target

    def _fetch(self, path: Path) -> None:
        import hashlib

        digest = hashlib.sha256()
        try:
            request = urllib.request.urlopen(self.url, timeout=DOWNLOAD_TIMEOUT_S)
            with request as reply, path.open("wb") as file:
                while chunk := reply.read(DOWNLOAD_CHUNK_BYTES):
                    digest.update(chunk)
                    file.write(chunk)
        except urllib.error.HTTPError as error:
            kind = NotFound if error.code == 404 else Unavailable
            raise kind(f"the store answered {error.code} for {self.name!r}") from error
        except urllib.error.URLError as error:
            raise Unavailable(f"the store does not answer: {error.reason}") from error
        if digest.hexdigest() != self.sha256:
            raise DataLoss(
                f"{self.name!r} came with SHA-256 {digest.hexdigest()}, {self.sha256} was stored"
            )

    def __repr__(self) -> str:
        return f"<runyard file {self.name} ({self.size_bytes} bytes)>"


def chunks(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Yields the items in pieces of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
