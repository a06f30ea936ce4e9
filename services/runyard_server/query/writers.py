"""What metadata and the monitor know of a run's writers, for its receipt; a receipt does without those that do not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from prometheus_client import Counter

from runyard_server.domain.errors import DomainError
from runyard_server.domain.run import RunKey
from runyard_server.domain.writers import Writer
from runyard_server.query.receipts import WriterTold
from runyard_server.query.runs import RunSource
from runyard_server.query.tables import FileSource

UNANSWERED = Counter(
    "runyard_query_receipts_incomplete_total",
    "Receipts without what a sibling knows of the writers.",
    ("service",),
)


class QuerySiblings(RunSource, FileSource, Protocol):
    """What query asks of its siblings; rpc.siblings.Siblings has it."""

    async def list_writers(self, run_key: RunKey) -> list[Writer]:
        """Returns all writers of a run, by number. Raises NotFound, FailedPrecondition RUN_DELETED, Unavailable."""
        ...

    async def written_records(self, run_path: str) -> dict[int, int]:
        """Returns how many records each writer of a live run has written, as its beats say. Raises Unavailable."""
        ...


class WriterTellers:
    """Asks both, within a time."""

    def __init__(self, siblings: QuerySiblings, *, timeout_s: float) -> None:
        self._siblings = siblings
        self._timeout_s = timeout_s

    async def ask(self, run_path: str, run_key: RunKey) -> list[WriterTold]:
        """Returns what is known of each writer; nothing where metadata does not answer."""
        writers = await self._writers(run_key)
        written: dict[int, int] = {}
        if any(writer.end is None for writer in writers):
            written = await self._written(run_path)
        return [_told(writer, written.get(writer.writer)) for writer in writers]

    async def _writers(self, run_key: RunKey) -> Sequence[Writer]:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._siblings.list_writers(run_key)
        except (DomainError, TimeoutError):
            UNANSWERED.labels("metadata").inc()
            return ()

    async def _written(self, run_path: str) -> dict[int, int]:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._siblings.written_records(run_path)
        except (DomainError, TimeoutError):
            UNANSWERED.labels("monitor").inc()
            return {}


def _told(writer: Writer, written: int | None) -> WriterTold:
    end = writer.end
    return WriterTold(
        writer=writer.writer,
        label=writer.label,
        attempt=writer.attempt,
        records_written=written if end is None else end.last_sequence,
        records_refused=0 if end is None else end.records_refused,
        has_ended=end is not None,
    )
