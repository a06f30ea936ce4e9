"""Promises of the index of runs: documents in, filtered pages out. The transactional store is metadata's own port below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from runyard_server.domain.run import HistoryPart, RunDocument, RunKey, RunState


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs of a project are wanted; empty members do not filter."""

    entity: str
    project: str
    name_contains: str = ""
    states: tuple[RunState, ...] = ()


@dataclass(frozen=True, slots=True)
class IndexedRun:
    """What reads need to know of a run: its key, and where its history lies; see domain.run.RunDocument.history_parts."""

    run_key: RunKey
    history_parts: tuple[HistoryPart, ...] = ()


class RunIndex(Protocol):
    """The analytical copy of run documents, in ClickHouse. metadata publishes, query reads."""

    async def publish(self, documents: Sequence[RunDocument]) -> None:
        """Stores the documents, durable and visible when it returns. Of one run the highest version MUST win; a repeat changes nothing."""
        ...

    async def query_runs(
        self, where: RunFilter, *, before_key: RunKey | None, limit: int
    ) -> tuple[list[RunDocument], int]:
        """Returns documents, newest first (run_key descending, below `before_key`), and how many match in all.

        Deleted runs MUST be left out. A name matches if it, or the run's id, contains the text, whatever the case of
        letters. The count is of the filter alone: `before_key` and `limit` do not change it.
        """
        ...

    async def find_runs(
        self, paths: Sequence[tuple[str, str, str]]
    ) -> dict[tuple[str, str, str], IndexedRun]:
        """Returns the runs, named by (entity, project, run_id), that were published and not deleted."""
        ...

    async def find_run_key(self, entity: str, project: str, run_id: str) -> RunKey | None:
        """Returns the key of a run that was published and not deleted, or None."""
        ...

    async def read_runs(self, run_keys: Sequence[RunKey]) -> dict[RunKey, RunDocument]:
        """Returns the published documents of these runs; unknown ones are left out."""
        ...
