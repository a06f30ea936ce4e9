"""Receipts: any ranges, in any order, cut anyhow, add up to the set of records they cover."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runyard_server.query.receipts import GAP_COUNT_MAX, add_up
from runyard_server.storage.ports.points import ReceiptRange


def ranges() -> st.SearchStrategy[list[ReceiptRange]]:
    def make(writer: int, first: int, length: int) -> ReceiptRange:
        # Three points in every record, so that the right sums are known however the ranges are cut.
        return ReceiptRange(writer, first, first + length - 1, 3 * length, 0)

    one = st.builds(make, st.integers(0, 2), st.integers(1, 60), st.integers(1, 20))
    return st.lists(one, max_size=25)


@given(ranges())
def test_records_are_counted_as_a_set(given_ranges: list[ReceiptRange]) -> None:
    """Durable records, the unbroken run and the gaps are those of the set of covered sequences."""
    covered: dict[int, set[int]] = {}
    for one in given_ranges:
        span = range(one.first_sequence, one.last_sequence + 1)
        covered.setdefault(one.writer, set()).update(span)
    receipts = add_up(given_ranges)
    assert sorted(covered) == [receipt.writer for receipt in receipts]
    for receipt in receipts:
        records = covered[receipt.writer]
        missing = set(range(1, max(records) + 1)) - records
        assert len(records) == receipt.records_durable
        assert max(records) == receipt.last_sequence
        assert (min(missing) - 1 if missing else max(records)) == receipt.contiguous_sequence
        in_gaps = [s for first, last in receipt.gaps for s in range(first, last + 1)]
        assert sorted(missing) == in_gaps
        assert all(a[1] + 1 < b[0] for a, b in zip(receipt.gaps, receipt.gaps[1:], strict=False))


@given(ranges(), st.randoms(use_true_random=False))
def test_order_does_not_matter(given_ranges: list[ReceiptRange], chance: object) -> None:
    """The same ranges in another order give the same receipts."""
    shuffled = list(given_ranges)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]  # random.Random
    assert add_up(given_ranges) == add_up(shuffled)


@given(st.integers(1, 80), st.sets(st.integers(1, 79)), st.sets(st.integers(1, 79)))
def test_points_of_records_cut_otherwise_are_counted_once(
    length: int, cuts: set[int], cuts_again: set[int]
) -> None:
    """Records repeated in other batches count their points once, even if the points lie unevenly."""

    def cut(edges: set[int]) -> list[ReceiptRange]:
        ends = sorted({edge for edge in edges if edge < length} | {length})
        starts = [1, *(end + 1 for end in ends[:-1])]
        return [
            ReceiptRange(0, a, b, sum(s % 7 for s in range(a, b + 1)), sum(s % 2 for s in range(a, b + 1)))
            for a, b in zip(starts, ends, strict=True)
        ]  # fmt: skip

    (receipt,) = add_up([*cut(cuts), *cut(cuts_again)])
    assert sum(s % 7 for s in range(1, length + 1)) == receipt.points_accepted
    assert sum(s % 2 for s in range(1, length + 1)) == receipt.points_rejected


def test_at_most_a_hundred_gaps_are_named() -> None:
    """The lowest 100 gaps are named; the numbers are of all records all the same."""
    (receipt,) = add_up([ReceiptRange(1, s, s, 1, 0) for s in range(2, 1000, 2)])
    assert GAP_COUNT_MAX == len(receipt.gaps) == 100
    assert receipt.gaps[:2] == ((1, 1), (3, 3))
    assert (
        receipt.records_durable,
        receipt.contiguous_sequence,
        receipt.last_sequence,
    ) == (499, 0, 998)


def test_nothing_is_durable_of_nothing() -> None:
    """Without ranges there is no writer."""
    assert add_up([]) == []
