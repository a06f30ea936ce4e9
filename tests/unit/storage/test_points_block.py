"""A block's columns against the plain way of making them: sorted, each key once, the highest sequence kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from runyard_server.domain.points import Batch, metric_id
from runyard_server.domain.run import RunKey
from runyard_server.storage.clickhouse.points_block import (
    PointColumns,
    SeriesColumns,
    expand_block,
)
from runyard_server.storage.ports.points import BlockEntry
from tests.stores import bits_of, float_of, table

Row = tuple[int, int, int, int, int, int, int]
NAMES = ("a", "b", "c")
values = st.one_of(st.floats(width=64), st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 0.0]))


@st.composite
def blocks(draw: Callable[..., Any]) -> list[BlockEntry]:
    entries = []
    sequence = 1
    for _ in range(draw(st.integers(0, 5))):
        tables = []
        first = sequence
        for _ in range(draw(st.integers(0, 3))):
            indexes = draw(st.lists(st.integers(0, 2), unique=True, max_size=3))
            steps = draw(st.lists(st.integers(-3, 6), max_size=4))
            if draw(st.booleans()):
                steps.sort()
            rows = [(step, step * 1_000_000, sequence + k) for k, step in enumerate(steps)]
            sequence += len(steps)
            tables.append(table(indexes, rows, [[draw(values) for _ in rows] for _ in indexes]))
        run, writer = draw(st.integers(1, 2)), draw(st.integers(1, 2))
        names = tuple(draw(st.permutations(NAMES)))
        entries.append(
            BlockEntry(
                Batch(RunKey(run), writer, first, max(sequence, first), names, tuple(tables))
            )
        )
    return entries + draw(st.lists(st.sampled_from(entries), max_size=2)) if entries else entries


def plain_rows(entries: list[BlockEntry]) -> list[Row]:
    """Returns (run, metric, step, writer, sequence, ms, bits) of every point, one by one."""
    rows = []
    for entry in entries:
        batch = entry.batch
        for part in batch.tables:
            count = part.steps.size
            for place, index in enumerate(part.metric_indexes):
                for row in range(count):
                    rows.append(
                        (
                            int(batch.run_key),
                            metric_id(batch.metric_names[index]),
                            int(part.steps[row]),
                            batch.writer,
                            int(part.sequences[row]),
                            int(part.times_unix_ns[row]) // 1_000_000,
                            bits_of(float(part.values[place * count + row])),
                        )
                    )
    return rows


def rows_of(points: PointColumns) -> list[Row]:
    columns = (
        points.runs, points.metrics, points.steps, points.writers, points.sequences, points.times_unix_ms,
        points.values.view(np.uint64),
    )  # fmt: skip
    return list(zip(*(column.tolist() for column in columns), strict=True))


def check_series(rows: list[Row], all_rows: list[Row], series: SeriesColumns) -> None:
    keys = list(zip(series.runs.tolist(), series.metrics.tolist(), strict=True))
    assert keys == sorted({row[:2] for row in rows})
    for place, key in enumerate(keys):
        own = [row for row in rows if row[:2] == key]
        finite = [
            float_of(row[6])
            for row in all_rows
            if row[:2] == key and math.isfinite(float_of(row[6]))
        ]
        assert metric_id(series.names[place]) == key[1]
        assert series.first_steps[place] == own[0][2]
        assert series.last_steps[place] == own[-1][2]
        assert rows[series.first_positions[place]] == own[0]
        assert rows[series.last_positions[place]] == own[-1]
        assert series.lows[place] == min(finite, default=math.inf)
        assert series.highs[place] == max(finite, default=-math.inf)
        assert bits_of(float(series.lows[place])) != bits_of(-0.0)


@given(blocks())
def test_a_block_is_sorted_and_holds_each_key_once(entries: list[BlockEntry]) -> None:
    """Rows ascend by (run, metric, step, writer); of equal keys the highest sequence stays; series sum them up."""
    all_rows = plain_rows(entries)
    winners: dict[tuple[int, ...], Row] = {}
    for row in all_rows:
        if row[:4] not in winners or winners[row[:4]][4] <= row[4]:
            winners[row[:4]] = row
    expanded = expand_block(entries)
    if expanded is None:
        assert all_rows == []
        return
    points, series = expanded
    rows = rows_of(points)
    assert rows == [winners[key] for key in sorted(winners)]
    check_series(rows, all_rows, series)


def test_ids_of_names_never_change() -> None:
    """The id of a name is BLAKE2b-64 of its UTF-8, little-endian: stored data depends on it."""
    assert metric_id("loss") == 0x6CD3DEDC4CAA698E
    assert metric_id("ä/β") == 0x382CAFA01F9E4745
