"""Removes runs from ClickHouse for good, and says truly how many rows and bytes that freed: the port RunPurger.

A DELETE rewrites the parts that hold the runs. The old parts stay on the disk for eight minutes, unless their lifetime is cut:
that is done while a purge runs, with merges synced meanwhile, and after all that was written before is on the platter.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from runyard_server.domain.clock import Clock
from runyard_server.domain.purges import TablePurge
from runyard_server.domain.run import RunKey
from runyard_server.storage.clickhouse.engine import ClickHouse

STREAM_TABLES: Final = (
    "points",
    "series",
    "summaries",
    "receipts",
    "buckets",
    "rollups",
    "console",
    "console_writers",
    "console_dropped",
    "system_points",
    "media",
)
"""All tables of what runs stream; each has a column `run`."""
INDEX_TABLES: Final = ("runs",)
DISK_WAIT_S: Final = 75.0
"""Longest wait for the engine to remove old parts; it looks about every half minute."""
DISK_POLL_S: Final = 0.5
LEFTOVER_BYTES_MAX: Final = 1 << 20
"""Outdated parts of less than this together are not waited for."""
MUTATION_TIMEOUT_S: Final = 600.0
_EAGER: Final = (
    "old_parts_lifetime = 1, merge_tree_clear_old_parts_interval_seconds = 1, min_rows_to_fsync_after_merge = 1,"
    " min_compressed_bytes_to_fsync_after_merge = 1"
)
_LAZY: Final = (
    "old_parts_lifetime, merge_tree_clear_old_parts_interval_seconds, min_rows_to_fsync_after_merge,"
    " min_compressed_bytes_to_fsync_after_merge"
)
_PARTS: Final = """
SELECT partition_id, min_block_number AS first_block, max_block_number AS last_block, level, data_version, rows, bytes_on_disk
FROM system.parts WHERE database = currentDatabase() AND table = {table:String} AND active"""

log = logging.getLogger("runyard.clickhouse")


@dataclass(frozen=True, slots=True)
class _Part:
    data_version: int
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a purge does to one table: rows that are there now, and rows and bytes that the receipt will say, by run."""

    table: str
    there: dict[RunKey, int]
    rows: dict[RunKey, int]
    bytes: dict[RunKey, int]


_PartKey = tuple[str, int, int, int]


class ClickHousePurger:
    """Removes the rows of runs from some tables. Safe to repeat; one purge at a time in a process."""

    def __init__(self, store: ClickHouse, *, tables: Sequence[str], clock: Clock) -> None:
        self._store = store
        self._tables = tuple(tables)
        self._clock = clock
        self.lock = asyncio.Lock()
        """Held while tables shrink: what else removes rows waits, for a purge measures what it frees."""

    async def purge_runs(self, run_keys: Sequence[RunKey]) -> list[TablePurge]:
        """Returns what is gone of each table once it is gone from the disk; see the port."""
        if not run_keys:
            return [TablePurge(table, (), 0) for table in self._tables]
        async with self.lock:
            plans = [await self._plan(table, run_keys) for table in self._tables]
            await self._remove([plan for plan in plans if plan.there])
            return [
                TablePurge(
                    plan.table,
                    tuple(plan.rows[key] for key in run_keys),
                    sum(plan.bytes.values()),
                )
                for plan in plans
            ]

    async def _plan(self, table: str, run_keys: Sequence[RunKey]) -> _Plan:
        """Finds what is there, and records it before anything goes; bytes by their share of the table, until they are measured."""
        there = await self._count_rows(table, run_keys)
        known = await self._read_records(table, run_keys)
        before = {key: known.get(key, (0, 0)) for key in run_keys}
        # Rows that came after an earlier purge of the run (a batch on its way) were not in what that one removed.
        rows = {key: max(before[key][0], there.get(key, 0)) for key in run_keys}
        plan = _Plan(table, there, rows, {key: before[key][1] for key in run_keys})
        if there:
            parts = (await self._parts(table)).values()
            total_rows = max(1, sum(part.rows for part in parts))
            total_bytes = sum(part.bytes for part in parts)
            shares = {key: total_bytes * count // total_rows for key, count in there.items()}
            expected = {key: max(plan.bytes[key], shares.get(key, 0)) for key in run_keys}
            await self._record(table, rows, expected)
        return plan

    async def _remove(self, plans: Sequence[_Plan]) -> None:
        """Removes what is there, waits until it is gone from the disk, and records how much smaller the tables are."""
        if not plans:
            return
        await self._store.sync_disk()
        try:
            for plan in plans:
                await self._store.command(f"ALTER TABLE {plan.table} MODIFY SETTING {_EAGER}")
            for plan in plans:
                await self._mutate(plan)
            for plan in plans:
                await self._record(plan.table, plan.rows, plan.bytes)
            await self._await_disk([plan.table for plan in plans])
        finally:
            for plan in plans:
                await self._store.command(f"ALTER TABLE {plan.table} RESET SETTING {_LAZY}")

    async def _mutate(self, plan: _Plan) -> None:
        before = await self._parts(plan.table)
        keys = ", ".join(str(int(key)) for key in plan.there)
        await self._store.command(
            f"ALTER TABLE {plan.table} DELETE WHERE run IN ({keys}) SETTINGS mutations_sync = 2",
            timeout_s=MUTATION_TIMEOUT_S,
        )
        freed = _freed_bytes(before, await self._parts(plan.table))
        total_rows = sum(plan.there.values())
        for key, count in plan.there.items():
            plan.bytes[key] += freed * count // total_rows

    async def _await_disk(self, tables: Sequence[str]) -> None:
        """Returns when outdated parts take next to nothing, or after a while: the engine removes them in any case."""
        deadline_s = self._clock.monotonic_s() + DISK_WAIT_S
        sql = (
            "SELECT sum(bytes_on_disk) AS bytes FROM system.parts WHERE database = currentDatabase()"
            " AND table IN {tables:Array(String)} AND NOT active"
        )
        while self._clock.monotonic_s() < deadline_s:
            found = await self._store.query_arrow(sql, {"tables": list(tables)})
            if (found.column("bytes")[0].as_py() or 0) < LEFTOVER_BYTES_MAX:
                return
            await asyncio.sleep(DISK_POLL_S)
        fields = {"tables": ", ".join(tables), "waited_s": DISK_WAIT_S}
        log.warning("purge_leaves_parts", extra={"fields": fields})

    async def _parts(self, table: str) -> dict[_PartKey, _Part]:
        found = await self._store.query_arrow(_PARTS, {"table": table})
        return {
            (row["partition_id"], row["first_block"], row["last_block"], row["level"]): _Part(
                row["data_version"], row["rows"], row["bytes_on_disk"]
            )
            for row in found.to_pylist()
        }

    async def _count_rows(self, table: str, run_keys: Sequence[RunKey]) -> dict[RunKey, int]:
        keys = ", ".join(str(int(key)) for key in run_keys)
        found = await self._store.query_arrow(
            f"SELECT run, count() AS n FROM {table} WHERE run IN ({keys}) GROUP BY run"
        )
        return {RunKey(row["run"]): row["n"] for row in found.to_pylist()}

    async def _read_records(
        self, table: str, run_keys: Sequence[RunKey]
    ) -> dict[RunKey, tuple[int, int]]:
        keys = ", ".join(str(int(key)) for key in run_keys)
        found = await self._store.query_arrow(
            f"SELECT run, rows, bytes FROM purges FINAL WHERE run IN ({keys}) AND table_name = {{table:String}}",
            {"table": table},
        )
        return {RunKey(row["run"]): (row["rows"], row["bytes"]) for row in found.to_pylist()}

    async def _record(
        self, table: str, rows: Mapping[RunKey, int], bytes_: Mapping[RunKey, int]
    ) -> None:
        keys = list(rows)
        version = self._clock.now_unix_ns()
        columns = {
            "run": pa.array(keys, pa.uint64()),
            "table_name": pa.array([table] * len(keys), pa.string()),
            "rows": pa.array([rows[key] for key in keys], pa.uint64()),
            "bytes": pa.array([bytes_[key] for key in keys], pa.uint64()),
            "version": pa.array([version] * len(keys), pa.uint64()),
        }
        await self._store.insert_arrow("purges", pa.table(columns))


def _freed_bytes(before: Mapping[_PartKey, _Part], after: Mapping[_PartKey, _Part]) -> int:
    """Returns how many bytes the parts that were rewritten are smaller; what merged or came meanwhile does not count."""
    freed = 0
    for key, old in before.items():
        new = after.get(key)
        if new is not None and new.data_version != old.data_version:
            freed += old.bytes - new.bytes
    return max(0, freed)
