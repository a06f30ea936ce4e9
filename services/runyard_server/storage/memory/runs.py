"""The index of runs in memory: the reference of RunIndex, and what the simulator runs on."""

from __future__ import annotations

from collections.abc import Sequence

from runyard_server.domain.purges import TablePurge
from runyard_server.domain.run import RunDocument, RunKey
from runyard_server.storage.ports.runs import IndexedRun, RunFilter


class MemoryRunIndex:
    """Keeps the published documents in a dictionary by key."""

    def __init__(self) -> None:
        self._documents: dict[RunKey, RunDocument] = {}
        self._purged: set[RunKey] = set()

    async def publish(self, documents: Sequence[RunDocument]) -> None:
        """Keeps, of each run, the document with the highest version."""
        for document in documents:
            old = self._documents.get(document.run_key)
            if old is None or document.version >= old.version:
                self._documents[document.run_key] = document

    async def purge_runs(self, run_keys: Sequence[RunKey]) -> list[TablePurge]:
        """Removes the documents of the runs; see RunPurger."""
        self._purged.update(key for key in run_keys if self._documents.pop(key, None) is not None)
        return [TablePurge("runs", tuple(int(key in self._purged) for key in run_keys), 0)]

    async def query_runs(
        self, where: RunFilter, *, before_key: RunKey | None, limit: int
    ) -> tuple[list[RunDocument], int]:
        """Returns matching documents, newest first, and how many match in all."""
        found = sorted(
            (d for d in self._documents.values() if _matches(d, where)),
            key=lambda d: d.run_key,
            reverse=True,
        )
        page = [d for d in found if before_key is None or d.run_key < before_key]
        return page[:limit], len(found)

    async def find_runs(
        self, paths: Sequence[tuple[str, str, str]]
    ) -> dict[tuple[str, str, str], IndexedRun]:
        """Returns the runs that are known and not deleted."""
        wanted = set(paths)
        return {
            path: IndexedRun(d.run_key, d.history_parts)
            for d in self._documents.values()
            if not d.is_deleted and (path := (d.entity, d.project, d.run_id)) in wanted
        }

    async def find_run_key(self, entity: str, project: str, run_id: str) -> RunKey | None:
        """Returns the key of one run, or None."""
        path = (entity, project, run_id)
        found = (await self.find_runs([path])).get(path)
        return None if found is None else found.run_key

    async def read_runs(self, run_keys: Sequence[RunKey]) -> dict[RunKey, RunDocument]:
        """Returns the documents of these runs."""
        return {key: self._documents[key] for key in run_keys if key in self._documents}


def _matches(document: RunDocument, where: RunFilter) -> bool:
    text = where.name_contains.lower()
    return (
        not document.is_deleted
        and document.entity == where.entity
        and document.project == where.project
        and (not where.states or document.state in where.states)
        and (text in document.display_name.lower() or text in document.run_id.lower())
    )
