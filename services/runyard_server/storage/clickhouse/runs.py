"""Keeps the index of runs in ClickHouse: the port RunIndex."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from runyard_server.domain.run import RunDocument, RunKey, RunState
from runyard_server.storage.clickhouse.engine import ClickHouse
from runyard_server.storage.clickhouse.runs_rows import COLUMNS, documents_to_table, read_documents
from runyard_server.storage.life_json import history_of
from runyard_server.storage.ports.runs import IndexedRun, RunFilter

PATHS_PER_QUERY_MAX: Final = 500
_SETTINGS: Final = "SETTINGS do_not_merge_across_partitions_select_final = 1"


class ClickHouseRunIndex:
    """The port RunIndex over ClickHouse. Holds no state: any number may use one store."""

    def __init__(self, store: ClickHouse) -> None:
        self._store = store

    async def publish(self, documents: Sequence[RunDocument]) -> None:
        """Stores the documents in one insert; of one run the highest version wins."""
        if documents:
            await self._store.insert_arrow("runs", documents_to_table(documents))

    async def query_runs(
        self, where: RunFilter, *, before_key: RunKey | None, limit: int
    ) -> tuple[list[RunDocument], int]:
        """Returns matching documents, newest first, and how many match in all."""
        conditions, parameters = _conditions(where)
        below = f" AND run < {int(before_key)}" if before_key is not None else ""
        source = f"FROM runs FINAL WHERE {conditions}"
        # Keys first, then the rows of this page alone: wide columns of a million runs are never read. In the order of
        # the table's key, so that the read ends at the limit (a heap over all keys took 0.5 s for a million runs).
        keys_table, count_table = await asyncio.gather(
            self._store.query_arrow(
                f"SELECT run {source}{below}"
                f"\nORDER BY entity DESC, project DESC, run DESC LIMIT {limit} {_SETTINGS}",
                parameters,
            ),
            self._store.query_arrow(f"SELECT count() AS total {source} {_SETTINGS}", parameters),
        )
        keys = [RunKey(key) for key in keys_table.column("run").to_pylist()]
        total = int(count_table.column("total")[0].as_py())
        if not keys:
            return [], total
        found = await self._read_runs(
            f"entity = {{entity:String}} AND project = {{project:String}} AND run IN ({_join(keys)})",
            {"entity": where.entity, "project": where.project},
        )
        return [found[key] for key in keys if key in found and not found[key].is_deleted], total

    async def find_runs(
        self, paths: Sequence[tuple[str, str, str]]
    ) -> dict[tuple[str, str, str], IndexedRun]:
        """Returns the runs that are known and not deleted."""
        found: dict[tuple[str, str, str], IndexedRun] = {}
        for start in range(0, len(paths), PATHS_PER_QUERY_MAX):
            found.update(await self._find_runs(paths[start : start + PATHS_PER_QUERY_MAX]))
        return found

    async def find_run_key(self, entity: str, project: str, run_id: str) -> RunKey | None:
        """Returns the key of one run, or None."""
        path = (entity, project, run_id)
        found = (await self._find_runs([path])).get(path)
        return None if found is None else found.run_key

    async def read_runs(self, run_keys: Sequence[RunKey]) -> dict[RunKey, RunDocument]:
        """Returns the documents of these runs."""
        if not run_keys:
            return {}
        # `run` alone is no prefix of the key, and filters of columns cannot help FINAL: so look the prefix up first.
        keys = _join(run_keys)
        return await self._read_runs(
            f"(entity, project, run) IN (SELECT entity, project, run FROM runs WHERE run IN ({keys}))",
            {},
        )

    async def _find_runs(
        self, paths: Sequence[tuple[str, str, str]]
    ) -> dict[tuple[str, str, str], IndexedRun]:
        if not paths:
            return {}
        projects = list(dict.fromkeys((entity, project) for entity, project, _ in paths))
        named = " OR ".join(
            f"(entity = {{e{i}:String}} AND project = {{p{i}:String}} AND run_id IN {{r{i}:Array(String)}})"
            for i in range(len(projects))
        )
        parameters: dict[str, Any] = {}
        for i, (entity, project) in enumerate(projects):
            ids = sorted({run_id for e, p, run_id in paths if (e, p) == (entity, project)})
            parameters |= {f"e{i}": entity, f"p{i}": project, f"r{i}": ids}
        # What names a run never changes, so the filter on run_id may look at all versions.
        table = await self._store.query_arrow(
            "SELECT entity, project, run_id, run, life_json FROM runs FINAL"
            f"\nWHERE (entity, project, run) IN (SELECT entity, project, run FROM runs WHERE {named})"
            f"\n    AND is_deleted = 0 ORDER BY run {_SETTINGS}",
            parameters,
        )
        columns = [table.column(i).to_pylist() for i in range(5)]
        rows = zip(*columns, strict=True)
        return {
            (_text(e), _text(p), _text(r)): IndexedRun(RunKey(run), history_of(_text(life)))
            for e, p, r, run, life in rows
        }

    async def _read_runs(
        self, where: str, parameters: Mapping[str, Any]
    ) -> dict[RunKey, RunDocument]:
        table: pa.Table = await self._store.query_arrow(
            f"SELECT {', '.join(COLUMNS)} FROM runs FINAL WHERE {where} {_SETTINGS}", parameters
        )
        return {document.run_key: document for document in read_documents(table)}


def _conditions(where: RunFilter) -> tuple[str, dict[str, Any]]:
    conditions = ["entity = {entity:String}", "project = {project:String}", "is_deleted = 0"]
    parameters: dict[str, Any] = {"entity": where.entity, "project": where.project}
    if where.states:
        conditions.append("state IN {states:Array(String)}")
        parameters["states"] = [state.value for state in _unique(where.states)]
    if where.name_contains:
        conditions.append(
            "(positionCaseInsensitiveUTF8(display_name, {text:String}) > 0"
            " OR positionCaseInsensitiveUTF8(run_id, {text:String}) > 0)"
        )
        parameters["text"] = where.name_contains
    return " AND ".join(conditions), parameters


def _unique(states: Iterable[RunState]) -> list[RunState]:
    return list(dict.fromkeys(states))


def _join(keys: Iterable[int]) -> str:
    return ", ".join(str(int(key)) for key in keys)


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
