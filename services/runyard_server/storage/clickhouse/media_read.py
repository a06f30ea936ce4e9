"""Reads media values from ClickHouse: the port MediaReader."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from runyard_server.domain.media import NO_HISTOGRAM, Histogram, MediaKind, MediaValue
from runyard_server.domain.run import HistoryPart, RunKey
from runyard_server.storage.clickhouse.engine import ClickHouse
from runyard_server.storage.clickhouse.points_read_plan import chunks
from runyard_server.storage.clickhouse.points_scoped_sql import counts_sql, parts_of, rank
from runyard_server.storage.ports.media import MediaKey, MediaStats, MediaSteps, StoredMedia
from runyard_server.storage.ports.points import NO_SCOPES, Scope, Scopes

# A run lies in one partition, so a repeat lies beside what it repeats.
_SETTINGS: Final = "SETTINGS do_not_merge_across_partitions_select_final = 1"
_RUNS_PER_QUERY_MAX: Final = 32
_STEPS_PER_QUERY_MAX: Final = 2_000
_SERIES_PER_QUERY_MAX: Final = 32
_STATS: Final = "name, step, kind, sequence"
_SIZES: Final = "name, step, size"
_VALUES: Final = "name, step, time, kind, items, edges, counts, non_finite, sequence"

_CHOSEN: Final = """SELECT run, name, step, bytes, steps FROM (
    SELECT run, name, step, bytes, toInt64(count() OVER (PARTITION BY run, name)) AS steps,
        toInt64(row_number() OVER (PARTITION BY run, name ORDER BY step)) - 1 AS place
    FROM (SELECT run, name, step, sum(size) AS bytes FROM ({source}) GROUP BY run, name, step)
) WHERE {condition} ORDER BY run, name, step {settings}"""


class ClickHouseMediaReader:
    """The port MediaReader over ClickHouse. Holds no state."""

    def __init__(self, store: ClickHouse) -> None:
        self._store = store

    async def list_media(self, run_key: RunKey, *, scopes: Scopes = NO_SCOPES) -> list[MediaStats]:
        """Returns the names of the run; see the port."""
        # Without FINAL: of a value that was stored again the highest sequence is taken here.
        source = _source(run_key, scopes, _STATS, final="")
        table = await self._store.query_arrow(
            f"""SELECT name, argMax(kind, (step, writer, sequence)) AS last_kind, min(step) AS first_step,
    max(step) AS last_step, uniqExact(step) AS steps
FROM ({source}) GROUP BY name ORDER BY name {_SETTINGS}"""
        )
        return [
            MediaStats(
                row["name"], row["last_kind"], row["first_step"], row["last_step"], row["steps"]
            )
            for row in table.to_pylist()
        ]

    async def choose_steps(
        self,
        keys: Sequence[MediaKey],
        *,
        first_step: int | None,
        last_step: int | None,
        step_count_max: int,
        scopes: Scopes = NO_SCOPES,
    ) -> dict[MediaKey, MediaSteps]:
        """Returns chosen steps; see the port."""
        names: dict[RunKey, list[str]] = defaultdict(list)
        for run_key, name in keys:
            names[run_key].append(name)
        found: dict[MediaKey, tuple[list[int], list[int], int]] = {}
        for chunk in chunks(list(names), _RUNS_PER_QUERY_MAX):
            asked = list(dict.fromkeys(name for run_key in chunk for name in names[run_key]))
            wanted = ["name IN {names:Array(String)}"]
            if first_step is not None:
                wanted.append(f"step >= {int(first_step)}")
            if last_step is not None:
                wanted.append(f"step <= {int(last_step)}")
            sources = [_source(one, scopes, _SIZES, " AND ".join(wanted)) for one in chunk]
            sql = _CHOSEN.format(
                source="\nUNION ALL\n".join(sources),
                condition=_is_chosen(step_count_max),
                settings=_SETTINGS,
            )
            table = await self._store.query_arrow(sql, {"names": asked})
            for row in table.to_pylist():
                key = (RunKey(row["run"]), row["name"])
                steps, sizes, _ = found.setdefault(key, ([], [], row["steps"]))
                steps.append(row["step"])
                sizes.append(row["bytes"])
        return {
            key: MediaSteps(tuple(found[key][0]), tuple(found[key][1]), found[key][2])
            for key in dict.fromkeys(keys)
            if key in found
        }

    async def read_values(
        self, steps: Mapping[MediaKey, Sequence[int]], *, scopes: Scopes = NO_SCOPES
    ) -> dict[MediaKey, list[StoredMedia]]:
        """Returns the values at these steps; see the port."""
        found: dict[MediaKey, list[StoredMedia]] = {}
        pieces = [
            (key, chunk)
            for key, wanted in steps.items()
            for chunk in chunks(sorted(set(wanted)), _STEPS_PER_QUERY_MAX)
        ]
        for some in _together(pieces):
            sources, parameters = [], {}
            for place, ((run_key, name), wanted) in enumerate(some):
                parameters[f"name{place}"] = name
                listed = ", ".join(str(int(step)) for step in wanted)
                condition = f"name = {{name{place}:String}} AND step IN ({listed})"
                sources.append(_source(run_key, scopes, _VALUES, condition))
            union = "\nUNION ALL\n".join(sources)
            table = await self._store.query_arrow(
                f"SELECT * FROM ({union}) ORDER BY run, name, step, writer {_SETTINGS}", parameters
            )
            for key, value in _stored(table):
                found.setdefault(key, []).append(value)
        return found

    async def read_last_step(self, run_key: RunKey, *, scopes: Scopes = NO_SCOPES) -> int | None:
        """Returns the largest step with a value; see the port."""
        source = _source(run_key, scopes, "step", final="")
        table = await self._store.query_arrow(
            f"SELECT count() AS n, max(step) AS step FROM ({source}) {_SETTINGS}"
        )
        return int(table["step"][0].as_py()) if table["n"][0].as_py() else None


def _source(
    run_key: RunKey, scopes: Scopes, columns: str, condition: str = "1", *, final: str = "FINAL"
) -> str:
    """Returns the query for what counts of a run, wherever it lies: run, owner, writer (a rank, see points_scoped_sql), columns."""
    scope = scopes.get(run_key) or Scope((HistoryPart(run_key),))
    selects = []
    for depth, part in enumerate(parts_of(scope)):
        where = counts_sql(part, scope.writers, step="step", writer="writer")
        # In two steps: beside `AS run` and `AS writer` the conditions would mean these, and not the columns.
        selects.append(
            f"SELECT toUInt64({int(run_key)}) AS run, owner, toUInt32({rank(depth)} + own_writer) AS writer, {columns}"
            f"\nFROM (SELECT run AS owner, writer AS own_writer, {columns} FROM media {final}"
            f"\n    WHERE {where} AND {condition})"
        )
    return "\nUNION ALL\n".join(selects)


def _is_chosen(count_max: int) -> str:
    """Returns the condition that `place` of `steps` is one of ports.media.chosen_places."""
    if count_max == 1:
        return "place = steps - 1"
    last = count_max - 1
    # The first k for which floor(k * (steps - 1) / last) can be `place`, and whether it is.
    first = f"intDiv(place * {last} + steps - 2, steps - 1)"
    return f"steps <= {count_max} OR intDiv({first} * (steps - 1), {last}) = place"


def _together(
    pieces: Sequence[tuple[MediaKey, Sequence[int]]],
) -> list[list[tuple[MediaKey, Sequence[int]]]]:
    """Returns the pieces, so many together as one query bears."""
    groups: list[list[tuple[MediaKey, Sequence[int]]]] = []
    count = _STEPS_PER_QUERY_MAX
    for piece in pieces:
        count += len(piece[1])
        if count > _STEPS_PER_QUERY_MAX or len(groups[-1]) >= _SERIES_PER_QUERY_MAX:
            groups.append([])
            count = len(piece[1])
        groups[-1].append(piece)
    return groups


def _stored(table: pa.Table) -> list[tuple[MediaKey, StoredMedia]]:
    columns: dict[str, Any] = {
        name: table[name].to_pylist()
        for name in table.column_names
        if name not in ("edges", "counts")
    }
    own_rank = rank(0)
    found = []
    for place in range(table.num_rows):
        kind = columns["kind"][place]
        histogram = NO_HISTOGRAM
        if kind == MediaKind.HISTOGRAM:
            histogram = Histogram(
                _floats(table, "edges", place),
                _floats(table, "counts", place),
                columns["non_finite"][place],
            )
        writer = columns["writer"][place]
        value = MediaValue(
            sequence=columns["sequence"][place],
            name=columns["name"][place],
            step=columns["step"][place],
            time_unix_ns=columns["time"][place],
            kind=kind,
            items_json=columns["items"][place],
            histogram=histogram,
        )
        stored = StoredMedia(
            RunKey(columns["owner"][place]), writer - own_rank if writer >= own_rank else 0, value
        )
        found.append(((RunKey(columns["run"][place]), value.name), stored))
    return found


def _floats(table: pa.Table, name: str, place: int) -> np.ndarray:
    return np.asarray(table[name][place].values.to_numpy(zero_copy_only=False), np.float64)
