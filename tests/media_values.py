"""What tests of media values share: values written short, batches of them, and equality of values that hold arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from runyard_server.domain.media import NO_HISTOGRAM, Histogram, MediaKind, MediaValue
from runyard_server.domain.points import Batch
from runyard_server.domain.run import RunKey


def media(
    name: str,
    step: int,
    *,
    sequence: int = 1,
    kind: int = MediaKind.IMAGE,
    items_json: str = '[{"file":"a.png"}]',
) -> MediaValue:
    """Returns a value with items."""
    return MediaValue(sequence, name, step, 1_760_000_000_123_456_789 + step, kind, items_json)


def histogram(
    name: str,
    step: int,
    edges: Sequence[float],
    counts: Sequence[float],
    *,
    sequence: int = 1,
    non_finite_count: int = 0,
) -> MediaValue:
    """Returns a histogram."""
    bins = Histogram(np.array(edges, float), np.array(counts, float), non_finite_count)
    return MediaValue(sequence, name, step, 17, MediaKind.HISTOGRAM, "", bins)


def media_batch(run_key: RunKey, values: Sequence[MediaValue], *, writer: int = 1) -> Batch:
    """Returns a batch of values, by sequence."""
    first, last = values[0].sequence, values[-1].sequence
    return Batch(run_key, writer, first, last, (), (), media_values=tuple(values))


def plain(value: MediaValue) -> tuple[Any, ...]:
    """Returns the value as what can be compared, floats as their bits."""
    bins = value.histogram if value.kind == MediaKind.HISTOGRAM else NO_HISTOGRAM
    return (
        value.sequence,
        value.name,
        value.step,
        value.time_unix_ns,
        value.kind,
        value.items_json,
        bins.edges.tobytes(),
        bins.counts.tobytes(),
        bins.non_finite_count,
    )
