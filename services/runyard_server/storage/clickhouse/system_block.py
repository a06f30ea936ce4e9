"""Samples of machines on their way into ClickHouse: the tables of a block become columns, without a loop over samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from runyard_server.domain.points import Batch, Journal, PointTable, floor_to_ms


def sample_rows(batches: Sequence[Batch]) -> pa.Table | None:
    """Returns one row per sample of a metric; None if there is none."""
    parts = [
        _rows(batch, table)
        for batch in batches
        if batch.journal == Journal.SYSTEM
        for table in batch.tables
        if table.values.size
    ]
    return pa.concat_tables(parts) if parts else None


def _rows(batch: Batch, table: PointTable) -> pa.Table:
    rows, metrics = table.steps.size, len(table.metric_indexes)
    names = pa.array([batch.metric_names[index] for index in table.metric_indexes], pa.string())

    def for_each_metric(column: NDArray[Any]) -> NDArray[Any]:
        return np.tile(column, metrics)

    return pa.table(
        {
            "run": np.full(table.values.size, batch.run_key, np.uint64),
            "metric": names.take(pa.array(np.repeat(np.arange(metrics), rows))),
            "writer": np.full(table.values.size, batch.writer, np.uint32),
            "time": for_each_metric(floor_to_ms(table.times_unix_ns)),
            "value": table.values,
            "sequence": for_each_metric(table.sequences),
        }
    )
