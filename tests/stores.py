"""What tests of stores share: fresh run keys, batches written short, and what was stored read back as plain values."""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from runyard_server.domain.points import Batch, PointTable, SummaryChange
from runyard_server.domain.run import RunKey, make_run_key
from runyard_server.storage.ports.points import PointReader, SeriesPoints

TEST_RUNS_UNIX_MS = 1_760_000_000_000
_numbers = itertools.count(1)


class ManualClock:
    """A clock that stands still until it is told to move."""

    def __init__(self, *, unix_ns: int = 1_760_000_000_000_000_000, bits: int = 0) -> None:
        self.unix_ns = unix_ns
        self.bits = bits
        self.elapsed_s = 0.0

    def now_unix_ns(self) -> int:
        return self.unix_ns

    def monotonic_s(self) -> float:
        return self.elapsed_s

    def random_bits(self, bits: int) -> int:
        return self.bits & ((1 << bits) - 1)

    def advance(self, seconds: float) -> None:
        """Moves both clocks."""
        self.elapsed_s += seconds
        self.unix_ns += round(seconds * 1e9)


def new_run_key() -> RunKey:
    """Returns a run key that no other test of this process uses."""
    return make_run_key(TEST_RUNS_UNIX_MS + next(_numbers), os.getpid())


def table(
    metrics: Sequence[int],
    rows: Sequence[tuple[int, int, int]],
    values: Sequence[Sequence[float]],
) -> PointTable:
    """Returns a table; `rows` are (step, time in Unix ns, sequence), `values` one sequence per metric."""
    return PointTable(
        metric_indexes=tuple(metrics),
        steps=np.array([row[0] for row in rows], np.int64),
        times_unix_ns=np.array([row[1] for row in rows], np.int64),
        sequences=np.array([row[2] for row in rows], np.uint64),
        values=np.array([value for column in values for value in column], np.float64),
    )


def batch(
    run_key: RunKey,
    points: Mapping[str, Sequence[tuple[int, float]]],
    *,
    writer: int = 1,
    first_sequence: int = 1,
    last_sequence: int | None = None,
    changes: Sequence[SummaryChange] = (),
) -> Batch:
    """Returns a batch of (step, value) by metric; the k-th point of each metric is record first_sequence + k."""
    tables = []
    longest = 1
    for index, series in enumerate(points.values()):
        longest = max(longest, len(series))
        rows = [
            (step, TEST_RUNS_UNIX_MS * 1_000_000 + k, first_sequence + k)
            for k, (step, _) in enumerate(series)
        ]
        tables.append(table([index], rows, [[value for _, value in series]]))
    return Batch(
        run_key=run_key,
        writer=writer,
        first_sequence=first_sequence,
        last_sequence=last_sequence or first_sequence + longest - 1,
        metric_names=tuple(points),
        tables=tuple(tables),
        summary_changes=tuple(changes),
    )


@dataclass(frozen=True, slots=True)
class StoredPoint:
    """A point as it came back; the value as its bits, so that equal means equal."""

    step: int
    writer: int
    time_unix_ns: int
    bits: int


def stored_points(points: SeriesPoints) -> list[StoredPoint]:
    """Returns the points of a series as plain values."""
    rows = zip(
        points.steps.tolist(),
        points.writers.tolist(),
        points.times_unix_ns.tolist(),
        np.ascontiguousarray(points.values).view(np.uint64).tolist(),
        strict=True,
    )
    return [StoredPoint(*row) for row in rows]


async def read_all(
    reader: PointReader, run_key: RunKey, metrics: Sequence[str]
) -> dict[str, list[StoredPoint]]:
    """Returns all points of these metrics."""
    series, next_step = await reader.read_series(
        run_key, metrics, first_step=None, last_step=None, limit=1_000_000
    )
    assert next_step is None
    return {metric: stored_points(points) for metric, points in zip(metrics, series, strict=True)}


async def read_values(reader: PointReader, run_key: RunKey, metric: str) -> list[tuple[int, float]]:
    """Returns (step, value) of one series."""
    points = (await read_all(reader, run_key, [metric]))[metric]
    return [(point.step, float_of(point.bits)) for point in points]


def bits_of(value: float) -> int:
    """Returns the 64 bits of a double."""
    bits: int = struct.unpack("<Q", struct.pack("<d", value))[0]
    return bits


def float_of(bits: int) -> float:
    """Returns the double of 64 bits."""
    value: float = struct.unpack("<d", struct.pack("<Q", bits))[0]
    return value
