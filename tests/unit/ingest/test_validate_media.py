"""Media values on the way in: what may be stored passes, what may not is refused alone and by name, limits are exact."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from runyard_server.domain.errors import InvalidArgument
from runyard_server.domain.media import BINS_MAX, ITEMS_BYTES_MAX, MediaKind, MediaValue
from runyard_server.domain.points import Batch, Journal, Rejection
from runyard_server.domain.run import RunKey
from runyard_server.ingest.dedupe import batch_key
from runyard_server.ingest.validate import BatchLimits, batch_bytes, validate_batch
from tests.media_values import histogram, media, media_batch

LIMITS = BatchLimits(4 << 20, 64, metric_name_bytes_max=16)
RUN = RunKey(1_760_000_000_000 << 22)


def image(**changes: Any) -> MediaValue:
    return replace(media("x", 0), **changes)


def text_of(size_bytes: int) -> str:
    """Returns items of exactly that size."""
    empty = json.dumps([{"caption": ""}])
    return json.dumps([{"caption": "x" * (size_bytes - len(empty))}])


GOOD = [
    image(),
    image(items_json='[{"a":{"$float":"NaN"}},{}]'),
    image(items_json=text_of(ITEMS_BYTES_MAX)),
    image(step=-(2**63)),
    *[image(kind=kind) for kind in MediaKind if kind != MediaKind.HISTOGRAM],
    histogram("h", 0, [0.0, 1.0, 1.0], [0, 2.5]),
    histogram("h", 0, np.arange(BINS_MAX + 1.0).tolist(), [1.0] * BINS_MAX),
    histogram("h", 0, [], [], non_finite_count=7),
    histogram("h", 0, [1.0], []),
]


@pytest.mark.parametrize("value", GOOD, ids=range(len(GOOD)))
def test_good_values_pass(value: MediaValue) -> None:
    """What the contract allows is stored, and nothing is told."""
    batch = media_batch(RUN, [value])
    valid = validate_batch(batch, LIMITS)
    assert valid.batch.media_values == (value,)
    assert valid.rejections == ()


BAD = [
    (image(name=""), "METRIC_NAME_INVALID", "is empty"),
    (image(name="a\nb"), "METRIC_NAME_INVALID", "control character"),
    (image(name="x" * 17), "METRIC_NAME_INVALID", "17 bytes, at most 16"),
    (image(kind=0), "FIELD_INVALID", "kind 0"),
    (image(kind=8), "FIELD_INVALID", "older than the client"),
    (image(items_json=text_of(ITEMS_BYTES_MAX + 1)), "FIELD_TOO_LARGE", f"at most {ITEMS_BYTES_MAX}"),
    (image(items_json=""), "FIELD_INVALID", "not extended JSON"),
    (image(items_json="[]"), "FIELD_INVALID", "no items"),
    (image(items_json="{}"), "FIELD_INVALID", "no JSON array"),
    (image(items_json="[1]"), "FIELD_INVALID", "no JSON array"),
    (image(items_json='[{"a":NaN}]'), "FIELD_INVALID", "NaN"),
    (image(items_json='[{}],"b":[{}]'), "FIELD_INVALID", "not extended JSON"),
    (image(items_json="[" * 100_000), "FIELD_INVALID", "not extended JSON"),
    (image(kind=MediaKind.HISTOGRAM), "FIELD_INVALID", "has items"),
    (replace(histogram("h", 0, [0, 1], [1]), kind=MediaKind.IMAGE), "FIELD_INVALID", "no histogram"),
    (histogram("h", 0, [0, 1], [1, 2]), "COLUMN_LENGTH_MISMATCH", "2 edges for 2 bins"),
    (histogram("h", 0, [], [1]), "COLUMN_LENGTH_MISMATCH", "0 edges for 1 bins"),
    (histogram("h", 0, [1, 0], [1]), "FIELD_INVALID", "0.0 behind 1.0"),
    (histogram("h", 0, [0, math.inf], [1]), "FIELD_INVALID", "edge inf"),
    (histogram("h", 0, [0, math.nan, 2], [1, 1]), "FIELD_INVALID", "edge nan"),
    (histogram("h", 0, [0, 1], [-1]), "FIELD_INVALID", "-1.0 values"),
    (histogram("h", 0, [0, 1], [math.nan]), "FIELD_INVALID", "nan values"),
    (histogram("h", 0, list(range(BINS_MAX + 2)), [1] * (BINS_MAX + 1)), "FIELD_TOO_LARGE", "513 bins"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "reason", "text"), BAD, ids=range(len(BAD)))
def test_a_bad_value_is_refused_alone(value: MediaValue, reason: str, text: str) -> None:
    """The rest of the batch is stored; the rejection names the value, what is wrong, and counts."""
    good = media("good", 1, sequence=2)
    valid = validate_batch(media_batch(RUN, [replace(value, sequence=1), good]), LIMITS)
    assert valid.batch.media_values == (good,)
    (rejection,) = valid.rejections
    assert (rejection.metric, rejection.reason, rejection.points) == (value.name, reason, 1)
    assert text in rejection.message
    assert valid.points_rejected == 1


def test_equal_problems_are_told_once() -> None:
    """A name that is wrong at every step comes as one rejection with a count."""
    values = [media("x", step, sequence=step + 1, kind=99) for step in range(5)]
    (rejection,) = validate_batch(media_batch(RUN, values), LIMITS).rejections
    assert rejection == Rejection("x", "FIELD_INVALID", rejection.message, 5)


@pytest.mark.parametrize(
    ("batch", "field"),
    [
        (replace(media_batch(RUN, [image()]), journal=Journal.SYSTEM), "journal"),
        (replace(media_batch(RUN, [image()]), journal=Journal.CONSOLE), "journal"),
        (media_batch(RUN, [image(sequence=2), image(sequence=1), image(sequence=2)]), "media_values[1].sequence"),
        (replace(media_batch(RUN, [image(sequence=3)]), last_sequence=2, first_sequence=1), "media_values[0].sequence"),
    ],
)  # fmt: skip
def test_what_breaks_the_batch_is_malformed(batch: Batch, field: str) -> None:
    """Values of another journal, or records outside the batch's range, refuse it whole."""
    with pytest.raises(InvalidArgument) as caught:
        validate_batch(batch, LIMITS)
    assert caught.value.metadata["field"] == field


def test_values_count_towards_the_size_and_the_shape_of_a_batch() -> None:
    """Items and bins are part of the 4 MiB; batches of one range with other values are no repeats of each other."""
    one = media_batch(RUN, [histogram("h", 0, [0, 1, 2], [1, 1]), image()])
    size_bytes = batch_bytes(one)
    assert size_bytes >= 40 + len(image().items_json)
    with pytest.raises(InvalidArgument) as caught:
        validate_batch(one, replace(LIMITS, batch_bytes_max=size_bytes - 1))
    assert caught.value.reason == "FIELD_TOO_LARGE"
    other = replace(one, media_values=(replace(one.media_values[0], step=1), image()))
    assert batch_key(one) != batch_key(other)
    assert batch_key(one) == batch_key(replace(one))
