"""The suite of ConsoleReader over what PointWriter stored; a class that inherits it gives the fixture `store`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from runyard_server.domain.console import ConsoleBlock
from runyard_server.domain.errors import InvalidArgument
from runyard_server.domain.points import Batch, Journal
from runyard_server.domain.run import RunKey
from runyard_server.storage.ports.console import (
    BlocksSeen,
    ConsoleReader,
    LineFilter,
    LinePlace,
    LineRows,
    WriterLines,
)
from runyard_server.storage.ports.points import BlockEntry, PointReader, PointWriter
from tests.stores import TEST_RUNS_UNIX_MS, new_run_key

NS_PER_MS = 1_000_000
PLENTY = 1 << 30


@dataclass(frozen=True)
class ConsoleStore:
    """Both sides of one store."""

    writer: PointWriter
    points: PointReader
    console: ConsoleReader


def printed(
    run_key: RunKey,
    *blocks: tuple[int, str],
    writer: int = 1,
    stream: int = 1,
    sequence: int = 1,
    ms: int = 0,
) -> Batch:
    """Returns a batch of (first line, text); the k-th block is record sequence + k, printed at `ms` + k."""
    made = tuple(
        ConsoleBlock(
            sequence=sequence + place,
            first_line=first,
            line_count=text.count("\n") + 1,
            stream=stream,
            time_unix_ns=(TEST_RUNS_UNIX_MS + ms + place) * NS_PER_MS + 999_999,
            text=text.encode(),
        )
        for place, (first, text) in enumerate(blocks)
    )
    return Batch(
        run_key,
        writer,
        sequence,
        sequence + len(blocks) - 1,
        (),
        (),
        journal=Journal.CONSOLE,
        console_blocks=made,
    )


async def insert(store: ConsoleStore, *batches: Batch) -> None:
    await store.writer.insert_block([BlockEntry(one) for one in batches])


async def read(
    store: ConsoleStore,
    run_key: RunKey,
    where: LineFilter | None = None,
    *,
    after: LinePlace | None = None,
    is_newest_first: bool = False,
    limit: int = 1_000,
    bytes_max: int = PLENTY,
) -> LineRows:
    return await store.console.read_lines(
        run_key,
        where or LineFilter(),
        after=after,
        is_newest_first=is_newest_first,
        limit=limit,
        bytes_max=bytes_max,
    )


async def see(
    store: ConsoleStore, run_key: RunKey, *, span_ns: int = 60_000_000_000, count_max: int = 100
) -> BlocksSeen:
    return await store.console.see_blocks(run_key, span_ns=span_ns, count_max=count_max)


async def changes(
    store: ConsoleStore, run_key: RunKey, since: BlocksSeen, *, limit: int = 10
) -> LineRows:
    return await store.console.read_changes(
        run_key, LineFilter(), since=since, limit=limit, bytes_max=PLENTY
    )


class ConsoleStoreSuite:
    """What every store of lines promises."""

    async def test_what_was_printed_is_read(self, store: ConsoleStore) -> None:
        """Lines come by time, then writer, then number, with their text as it was, empty lines and all."""
        run = new_run_key()
        await insert(
            store,
            printed(run, (1, "a\n\nß \x1b[31mrot\x1b[0m"), (4, "")),
            printed(run, (1, "x\ny"), writer=2, stream=2),
        )
        rows = await read(store, run)
        assert rows.texts == ["a", "", "ß \x1b[31mrot\x1b[0m", "x", "y", ""]
        assert rows.lines == [1, 2, 3, 1, 2, 4]
        assert rows.writers == [1, 1, 1, 2, 2, 1]
        assert rows.streams == [1, 1, 1, 2, 2, 1]
        assert [TEST_RUNS_UNIX_MS + ms for ms in (0, 0, 0, 0, 0, 1)] == rows.times_unix_ms
        assert not rows.has_more

    async def test_a_repeat_is_read_once_and_the_last_telling_counts(
        self, store: ConsoleStore
    ) -> None:
        """A repeated line is read once; of several texts the one with the highest sequence is, whichever came last."""
        run = new_run_key()
        first, bar = printed(run, (1, "start\n10%")), printed(run, (2, "100%"), sequence=9)
        await insert(store, first)
        await insert(store, bar)
        await insert(store, first, printed(run, (3, "end"), sequence=10))
        assert (await read(store, run)).texts == ["start", "100%", "end"]

    async def test_a_text_that_was_replaced_is_not_found(self, store: ConsoleStore) -> None:
        """Only the text with the highest sequence MUST be seen by filters too."""
        run = new_run_key()
        filler = "\n".join(f"line {number}" for number in range(3, 20_000))
        await insert(store, printed(run, (1, "start\nneedle 10%"), (3, filler)))
        await insert(store, printed(run, (2, "done 100%"), sequence=9))
        assert (await read(store, run, LineFilter(contains="needle"))).texts == []
        assert (await read(store, run, LineFilter(matches="need.e"))).texts == []
        assert (await read(store, run, LineFilter(contains="100%"))).lines == [2]

    @pytest.mark.parametrize(
        ("where", "expected"),
        [
            (LineFilter(contains="loss"), [1, 3]),
            (LineFilter(contains="LOSS", is_case_sensitive=True), [3]),
            (LineFilter(contains="%_\\"), [4]),
            (LineFilter(contains="50%"), [2]),
            (LineFilter(contains="Ä"), [5]),
            (LineFilter(matches="^loss [0-9.]+$"), [1]),
            (LineFilter(matches="LOSS", is_case_sensitive=True), [3]),
            (LineFilter(matches=r"\d+%"), [2]),
            (LineFilter(contains="loss", matches="explo"), [3]),
            (LineFilter(streams=(2,)), [6]),
            (LineFilter(writers=(2,)), [6]),
            (LineFilter(writers=(1, 2), contains="error"), [6]),
            (LineFilter(contains="nothing of it"), []),
        ],
        ids=str,
    )
    async def test_filters(
        self, store: ConsoleStore, where: LineFilter, expected: list[int]
    ) -> None:
        """Texts are found anywhere in a line, letters of ASCII in either case unless it counts; LIKE's signs mean nothing."""
        run = new_run_key()
        text = "loss 0.3\nat 50 or 50%\nLOSS exploded\nliteral %_\\ signs\nÄrger"
        await insert(
            store,
            printed(run, (1, text)),
            printed(run, (6, "Error: boom"), writer=2, stream=2, ms=5),
        )
        assert expected == (await read(store, run, where)).lines

    @pytest.mark.parametrize(
        ("where", "expected"),
        [
            (LineFilter(contains="Epoch 12"), [1]),
            (LineFilter(contains="Epoch 12", is_case_sensitive=True), [1]),
            (LineFilter(matches=r"^Epoch \d+ done$"), [1]),
            (LineFilter(contains="[32m"), [3]),
            (LineFilter(contains="31m"), []),
            (LineFilter(matches="title|link"), [2]),
        ],
        ids=str,
    )
    async def test_searches_pass_over_colours(
        self, store: ConsoleStore, where: LineFilter, expected: list[int]
    ) -> None:
        """A word within which a colour changes is found, escape sequences themselves are not; texts come with their colours."""
        run = new_run_key()
        texts = (
            "\x1b[1;31mEp\x1b[0moch \x1b[38;5;9m1\x1b[m2 done\x1b[0m",
            "\x1b]8;;http://hidden\x1b\\link\x1b]8;;\x1b\\ \x1b]0;hidden\x07",
            "plain [32m is text",
            "\x1b[31m\x1b[0m",
        )
        await insert(store, printed(run, (1, "\n".join(texts))))
        found = await read(store, run, where)
        assert expected == found.lines
        assert found.texts == [texts[line - 1] for line in expected]

    async def test_times_bound_what_is_read(self, store: ConsoleStore) -> None:
        """Lines from the first to the last time wanted are read, both included."""
        run = new_run_key()
        await insert(store, printed(run, *[(number, f"l{number}") for number in range(1, 6)]))
        start = TEST_RUNS_UNIX_MS
        where = LineFilter(first_time_unix_ms=start + 1, last_time_unix_ms=start + 3)
        assert (await read(store, run, where)).texts == ["l2", "l3", "l4"]

    @pytest.mark.parametrize("is_newest_first", [False, True])
    async def test_pages_hold_each_line_once(
        self, store: ConsoleStore, is_newest_first: bool
    ) -> None:
        """Pages from either end hold each line once, ascending within, whatever shares a time."""
        run = new_run_key()
        for writer in (1, 2, 3):
            lines = "\n".join(f"{writer}.{number}" for number in range(1, 12))
            await insert(store, printed(run, (1, lines), (12, "late"), writer=writer))
        pages: list[list[tuple[int, int, int]]] = []
        after = None
        while True:
            rows = await read(store, run, after=after, is_newest_first=is_newest_first, limit=5)
            places = [
                (p.time_unix_ms, p.writer, p.line) for p in map(rows.place, range(len(rows.lines)))
            ]
            assert places == sorted(places)
            pages.append(places)
            if not rows.has_more:
                break
            after = rows.place(0 if is_newest_first else len(places) - 1)
            assert len(pages) < 20
        every = [
            place for page in (reversed(pages) if is_newest_first else pages) for place in page
        ]
        assert every == sorted(set(every))
        assert len(every) == 36

    async def test_a_page_is_bounded_by_bytes(self, store: ConsoleStore) -> None:
        """Long lines make a page short; one that is longer than the limit comes alone."""
        run = new_run_key()
        await insert(store, printed(run, (1, "\n".join("x" * 100 for _ in range(10)))))
        rows = await read(store, run, bytes_max=350)
        assert (len(rows.lines), rows.has_more) == (3, True)
        rows = await read(store, run, bytes_max=50, is_newest_first=True)
        assert (rows.lines, rows.has_more) == ([10], True)

    async def test_what_changed_is_told(self, store: ConsoleStore) -> None:
        """Only lines of blocks that were not seen are told, as they are now; of many the last ones."""
        run = new_run_key()
        assert await see(store, run) == BlocksSeen()
        await insert(store, printed(run, (1, "start\n10%")))
        seen = await see(store, run)
        assert len(seen.blocks) == 1
        await insert(store, printed(run, (2, "20%"), (3, "next"), sequence=5, ms=9))
        rows = await changes(store, run, seen)
        assert sorted(zip(rows.lines, rows.texts, strict=True)) == [(2, "20%"), (3, "next")]
        rows = await changes(store, run, seen, limit=1)
        assert (rows.texts, rows.has_more) == (["next"], True)

    async def test_nothing_is_told_twice(self, store: ConsoleStore) -> None:
        """What was seen is not told again, while a block between, which becomes visible late, would be."""
        run = new_run_key()
        await insert(store, printed(run, (1, "a")))
        await insert(store, printed(run, (2, "b"), sequence=2))
        seen = await see(store, run)
        assert (await changes(store, run, seen)).texts == []
        late = BlocksSeen(seen.floor, (max(seen.blocks),))
        assert (await changes(store, run, late)).texts == ["a"]
        forgot = await see(store, run, count_max=1)
        assert forgot == late, "the last blocks are those that are named"
        alone = await see(store, run, span_ns=0)
        assert alone == BlocksSeen(max(seen.blocks), ())

    async def test_neighbours(self, store: ConsoleStore) -> None:
        """Lines around places are those of the same writer, each once."""
        run = new_run_key()
        for writer in (1, 2):
            lines = "\n".join(str(number) for number in range(1, 11))
            await insert(store, printed(run, (1, lines), writer=writer))
        places = [LinePlace(TEST_RUNS_UNIX_MS, 1, line) for line in (1, 5, 6)]
        rows = await store.console.read_around(run, places, count=2, bytes_max=PLENTY)
        assert list(zip(rows.writers, rows.lines, strict=True)) == [
            (1, line) for line in (1, 2, 3, 4, 5, 6, 7, 8)
        ]
        assert not rows.has_more
        rows = await store.console.read_around(run, places, count=2, bytes_max=3)
        assert (rows.lines, rows.has_more) == ([1, 2, 3, 4, 5, 6], True)
        assert (await store.console.read_around(run, [], count=2, bytes_max=3)).lines == []

    async def test_neighbours_of_very_many(self, store: ConsoleStore) -> None:
        """As many places as a page may have are answered, apart or side by side."""
        run = new_run_key()
        await insert(store, printed(run, (1, "\n".join(str(number) for number in range(1, 6_001)))))
        for step in (1, 5):
            places = [LinePlace(TEST_RUNS_UNIX_MS, 1, 1 + step * n) for n in range(1_000)]
            rows = await store.console.read_around(run, places, count=1, bytes_max=PLENTY)
            assert len(rows.lines) == (1_001 if step == 1 else 2_999)

    async def test_lines_are_counted_by_writer(self, store: ConsoleStore) -> None:
        """Each line counts once; a number that is missing shows."""
        run = new_run_key()
        one = printed(run, (1, "a\nb"), (4, "d"))
        await insert(store, one, printed(run, (1, "x"), writer=3, ms=7))
        await insert(store, one)
        start = TEST_RUNS_UNIX_MS
        expected: Sequence[WriterLines] = [
            WriterLines(1, 3, 4, start, start + 1),
            WriterLines(3, 1, 1, start + 7, start + 7),
        ]
        assert expected == await store.console.count_lines(run)

    async def test_lines_have_no_receipt(self, store: ConsoleStore) -> None:
        """Batches of other journals than the run's have no receipt: their sequences are others."""
        run = new_run_key()
        await insert(store, printed(run, (1, "a")))
        assert await store.points.read_receipts(run) == []

    async def test_an_expression_that_cannot_be_is_refused(self, store: ConsoleStore) -> None:
        """A regular expression that cannot be raises InvalidArgument, also where there is nothing to search."""
        with pytest.raises(InvalidArgument, match="matches"):
            await read(store, new_run_key(), LineFilter(matches="(unclosed"))
