"""Any batch: accepted and rejected points are the points given, order is kept, limits are exact at n-1, n and n+1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard_server.domain.console import ConsoleBlock
from runyard_server.domain.errors import InvalidArgument
from runyard_server.domain.points import SEQUENCE_MAX, WRITER_MAX, Batch, Journal, SummaryChange
from runyard_server.domain.run import RunKey
from runyard_server.ingest.validate import (
    BatchLimits,
    Problem,
    batch_bytes,
    refuse_metrics,
    validate_batch,
)
from tests.stores import batch, table

LIMITS = BatchLimits(batch_bytes_max=100_000, summary_value_bytes_max=64, metric_name_bytes_max=16)
RUN = RunKey(1_760_000_000_000 << 22)
GOOD = Batch(
    RUN, 1, 5, 9, ("a", "b"), (table([0, 1], [(0, 0, 5), (1, 0, 7)], [[1.0, 2.0], [3.0, 4.0]]),)
)
only = GOOD.tables[0]


def with_table(**changes: Any) -> Batch:
    return replace(GOOD, tables=(only, replace(only, **changes)))


def columns(*values: int, kind: type = np.int64) -> np.ndarray[Any, Any]:
    return np.array(values, kind)


def test_a_good_batch_passes_untouched() -> None:
    """A batch without a fault is the same object afterwards: nothing was copied."""
    valid = validate_batch(GOOD, LIMITS)
    assert valid.batch is GOOD
    assert valid.rejections == ()
    longest = replace(LINES, line_count=1, text=b"x" * 65_536)
    lines = replace(CONSOLE, console_blocks=(LINES, longest))
    assert validate_batch(lines, LIMITS).batch is lines


LINES = ConsoleBlock(5, 1, 2, 1, 0, b"a\nb")
CONSOLE = Batch(RUN, 1, 5, 9, (), (), journal=Journal.CONSOLE, console_blocks=(LINES,))


def with_lines(**changes: Any) -> Batch:
    return replace(CONSOLE, console_blocks=(LINES, replace(LINES, sequence=6, **changes)))


MALFORMED: list[tuple[str, Batch, str, str]] = [
    ("lines in the run's", replace(GOOD, console_blocks=(LINES,)), "FIELD_INVALID", "journal"),
    ("points in the console's", replace(CONSOLE, metric_names=("a",)), "FIELD_INVALID", "journal"),
    ("line 0", with_lines(first_line=0), "FIELD_INVALID", "console_blocks[1].first_line"),
    ("no lines", with_lines(line_count=0), "FIELD_INVALID", "console_blocks[1].line_count"),
    ("lines lacking", with_lines(line_count=3), "COLUMN_LENGTH_MISMATCH", "console_blocks[1].text"),
    ("stream", with_lines(stream=4), "FIELD_INVALID", "console_blocks[1].stream"),
    ("line long", with_lines(line_count=1, text=b"x" * 65_537), "FIELD_TOO_LARGE", "console_blocks[1].text"),
    ("back", replace(CONSOLE, console_blocks=(replace(LINES, sequence=7), LINES)), "FIELD_INVALID", "console_blocks[1].sequence"),
    ("beyond", replace(CONSOLE, console_blocks=(replace(LINES, sequence=10),)), "FIELD_INVALID", "console_blocks[0].sequence"),
    ("run", replace(GOOD, run_key=RunKey(0)), "FIELD_INVALID", "run_key"),
    ("writer 0", replace(GOOD, writer=0), "FIELD_INVALID", "writer"),
    ("writer high", replace(GOOD, writer=WRITER_MAX + 1), "FIELD_INVALID", "writer"),
    ("sequence 0", replace(GOOD, first_sequence=0), "FIELD_INVALID", "first_sequence"),
    ("range back", replace(GOOD, last_sequence=4), "FIELD_INVALID", "last_sequence"),
    ("range high", replace(GOOD, last_sequence=SEQUENCE_MAX + 1), "FIELD_INVALID", "last_sequence"),
    ("names repeat", replace(GOOD, metric_names=("a", "a")), "FIELD_INVALID", "metric_names[1]"),
    ("index high", with_table(metric_indexes=(0, 2)), "FIELD_INVALID", "tables[1].metric_indexes"),
    ("index twice", with_table(metric_indexes=(1, 1)), "FIELD_INVALID", "tables[1].metric_indexes"),
    ("times short", with_table(times_unix_ns=columns(1)), "COLUMN_LENGTH_MISMATCH", "tables[1].times_unix_ns"),
    ("sequences long", with_table(sequences=columns(5, 6, 7, kind=np.uint64)), "COLUMN_LENGTH_MISMATCH", "tables[1].sequences"),
    ("values short", with_table(values=np.zeros(3)), "COLUMN_LENGTH_MISMATCH", "tables[1].values"),
    ("values without metrics", with_table(metric_indexes=()), "COLUMN_LENGTH_MISMATCH", "tables[1].values"),
    ("sequences equal", with_table(sequences=columns(6, 6, kind=np.uint64)), "FIELD_INVALID", "tables[1].sequences"),
    ("sequences back", with_table(sequences=columns(7, 6, kind=np.uint64)), "FIELD_INVALID", "tables[1].sequences"),
    ("sequence before", with_table(sequences=columns(4, 6, kind=np.uint64)), "FIELD_INVALID", "tables[1].sequences"),
    ("sequence after", with_table(sequences=columns(6, 10, kind=np.uint64)), "FIELD_INVALID", "tables[1].sequences"),
    ("change before", replace(GOOD, summary_changes=(SummaryChange(4, "k", "1"),)), "FIELD_INVALID", "summary_changes[0].sequence"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("bad", "reason", "field"), [row[1:] for row in MALFORMED], ids=[row[0] for row in MALFORMED]
)
def test_a_malformed_batch_is_refused_by_name(bad: Batch, reason: str, field: str) -> None:
    """The error names the field, its value and the limit."""
    with pytest.raises(InvalidArgument) as caught:
        validate_batch(bad, LIMITS)
    assert caught.value.reason == reason
    assert caught.value.metadata["field"] == field
    assert caught.value.metadata["value"]
    assert field in caught.value.message


def test_edges_of_ranges_are_allowed() -> None:
    """Writer, sequences and the largest batch are allowed at their limits exactly."""
    high = replace(GOOD, writer=WRITER_MAX, last_sequence=SEQUENCE_MAX)
    assert validate_batch(high, LIMITS).batch is high
    exact = replace(LIMITS, batch_bytes_max=batch_bytes(GOOD))
    assert validate_batch(GOOD, exact).batch is GOOD
    with pytest.raises(InvalidArgument) as caught:
        validate_batch(GOOD, replace(exact, batch_bytes_max=exact.batch_bytes_max - 1))
    assert caught.value.reason == "FIELD_TOO_LARGE"
    assert caught.value.metadata["limit"] == str(exact.batch_bytes_max - 1)


def test_an_empty_batch_is_fine() -> None:
    """A batch may have no points: its records changed something else."""
    empty = Batch(RUN, 1, 1, 1, (), ())
    assert validate_batch(empty, LIMITS).batch is empty
    no_rows = Batch(RUN, 1, 1, 1, ("a",), (table([0], [], [[]]),))
    assert validate_batch(no_rows, LIMITS).batch.point_count == 0


@pytest.mark.parametrize(
    ("name", "is_good"),
    [
        ("", False),
        ("x" * 15, True),
        ("x" * 16, True),
        ("x" * 17, False),
        ("ä" * 8, True),
        ("ä" * 8 + "x", False),
        ("a\nb", False),
        ("a\x00", False),
        ("\x85", False),
        ("a b/c.d", True),
        ("\u200b", True),
        ("😀" * 4, True),
    ],
)
def test_bad_names_are_refused_alone(name: str, is_good: bool) -> None:
    """A bad name takes its own points away and no others; the rejection counts them over all tables."""
    one = Batch(
        RUN, 1, 1, 9, ("a", name),
        (table([0, 1], [(0, 0, 1), (1, 0, 2)], [[1.0, 2.0], [3.0, 4.0]]), table([1], [(9, 0, 9)], [[5.0]])),
    )  # fmt: skip
    valid = validate_batch(one, LIMITS)
    if is_good:
        assert valid.batch is one
        return
    (rejection,) = valid.rejections
    assert (rejection.metric, rejection.reason, rejection.points) == (
        name,
        "METRIC_NAME_INVALID",
        3,
    )
    assert valid.points_rejected == 3
    assert [t.values.tolist() for t in valid.batch.tables] == [[1.0, 2.0]]
    assert valid.batch.metric_names == one.metric_names


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (SummaryChange(5, "", "1"), "METRIC_NAME_INVALID"),
        (SummaryChange(5, "k" * 17, "1"), "METRIC_NAME_INVALID"),
        (SummaryChange(5, "k", "{"), "FIELD_INVALID"),
        (SummaryChange(5, "k", "NaN"), "FIELD_INVALID"),
        (SummaryChange(5, "k", '1,"value":2'), "FIELD_INVALID"),
        (SummaryChange(5, "k", '{"$float":"nan"}'), "FIELD_INVALID"),
        (SummaryChange(5, "k", '"' + "x" * 63 + '"'), "FIELD_TOO_LARGE"),
        (SummaryChange(5, "k", "[" * 32 + "]" * 32), None),
        (SummaryChange(5, "k", '"' + "x" * 62 + '"'), None),
        (SummaryChange(5, "k", ""), None),
        (SummaryChange(5, "k", '{"$float":"NaN"}'), None),
        (SummaryChange(5, "k", "18446744073709551615"), None),
    ],
)
def test_bad_changes_are_refused_alone(change: SummaryChange, reason: str | None) -> None:
    """A change that cannot be stored is told as a rejection; the other changes and the points stay."""
    good = SummaryChange(6, "good", "2")
    valid = validate_batch(replace(GOOD, summary_changes=(change, good)), LIMITS)
    assert [rejection.reason for rejection in valid.rejections] == ([reason] if reason else [])
    assert valid.batch.summary_changes == ((good,) if reason else (change, good))
    assert valid.batch.tables is GOOD.tables


def test_a_long_name_is_cut_in_the_rejection() -> None:
    """A name of any length comes back as at most 512 bytes of whole characters."""
    one = batch(RUN, {"ä" * 1000: [(0, 0.0)]})
    (rejection,) = validate_batch(one, LIMITS).rejections
    assert rejection.metric == "ä" * 256
    assert len(rejection.message) < 400


names = st.lists(st.text(max_size=20), unique=True, max_size=6)


@st.composite
def batches(draw: Callable[..., Any]) -> Batch:
    metric_names = draw(names)
    tables = []
    for _ in range(draw(st.integers(0, 3))):
        count = len(metric_names)
        indexes = (
            draw(st.lists(st.integers(0, count - 1), unique=True, max_size=count)) if count else []
        )
        rows = draw(st.integers(0, 4))
        values = [[float(100 * i + row) for row in range(rows)] for i in indexes]
        tables.append(table(indexes, [(row, row, row + 1) for row in range(rows)], values))
    return Batch(RUN, 1, 1, 10, tuple(metric_names), tuple(tables))


def points_by_name(one: Batch) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for part in one.tables:
        values = part.values.reshape(len(part.metric_indexes), part.steps.size)
        for place, index in enumerate(part.metric_indexes):
            found.setdefault(one.metric_names[index], []).extend(values[place].tolist())
    return found


@given(batches())
def test_what_is_accepted_and_rejected_is_what_was_given(one: Batch) -> None:
    """Accepted and rejected points together are those given, in their order; only bad names are refused."""
    valid = validate_batch(one, LIMITS)
    given_points, kept = points_by_name(one), points_by_name(valid.batch)
    refused = {rejection.metric: rejection.points for rejection in valid.rejections}
    assert valid.batch.point_count + valid.points_rejected == one.point_count
    for name, points in given_points.items():
        assert kept.get(name, []) == ([] if name in refused else points)
        assert refused.get(name, len(points)) == len(points)
    assert validate_batch(valid.batch, LIMITS).batch.point_count == valid.batch.point_count


@given(batches(), st.sets(st.integers(0, 5)))
def test_refusing_metrics_conserves_points(one: Batch, wanted: set[int]) -> None:
    """Whatever is refused: refused and kept points add up, and each refusal says its own."""
    problems = {i: Problem("R", f"why {i}") for i in wanted if i < len(one.metric_names)}
    valid = refuse_metrics(one, problems)
    assert [rejection.message for rejection in valid.rejections] == [
        f"why {i}" for i in sorted(problems)
    ]
    assert valid.batch.point_count + valid.points_rejected == one.point_count
