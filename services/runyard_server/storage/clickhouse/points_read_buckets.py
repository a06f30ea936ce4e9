"""Reads downsampled series: from stored buckets where a rollup keeps them current, from points for the rest."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from runyard_server.domain.buckets import SHIFT_MAX, bucket_shift
from runyard_server.storage.clickhouse.engine import ClickHouse
from runyard_server.storage.clickhouse.points_read_columns import (
    Partials,
    as_one_bucket,
    column,
    has_shared_steps,
    merge_partials,
    raw_buckets,
    read_partials,
    read_points,
    rows_of,
    series_slices,
)
from runyard_server.storage.clickhouse.points_read_plan import (
    chunks,
    plan_source,
    steps_of,
    stored_span,
)
from runyard_server.storage.clickhouse.points_read_sql import (
    Rollup,
    Series,
    Source,
    Span,
    known_steps_sql,
    looks_sql,
    partials_sql,
    points_sql,
    ranges_sql,
    rollups_sql,
    touched_sql,
)
from runyard_server.storage.ports.points import BucketColumns, SeriesPoints

SERIES_PER_QUERY_MAX: Final = 500
SOURCES_PER_QUERY_MAX: Final = 32


@dataclass(frozen=True, slots=True)
class _Extent:
    """How many points of a series are in the range, and between which steps."""

    count: int
    first_step: int
    last_step: int


@dataclass(frozen=True, slots=True)
class _Look:
    """What the first look at series tells: the extents of short ones, the rollups of long ones."""

    extents: dict[Series, _Extent]
    rollups: dict[Series, Rollup]


@dataclass(frozen=True, slots=True)
class _Sources:
    """Where the points of a series with a rollup come from, with stored buckets and without."""

    mixed: Source
    raw: Source


class BucketReader:
    """Reads buckets of many series at once, in four queries at most, however many series are asked for up to 500."""

    def __init__(self, store: ClickHouse) -> None:
        self._store = store

    async def read(
        self, series: Sequence[Series], steps: Span, *, bucket_count_max: int
    ) -> dict[Series, BucketColumns]:
        """Returns the buckets of the series that have points in the range."""
        found: dict[Series, BucketColumns] = {}
        for chunk in chunks(series, SERIES_PER_QUERY_MAX):
            found.update(await self._read_chunk(chunk, steps, bucket_count_max))
        return found

    async def read_means(self, series: Sequence[Series]) -> dict[Series, float]:
        """Returns the mean of the finite values of each series that has points."""
        means: dict[Series, float] = {}
        for chunk in chunks(series, SERIES_PER_QUERY_MAX):
            look = await self._look(chunk, Span())
            sources = await self._sources(look.rollups, Span())
            wanted = [(SHIFT_MAX, s.mixed) for s in sources.values()]
            if look.extents:
                wanted.append((SHIFT_MAX, Source(tuple(look.extents), (Span(),))))
            for partials in await self._read_partials(wanted):
                merged = merge_partials(as_one_bucket(partials), defaultdict(lambda: SHIFT_MAX))
                means.update({one: float(buckets.means[0]) for one, buckets in merged.items()})
        return means

    async def _read_chunk(
        self, series: Sequence[Series], steps: Span, bucket_count_max: int
    ) -> dict[Series, BucketColumns]:
        look = await self._look(series, steps)
        plain = {one: Source((one,), (steps,)) for one in look.extents}
        found, rolled = await asyncio.gather(
            self._read_exact(look.extents, plain, steps, bucket_count_max),
            self._read_rolled(look.rollups, steps, bucket_count_max),
        )
        return found | rolled

    async def _read_rolled(
        self, rollups: Mapping[Series, Rollup], steps: Span, bucket_count_max: int
    ) -> dict[Series, BucketColumns]:
        """Reads long series at half the width that their catalogue suggests, which tells the width and, joined, the buckets.

        So their points are read once, not first for their extent. A guess that fails is made good by an exact read.
        """
        if not rollups:
            return {}
        sources, known = await asyncio.gather(
            self._sources(rollups, steps), self._known_steps(list(rollups))
        )
        guesses: dict[Series, int] = {}
        for one, source in sources.items():
            bounds = _within(known.get(one), steps)
            if bounds is not None and source.mixed.stored:
                guess = bucket_shift(*bounds, count_max=bucket_count_max) - 1
                if guess + 1 >= source.mixed.stored_shift:
                    guesses[one] = max(guess, source.mixed.stored_shift)
        found: dict[Series, BucketColumns] = {}
        wanted = [(shift, sources[one].mixed) for one, shift in guesses.items()]
        for partials in await self._read_partials(wanted):
            for one, rows in series_slices(partials["run"], partials["metric"]):
                part = partials.rows(rows)
                shift = _shift_of(_extent(part), bucket_count_max)
                if shift is not None and shift >= guesses[one]:
                    found |= merge_partials(part.widen(shift - guesses[one]), {one: shift})
        missed = {one: source for one, source in sources.items() if one not in found}
        if missed:
            extents = await self._extents(missed)
            raw = {one: source.raw for one, source in missed.items()}
            mixed = {one: source.mixed for one, source in missed.items()}
            for one, extent in extents.items():
                shift = _shift_of(extent, bucket_count_max)
                if shift is not None and mixed[one].stored and shift >= mixed[one].stored_shift:
                    raw[one] = mixed[one]
            found |= await self._read_exact(extents, raw, steps, bucket_count_max)
        return found

    async def _read_exact(
        self,
        extents: Mapping[Series, _Extent],
        sources: Mapping[Series, Source],
        steps: Span,
        bucket_count_max: int,
    ) -> dict[Series, BucketColumns]:
        """Reads series of known extent: as points where these are few, else from their sources at the right width."""
        shifts: dict[Series, int] = {}
        plain: dict[int, list[Series]] = defaultdict(list)
        wanted: list[tuple[int, Source]] = []
        for one, extent in extents.items():
            shift = _shift_of(extent, bucket_count_max)
            if shift is None:
                continue
            shifts[one] = shift
            if sources[one].stored:
                wanted.append((shift, sources[one]))
            else:
                plain[shift].append(one)
        wanted += [(shift, Source(tuple(members), (steps,))) for shift, members in plain.items()]
        raw = [one for one in extents if one not in shifts]
        points, partials = await asyncio.gather(
            self._read_points(raw, steps), self._read_partials(wanted)
        )
        # Where several writers logged one step, its points are one bucket: rarely known before they are read.
        shared = [one for one, part in points.items() if has_shared_steps(part)]
        if shared:
            shifts.update(dict.fromkeys(shared, 0))
            partials += await self._read_partials([(0, Source(tuple(shared), (steps,)))])
        found = {one: raw_buckets(part) for one, part in points.items() if one not in shifts}
        for part in partials:
            found.update(merge_partials(part, shifts))
        return found

    async def _look(self, series: Sequence[Series], steps: Span) -> _Look:
        table = await self._store.query_arrow(looks_sql(series, steps))
        extents: dict[Series, _Extent] = {}
        rollups: dict[Series, Rollup] = {}
        for run, metric, n, first, last, shift, end, covered in rows_of(table):
            if n:
                extents[run, metric] = _Extent(n, first, last)
            else:
                rollups[run, metric] = Rollup(shift, end, covered)
        missing = [one for one in series if one not in extents and one not in rollups]
        if missing:
            # Either without points in the range, or rolled up for the first time while the query ran.
            table = await self._store.query_arrow(rollups_sql(missing))
            for run, metric, shift, end, covered in rows_of(table):
                rollups[run, metric] = Rollup(shift, end, covered)
        return _Look(extents, rollups)

    async def _sources(
        self, rollups: Mapping[Series, Rollup], steps: Span
    ) -> dict[Series, _Sources]:
        """Finds which stored buckets are out of date, and plans around them."""
        sources: dict[Series, _Sources] = {}
        for chunk in chunks(list(rollups.items()), SOURCES_PER_QUERY_MAX):
            asked = []
            for one, rollup in chunk:
                span = stored_span(rollup, steps)
                if not span.is_empty:
                    asked.append((one, rollup, steps_of(span, rollup.shift)))
            touched: dict[Series, list[int]] = {}
            if asked:
                table = await self._store.query_arrow(touched_sql(asked))
                buckets = column(table, "bucket")
                for one, rows in _slices(table):
                    touched[one] = buckets[rows].tolist()
            for one, rollup in chunk:
                mixed, raw = plan_source(one, rollup, steps, touched.get(one, []))
                sources[one] = _Sources(mixed, raw)
        return sources

    async def _known_steps(self, series: Sequence[Series]) -> dict[Series, tuple[int, int]]:
        table = await self._store.query_arrow(known_steps_sql(series))
        return {(run, metric): (first, last) for run, metric, first, last in rows_of(table)}

    async def _extents(self, sources: Mapping[Series, _Sources]) -> dict[Series, _Extent]:
        extents: dict[Series, _Extent] = {}
        for chunk in chunks([s.mixed for s in sources.values()], SOURCES_PER_QUERY_MAX):
            table = await self._store.query_arrow(ranges_sql(chunk))
            for run, metric, n, first, last in rows_of(table):
                extents[run, metric] = _Extent(n, first, last)
        return extents

    async def _read_points(
        self, series: Sequence[Series], steps: Span
    ) -> dict[Series, SeriesPoints]:
        if not series:
            return {}
        return read_points(await self._store.query_arrow(points_sql(series, steps, limit=None)))

    async def _read_partials(self, sources: Sequence[tuple[int, Source]]) -> list[Partials]:
        tables = await asyncio.gather(
            *(
                self._store.query_arrow(partials_sql(chunk))
                for chunk in chunks(sources, SOURCES_PER_QUERY_MAX)
            )
        )
        return [read_partials(table) for table in tables]


def _extent(partials: Partials) -> _Extent:
    """Returns the extent of one series, which has rows."""
    return _Extent(
        count=int(partials["n"].sum()),
        first_step=int(partials["first_step"].min()),
        last_step=int(partials["last_step"].max()),
    )


def _shift_of(extent: _Extent, bucket_count_max: int) -> int | None:
    """Returns the width of the buckets as a power of two; None if the points come raw."""
    if extent.count <= bucket_count_max:
        return None
    return bucket_shift(extent.first_step, extent.last_step, count_max=bucket_count_max)


def _within(known: tuple[int, int] | None, steps: Span) -> tuple[int, int] | None:
    """Returns the first and last step that may be in the range; None if none is known."""
    if known is None:
        return None
    first = known[0] if steps.first is None else max(known[0], steps.first)
    last = known[1] if steps.end is None else min(known[1], steps.end - 1)
    return (first, last) if first <= last else None


def _slices(table: pa.Table) -> Iterable[tuple[Series, slice]]:
    if table.num_rows == 0:
        return ()
    return series_slices(column(table, "run"), column(table, "metric"))
