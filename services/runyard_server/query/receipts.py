"""Receipts: what the acknowledged ranges of a run's writers add up to; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from runyard_server.storage.ports.points import ReceiptRange

GAP_COUNT_MAX = 100


@dataclass(frozen=True, slots=True)
class WriterReceipt:
    """What is durable of one writer; see query.v1.WriterReceipt."""

    writer: int
    records_durable: int
    contiguous_sequence: int
    last_sequence: int
    gaps: tuple[tuple[int, int], ...]
    points_accepted: int
    points_rejected: int
    label: str = ""
    attempt: int = 0
    records_written: int | None = None
    records_refused: int = 0
    has_ended: bool = False


@dataclass(frozen=True, slots=True)
class WriterTold:
    """What is known of a writer beside what is durable: who it is, and how much it wrote; None: not known."""

    writer: int
    label: str
    attempt: int
    records_written: int | None
    records_refused: int
    has_ended: bool


def with_what_writers_say(
    receipts: Sequence[WriterReceipt], told: Sequence[WriterTold]
) -> list[WriterReceipt]:
    """Returns one receipt per writer, by number; a writer of which nothing is durable yet has one too."""
    by_number = {receipt.writer: receipt for receipt in receipts}
    for one in told:
        receipt = by_number.get(one.writer, WriterReceipt(one.writer, 0, 0, 0, (), 0, 0))
        by_number[one.writer] = replace(
            receipt,
            label=one.label,
            attempt=one.attempt,
            records_written=one.records_written,
            records_refused=one.records_refused,
            has_ended=one.has_ended,
        )
    return [by_number[number] for number in sorted(by_number)]


def add_up(ranges: Sequence[ReceiptRange]) -> list[WriterReceipt]:
    """Returns one receipt per writer, by number; the ranges come in any order and may overlap."""
    ordered = sorted(ranges, key=lambda r: (r.writer, r.first_sequence, -r.last_sequence))
    return [
        _add_up_writer(writer, list(own)) for writer, own in groupby(ordered, lambda r: r.writer)
    ]


def _add_up_writer(writer: int, ranges: list[ReceiptRange]) -> WriterReceipt:
    clusters = _clusters(ranges)
    spans = [
        (cluster[0].first_sequence, max(r.last_sequence for r in cluster)) for cluster in clusters
    ]
    gaps: list[tuple[int, int]] = []
    expected = 1
    contiguous = 0
    for first, last in spans:
        if first > expected and len(gaps) < GAP_COUNT_MAX:
            gaps.append((expected, first - 1))
        if not gaps:
            contiguous = last
        expected = last + 1
    counts = [_count_points(cluster) for cluster in clusters]
    return WriterReceipt(
        writer=writer,
        records_durable=sum(last - first + 1 for first, last in spans),
        contiguous_sequence=contiguous,
        last_sequence=spans[-1][1],
        gaps=tuple(gaps),
        points_accepted=sum(accepted for accepted, _ in counts),
        points_rejected=sum(rejected for _, rejected in counts),
    )


def _clusters(ranges: list[ReceiptRange]) -> list[list[ReceiptRange]]:
    """Returns the ranges, sorted by first sequence, in groups that share no record with each other."""
    clusters: list[list[ReceiptRange]] = []
    end = -1
    for one in ranges:
        if clusters and one.first_sequence <= end:
            clusters[-1].append(one)
            end = max(end, one.last_sequence)
        else:
            clusters.append([one])
            end = one.last_sequence
    return clusters


def _count_points(cluster: list[ReceiptRange]) -> tuple[int, int]:
    """Returns points accepted and rejected in the records that the overlapping ranges cover, each record once.

    A writer may cut the same records otherwise when it repeats them. The ranges without common records that cover
    most are counted whole (all of the records, whenever a repeat was cut at an earlier edge); where a record is in
    none of these, the points of a range that holds it are counted in proportion.
    """
    if len(cluster) == 1:
        return cluster[0].points_accepted, cluster[0].points_rejected
    chosen = _widest_disjoint(cluster)
    accepted = sum(r.points_accepted for r in chosen)
    rejected = sum(r.points_rejected for r in chosen)
    covered = [(r.first_sequence, r.last_sequence) for r in chosen]
    for one in sorted(cluster, key=lambda r: r.first_sequence - r.last_sequence):
        new = _uncovered(one.first_sequence, one.last_sequence, covered)
        records = sum(last - first + 1 for first, last in new)
        if records:
            width = one.last_sequence - one.first_sequence + 1
            accepted += one.points_accepted * records // width
            rejected += one.points_rejected * records // width
            covered = sorted([*covered, *new])
    return accepted, rejected


def _widest_disjoint(cluster: list[ReceiptRange]) -> list[ReceiptRange]:
    """Returns the ranges without common records that hold most records (weighted interval scheduling)."""
    by_end = sorted(cluster, key=lambda r: (r.last_sequence, r.first_sequence))
    ends = [r.last_sequence for r in by_end]
    best = [0]
    before: list[int] = []
    for index, one in enumerate(by_end):
        free = _count_below(ends, one.first_sequence, index)
        before.append(free)
        width = one.last_sequence - one.first_sequence + 1
        best.append(max(best[index], best[free] + width))
    chosen: list[ReceiptRange] = []
    index = len(by_end)
    while index:
        if best[index] == best[index - 1]:
            index -= 1
        else:
            chosen.append(by_end[index - 1])
            index = before[index - 1]
    return chosen[::-1]


def _count_below(ends: list[int], first_sequence: int, high: int) -> int:
    low = 0
    while low < high:
        middle = (low + high) // 2
        if ends[middle] < first_sequence:
            low = middle + 1
        else:
            high = middle
    return low


def _uncovered(first: int, last: int, covered: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Returns what of first..last lies in none of the covered ranges, which are sorted and disjoint."""
    parts: list[tuple[int, int]] = []
    for begin, end in covered:
        if end < first:
            continue
        if begin > last:
            break
        if begin > first:
            parts.append((first, begin - 1))
        first = end + 1
    if first <= last:
        parts.append((first, last))
    return parts
