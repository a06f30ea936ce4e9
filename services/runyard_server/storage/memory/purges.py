"""Deleted runs and their purges in memory: a part of the transaction of memory/run_store.py."""

from __future__ import annotations

from typing import Any

from runyard_server.domain.purges import Purge, PurgeStep
from runyard_server.domain.run import RunDocument, RunKey, split_run_path


class PurgeTables:
    """The methods of RunTransaction on purges."""

    _tables: Any

    def insert_purge(self, purge: Purge) -> None:
        assert purge.run_key not in self._rows, f"{purge.path} has a purge"
        self._rows[purge.run_key] = (purge, 0)

    def save_purge(self, purge: Purge, *, lease_end_unix_ns: int | None = None) -> None:
        _, lease_end = self._rows[purge.run_key]
        if lease_end_unix_ns is not None:
            lease_end = lease_end_unix_ns
        self._rows[purge.run_key] = (purge, lease_end)

    def remove_purge(self, run_key: RunKey) -> None:
        self._rows.pop(run_key, None)

    def find_purge(self, run_key: RunKey) -> Purge | None:
        found = self._rows.get(run_key)
        return None if found is None else found[0]

    def lease_purges(self, *, now_unix_ns: int, lease_end_unix_ns: int, limit: int) -> list[Purge]:
        due = sorted(
            (
                purge
                for purge, lease_end in self._rows.values()
                if purge.step < PurgeStep.PURGED
                and purge.due_time_unix_ns <= now_unix_ns
                and lease_end <= now_unix_ns
            ),
            key=lambda purge: (purge.due_time_unix_ns, purge.run_key),
        )[:limit]
        for purge in due:
            self._rows[purge.run_key] = (purge, lease_end_unix_ns)
        return due

    def list_unswept_purges(self, *, deleted_before_unix_ns: int, limit: int) -> list[Purge]:
        return [
            purge
            for purge, _ in self._rows.values()
            if purge.step is PurgeStep.PURGED and purge.delete_time_unix_ns < deleted_before_unix_ns
        ][:limit]

    def list_purges(
        self,
        *,
        entity: str,
        project: str,
        is_with_purged: bool,
        before: tuple[int, RunKey] | None,
        limit: int,
    ) -> list[Purge]:
        found = []
        for purge, _ in self._rows.values():
            owner, name, _ = split_run_path(purge.path)
            is_wanted = entity in ("", owner) and project in ("", name)
            is_open = purge.step < PurgeStep.PURGED
            position = (purge.delete_time_unix_ns, purge.run_key)
            if is_wanted and (is_open or is_with_purged) and (before is None or position < before):
                found.append(purge)
        found.sort(key=lambda purge: (purge.delete_time_unix_ns, purge.run_key), reverse=True)
        return found[:limit]

    def purge_run(self, run_key: RunKey) -> int:
        tables = self._tables
        count = 0
        for table in (tables.writers, tables.attempts):
            gone = [key for key in table if key[0] == run_key]
            count += len(gone)
            for key in gone:
                del table[key]
        requests = [name for name, key in tables.requests.items() if key[0] == run_key]
        for name in requests:
            del tables.requests[name]
        numbers = [number for number, (owner, _) in tables.events.items() if owner == run_key]
        for number in numbers:
            del tables.events[number]
        told = [n for n, (one, _) in tables.notifications.items() if one.run_key == run_key]
        for number in told:
            del tables.notifications[number]
        count += len(numbers) + len(told)
        for table in (tables.heartbeats, tables.outbox):
            count += table.pop(run_key, None) is not None
        return count + len(tables.ancestors.pop(run_key, ()))

    def save_tombstone(self, document: RunDocument) -> None:
        old = self._tables.runs[document.run_key]
        assert old.version < document.version, f"run {document.path} is newer"
        self._tables.runs[document.run_key] = document

    @property
    def _rows(self) -> dict[RunKey, tuple[Purge, int]]:
        rows: dict[RunKey, tuple[Purge, int]] = self._tables.purges
        return rows
