"""What a run logged besides numbers, as Python reads it: the part of `Api().run()` for images, tables, histograms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from runyard import rpc_media
from runyard.api_files import File
from runyard.errors import InvalidArgument, NotFound
from runyard.rpc import Client
from runyard.rpc_media import (
    Bins,
    MediaName,
    MediaQuery,
    MediaRecord,
    TableQuery,
    TableRows,
)

TABLE_ROWS_MAX = 10_000
TABLE_ROWS_PER_CALL = 2_000
KINDS = ("image", "audio", "video", "html", "table", "histogram", "plot")


class Media:
    """One value: what was logged under a name at a step. docs/media.md tells what its `items` hold."""

    def __init__(self, client: Client, record: MediaRecord) -> None:
        self._client = client
        self.record = record
        self.name = record.name
        self.kind = record.kind
        self.step = record.step
        self.time_s = record.time_s
        self.writer = record.writer
        self.items = record.items
        self.bins = record.bins

    @property
    def caption(self) -> str | None:
        """Returns the caption of the first item that has one."""
        return next((item["caption"] for item in self.items if item.get("caption")), None)

    def file(self, index: int = 0) -> File:
        """Returns the file with the bytes of an item; raises NotFound."""
        name = self.items[index].get("file") if 0 <= index < len(self.items) else None
        if not name:
            raise NotFound(
                f"{self.name!r} at step {self.step} has no file of an item {index}",
                reason="FILE_NOT_FOUND",
            )
        if not self.record.file_run_path:
            raise NotFound(
                f"{name!r} was a file of a run that is gone: this run is a fork of it",
                reason="FILE_NOT_FOUND",
            )
        record, _ = self._client.file_url(self.record.file_run_path, name)
        return File(self._client, self.record.file_run_path, record)

    def files(self) -> list[File]:
        """Returns the files of all items that have one."""
        return [self.file(index) for index, item in enumerate(self.items) if item.get("file")]

    def __repr__(self) -> str:
        count = f", {len(self.items)} items" if len(self.items) > 1 else ""
        return f"<runyard {self.kind} {self.name} at step {self.step}{count}>"


class Table:
    """A table that a run logged, whose rows are read as they are asked for."""

    def __init__(self, client: Client, media: Media, file: str, head: TableRows) -> None:
        self._client = client
        self._file = file
        self.media = media
        self.name = media.name
        self.step = media.step
        self.columns = [name for name, _ in head.columns]
        self.types = dict(head.columns)
        """"number", "string", "boolean", "datetime", "list", "object" or "media", by column."""
        self.row_count = head.row_count

    def rows(
        self,
        offset: int = 0,
        limit: int = 100,
        *,
        sort: str = "",
        descending: bool = False,
        where: Sequence[tuple[Any, ...]] = (),
    ) -> list[dict[str, Any]]:
        """Returns rows from `offset` on: dicts by column, times in ISO 8601, media as the dicts that docs/media.md lists.

        At most `limit` (10,000), fewer where rows are long. `where` are conditions that all hold, like
        `("score", "<", 0.5)`: ==, !=, <, <=, >, >=, contains, matches (RE2). Raises InvalidArgument.
        """
        if offset < 0 or not 1 <= limit <= TABLE_ROWS_MAX:
            raise InvalidArgument(
                f"rows(offset={offset}, limit={limit}): offset is at least 0, limit from 1 to {TABLE_ROWS_MAX}",
                reason="FIELD_INVALID",
            )
        for condition in where:
            if len(condition) != 3 or condition[1] not in rpc_media.OPERATORS:
                raise InvalidArgument(
                    f"rows(where=[{condition!r}]): a condition is (column, operator, value), and the operator one of "
                    + ", ".join(rpc_media.OPERATORS),
                    reason="FIELD_INVALID",
                )
        query = TableQuery(offset, limit, sort, descending, tuple(where))
        found = self._read(query)
        return [dict(zip(self.columns, row)) for row in found.rows]

    def iterrows(self, **selection: Any) -> Iterator[dict[str, Any]]:
        """Yields all rows, or those that `sort`, `descending` and `where` of `rows` select."""
        offset = 0
        while True:
            page = self.rows(offset, TABLE_ROWS_PER_CALL, **selection)
            yield from page
            if not page:
                return
            offset += len(page)

    def count(self, where: Sequence[tuple[Any, ...]] = ()) -> int:
        """Returns how many rows pass the conditions."""
        return self._read(TableQuery(limit=1, where=tuple(where))).matching_count

    def file(self) -> File:
        """Returns the Parquet file."""
        return self.media.file()

    def __len__(self) -> int:
        return self.row_count

    def _read(self, query: TableQuery) -> TableRows:
        path = self.media.record.file_run_path
        return rpc_media.read_table(self._client.connection, path, self._file, query)

    def __repr__(self) -> str:
        size = f"{self.row_count} rows, {len(self.columns)} columns"
        return f"<runyard table {self.name} at step {self.step} ({size})>"


class RunMedia:
    """What a run as Python reads it offers for media; `Run` sets the attributes."""

    _client: Client

    @property
    def path(self) -> str:
        """Returns entity/project/run_id."""
        raise NotImplementedError

    def media_names(self, name_contains: str = "", *, kinds: Sequence[str] = ()) -> list[MediaName]:
        """Returns the names under which the run logged media, in byte order, with kind and steps."""
        wanted = (kinds,) if isinstance(kinds, str) else tuple(kinds)
        for kind in wanted:
            if kind not in KINDS:
                raise InvalidArgument(
                    f"media_names(kinds={kind!r}): it is one of {', '.join(KINDS)}",
                    reason="FIELD_INVALID",
                )
        connection = self._client.connection
        return list(
            rpc_media.list_media(connection, self.path, name_contains=name_contains, kinds=wanted)
        )

    def media(
        self,
        name: str,
        *,
        samples: int | None = None,
        min_step: int | None = None,
        max_step: int | None = None,
        writer: str | int | None = None,
        attempts: str = "current",
    ) -> Iterator[Media]:
        """Yields the values of a name by step, or of at most `samples` (1,000) steps, chosen evenly, the first and the last among them.

        `max_step` is not included. `writer` (a label like "rank17", or a number) gives that writer's alone; `attempts="all"`
        also what a rewind superseded. Of a fork those of its parent come as of writer 0.
        """
        if samples is not None and not 1 <= samples <= rpc_media.STEPS_PER_CALL:
            raise InvalidArgument(
                f"media(samples={samples}): it is from 1 to {rpc_media.STEPS_PER_CALL}, or None for all",
                reason="FIELD_INVALID",
            )
        if attempts not in ("current", "all"):
            raise InvalidArgument(
                f'media(attempts={attempts!r}): it is "current" or "all"', reason="FIELD_INVALID"
            )
        query = MediaQuery(
            name,
            first_step=min_step,
            last_step=None if max_step is None else max_step - 1,
            writers=() if writer is None else tuple(self._writers_of(writer)),
            is_every_attempt=attempts == "all",
        )
        connection = self._client.connection
        if samples is None:
            records = rpc_media.every_media(connection, self.path, query)
        else:
            records = iter(
                rpc_media.sample_media(connection, self.path, query, step_count_max=samples)
            )
        return (Media(self._client, record) for record in records)

    def histogram(self, name: str, step: int | None = None) -> Bins:
        """Returns the histogram of a step, or the last one: its `edges`, `counts` and `non_finite_count`; raises NotFound."""
        bins = self._at(name, step, "histogram").bins
        assert bins is not None
        return bins

    def table(self, name: str, step: int | None = None) -> Table:
        """Returns the table of a step, or the last one; raises NotFound. Rows are read when they are asked for."""
        media = Media(self._client, self._at(name, step, "table"))
        file = media.file().name
        head = rpc_media.read_table(
            self._client.connection, media.record.file_run_path, file, TableQuery(limit=1)
        )
        return Table(self._client, media, file, head)

    def _at(self, name: str, step: int | None, kind: str) -> MediaRecord:
        """Returns the value of a step, or the last one; of several writers the last one's."""
        query = MediaQuery(name, first_step=step, last_step=step)
        found = rpc_media.sample_media(self._client.connection, self.path, query, step_count_max=1)
        if not found:
            where = "" if step is None else f" at step {step}"
            raise NotFound(f"{self.path} has no media value {name!r}{where}")
        if found[-1].kind != kind:
            raise NotFound(
                f"{name!r} at step {found[-1].step} is of kind {found[-1].kind}, not {kind}"
            )
        return found[-1]

    def _writers_of(self, writer: str | int) -> list[int]:
        raise NotImplementedError
