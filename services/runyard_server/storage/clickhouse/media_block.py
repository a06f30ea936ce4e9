"""Media values on their way into ClickHouse: one row each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from runyard_server.domain.points import Batch


def media_rows(batches: Sequence[Batch]) -> pa.Table | None:
    """Returns one row per value, in the order of the table's key; None if there is none."""
    owned = sorted(
        ((batch, value) for batch in batches for value in batch.media_values),
        key=lambda one: (one[0].run_key, one[1].name.encode(), one[1].step, one[0].writer),
    )
    if not owned:
        return None
    values = [value for _, value in owned]
    histograms = [value.histogram for value in values]
    return pa.table(
        {
            "run": pa.array([batch.run_key for batch, _ in owned], pa.uint64()),
            "name": pa.array([value.name for value in values], pa.string()),
            "step": pa.array([value.step for value in values], pa.int64()),
            "writer": pa.array([batch.writer for batch, _ in owned], pa.uint32()),
            "time": pa.array([value.time_unix_ns for value in values], pa.int64()),
            "kind": pa.array([value.kind for value in values], pa.uint8()),
            "size": pa.array([value.size_bytes for value in values], pa.uint32()),
            "items": pa.array([value.items_json for value in values], pa.string()),
            "edges": _lists([one.edges for one in histograms]),
            "counts": _lists([one.counts for one in histograms]),
            "non_finite": pa.array([one.non_finite_count for one in histograms], pa.uint64()),
            "sequence": pa.array([value.sequence for value in values], pa.uint64()),
        }
    )


def _lists(columns: Sequence[NDArray[np.float64]]) -> pa.ListArray:
    offsets = np.zeros(len(columns) + 1, np.int32)
    np.cumsum([column.size for column in columns], out=offsets[1:])
    flat = np.concatenate(columns) if columns else np.empty(0)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat, pa.float64()))
