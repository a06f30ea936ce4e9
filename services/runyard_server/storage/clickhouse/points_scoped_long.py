"""Reads long series of rewound and forked runs: from stored buckets of which all points count, from points for the rest."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import pyarrow as pa

from runyard_server.domain.buckets import SHIFT_MAX, bucket_shift
from runyard_server.domain.run import HistoryPart
from runyard_server.storage.clickhouse.engine import ClickHouse
from runyard_server.storage.clickhouse.points_read_columns import (
    Partials,
    as_one_bucket,
    merge_partials,
    read_partials,
    rows_of,
)
from runyard_server.storage.clickhouse.points_read_plan import (
    chunks,
    plan_source,
    span_of_steps,
    steps_of,
    stored_span,
)
from runyard_server.storage.clickhouse.points_read_sql import (
    Rollup,
    Series,
    Source,
    Span,
    rollups_sql,
    touched_sql,
)
from runyard_server.storage.clickhouse.points_scoped_sql import (
    Piece,
    excluding_sql,
    parts_of,
    pieces_extents_sql,
    pieces_partials_sql,
)
from runyard_server.storage.ports.points import BucketColumns, Scope

_SERIES_PER_QUERY_MAX: Final = 500
_PIECES_PER_QUERY_MAX: Final = 32


@dataclass(frozen=True, slots=True)
class _Stored:
    """A piece whose stored buckets, of these steps, may hold points that do not count or came after them."""

    piece: Piece
    rollup: Rollup
    steps: Span
    """Those of the piece."""
    stored_steps: Span


class LongScopedReader:
    """Reads those series that have stored buckets in a part of their history; of others it says nothing."""

    def __init__(self, store: ClickHouse) -> None:
        self._store = store

    async def read_buckets(
        self, series: Mapping[Series, Scope], steps: Span, *, bucket_count_max: int
    ) -> dict[Series, BucketColumns]:
        """Returns the buckets of those series that stored ones are fine enough for."""
        pieces = await self._pieces(series, steps)
        extents: dict[Series, tuple[int, int, int]] = {}
        for chunk in chunks(_flat(pieces), _PIECES_PER_QUERY_MAX):
            table = await self._store.query_arrow(pieces_extents_sql(chunk))
            for run, metric, count, first, last in rows_of(table):
                known = extents.get((run, metric), (0, first, last))
                extents[run, metric] = (known[0] + count, min(known[1], first), max(known[2], last))
        shifts: dict[Series, int] = {}
        for one, (count, first, last) in extents.items():
            shift = bucket_shift(first, last, count_max=bucket_count_max)
            if count > bucket_count_max and shift >= _stored_shift(pieces[one]):
                shifts[one] = shift
        partials = await self._read_partials(pieces, shifts)
        return merge_partials(partials, shifts) if partials else {}

    async def read_whole(self, series: Mapping[Series, Scope]) -> dict[Series, BucketColumns]:
        """Returns one bucket of all points of each series."""
        pieces = await self._pieces(series, Span())
        shifts = dict.fromkeys(pieces, SHIFT_MAX)
        partials = await self._read_partials(pieces, shifts)
        return merge_partials(as_one_bucket(partials), shifts) if partials else {}

    async def _read_partials(
        self, pieces: Mapping[Series, Sequence[Piece]], shifts: Mapping[Series, int]
    ) -> Partials | None:
        # A series whose pieces come from two queries must be joined before it is merged: so all are read, then ordered.
        wanted = [(shift, piece) for one, shift in shifts.items() for piece in pieces[one]]
        tables = await asyncio.gather(
            *(
                self._store.query_arrow(pieces_partials_sql(chunk))
                for chunk in chunks(wanted, _PIECES_PER_QUERY_MAX)
            )
        )
        if not tables:
            return None
        table = pa.concat_tables(tables)
        if len(tables) > 1:
            keys = [(name, "ascending") for name in ("run", "metric", "bucket", "class")]
            table = table.sort_by(keys)
        return read_partials(table)

    async def _pieces(
        self, series: Mapping[Series, Scope], steps: Span
    ) -> dict[Series, list[Piece]]:
        """Returns what each series with stored buckets consists of."""
        # Of some writers only: nearly each stored bucket holds points of others.
        whole = {one: scope for one, scope in series.items() if not scope.writers}
        rollups = await self._rollups(
            {(int(part.run_key), one[1]) for one, scope in whole.items() for part in scope.parts}
        )
        pieces: dict[Series, list[Piece]] = {}
        stored: list[_Stored] = []
        for one, scope in whole.items():
            if not any((int(part.run_key), one[1]) in rollups for part in scope.parts):
                continue
            pieces[one] = []
            for depth, part in enumerate(parts_of(scope)):
                source = (int(part.run_key), one[1])
                own_steps = _up_to(steps, part.last_step)
                if own_steps.is_empty:
                    continue
                piece = Piece(one, depth, part, (), Source((source,), (own_steps,)))
                span = stored_span(rollups[source], own_steps) if source in rollups else None
                if span is None or span.is_empty:
                    pieces[one].append(piece)
                else:
                    shift = rollups[source].shift
                    stored.append(_Stored(piece, rollups[source], own_steps, steps_of(span, shift)))
        again = await self._again(stored)
        for found in stored:
            (source,) = found.piece.source.series
            span = stored_span(found.rollup, found.steps)
            inside = sorted(bucket for bucket in again.get(source, ()) if _holds(span, bucket))
            mixed, _ = plan_source(source, found.rollup, found.steps, inside)
            pieces[found.piece.series].append(replace(found.piece, source=mixed))
        return {one: some for one, some in pieces.items() if some}

    async def _rollups(self, sources: Iterable[Series]) -> dict[Series, Rollup]:
        found: dict[Series, Rollup] = {}
        for chunk in chunks(list(sources), _SERIES_PER_QUERY_MAX):
            table = await self._store.query_arrow(rollups_sql(chunk))
            for run, metric, shift, end, covered in rows_of(table):
                found[run, metric] = Rollup(shift, end, covered)
        return found

    async def _again(self, stored: Sequence[_Stored]) -> dict[Series, set[int]]:
        """Returns the stored buckets that must be read from points, by the series in which they are stored."""
        again: dict[Series, set[int]] = defaultdict(set)
        for chunk in chunks(stored, _PIECES_PER_QUERY_MAX):
            touched = [(s.piece.source.series[0], s.rollup, s.stored_steps) for s in chunk]
            excluding = [
                (s.piece.part, (), s.piece.source.series[0], s.rollup, some)
                for s in chunk
                for some in _excluding_steps(s.piece.part, s.stored_steps)
            ]
            queries = [touched_sql(touched)] + ([excluding_sql(excluding)] if excluding else [])
            for table in await asyncio.gather(*map(self._store.query_arrow, queries)):
                for run, metric, bucket in rows_of(table):
                    again[run, metric].add(bucket)
        return again


def _excluding_steps(part: HistoryPart, steps: Span) -> list[Span]:
    """Returns the steps at which points of the part may not count; beyond its last step nobody looks."""
    if part.writer_max:
        return [steps]
    if not part.cuts:
        return []
    first = min(cut.last_step for cut in part.cuts) + 1
    some = Span(first if steps.first is None else max(first, steps.first), steps.end)
    return [] if some.is_empty else [some]


def _up_to(steps: Span, last_step: int | None) -> Span:
    end = span_of_steps(None, last_step).end
    if end is None or (steps.end is not None and steps.end <= end):
        return steps
    return Span(steps.first, end)


def _holds(span: Span, bucket: int) -> bool:
    return (span.first is None or bucket >= span.first) and (span.end is None or bucket < span.end)


def _stored_shift(pieces: Iterable[Piece]) -> int:
    return max(piece.source.stored_shift for piece in pieces)


def _flat(pieces: Mapping[Series, Sequence[Piece]]) -> list[Piece]:
    return [piece for some in pieces.values() for piece in some]
