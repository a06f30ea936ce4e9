"""Logs in archives answer as logs in the first store do: random questions to both, and to the reference."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from runyard_server.domain.clock import SystemClock
from runyard_server.domain.errors import InvalidArgument
from runyard_server.domain.run import RunKey
from runyard_server.storage.archive import format as archive_format
from runyard_server.storage.archive.hot import HotConsole
from runyard_server.storage.archive.layered import LayeredConsole
from runyard_server.storage.clickhouse.console_hot import (
    ClickHouseConsoleDropper,
    ClickHouseHotConsole,
)
from runyard_server.storage.clickhouse.engine import ClickHouse
from runyard_server.storage.clickhouse.points_write import ClickHousePointWriter
from runyard_server.storage.memory.points import MemoryPoints
from runyard_server.storage.ports.console import ConsoleReader, LineFilter, LinePlace
from runyard_server.storage.ports.points import BlockEntry
from tests.contract.archives import MemoryArchives, archive_and_drop
from tests.contract.console_store import printed
from tests.stores import TEST_RUNS_UNIX_MS, new_run_key

WORDS = (
    "epoch",
    "Epoch",
    "LOSS",
    "lo\x1b[31mss\x1b[0m",
    "\x1b[1m",
    "%_\\",
    "[warn]",
    "Ä",
    "ä",
    "ſ",
    "K",
    "\u212a",  # the sign for kelvin, a k where letters beyond ASCII have cases too
    "0.25",
    "\t",
    "a.b*c",
    "日本",
    "",
)
EXPRESSIONS = (
    r"lo+ss",
    r"^epoch",
    r"\d\.\d+",
    r"[äk]",
    r"(Epoch|warn)\W",
    r"b\*c$",
    r"^$",
    r"\s日",
)


def random_batches(run: RunKey, draw: random.Random, *, writer: int, first: int, count: int):
    """Yields batches of lines whose times mostly grow; some are told again with another text."""
    line, sequence, ms = first, first * 10, first * 3
    while line < first + count:
        size = draw.randint(1, 40)
        text = "\n".join(" ".join(draw.choices(WORDS, k=draw.randint(0, 6))) for _ in range(size))
        ms = max(0, ms + draw.choice((0, 0, 1, 5, 40, -7)))
        yield printed(
            run,
            (line, text),
            writer=writer,
            stream=draw.choice((1, 2, 3)),
            sequence=sequence,
            ms=ms,
        )
        if draw.random() < 0.3:
            again = line + draw.randrange(size)
            changed = sequence + draw.choice(
                (-5, 1)
            )  # an older telling that comes late counts for nothing
            yield printed(run, (again, "told again loss"), writer=writer, sequence=changed, ms=ms)
        line += size
        sequence += 7


def random_filter(draw: random.Random) -> LineFilter:
    start = TEST_RUNS_UNIX_MS + draw.randint(0, 900)
    return LineFilter(
        writers=draw.choice(((), (), (1,), (2, 3), (77,))),
        streams=draw.choice(((), (), (2,), (1, 3))),
        contains=draw.choice(("", "", *WORDS, "loss", "epoch loss", "nowhere")),
        matches=draw.choice(("", "", *EXPRESSIONS)),
        is_case_sensitive=draw.random() < 0.4,
        first_time_unix_ms=draw.choice((None, None, start)),
        last_time_unix_ms=draw.choice((None, None, start + draw.randint(0, 400))),
    )


async def same_answers(
    one: ConsoleReader, other: ConsoleReader, run: RunKey, draw: random.Random
) -> None:
    """Asserts that a random read, all its pages and the lines around are the same."""
    where, limit, newest = random_filter(draw), draw.choice((1, 7, 50, 400)), draw.random() < 0.5
    bytes_max = draw.choice((60, 2_000, 1 << 30))
    after: LinePlace | None = None
    for _ in range(6):
        pages = [
            await reader.read_lines(
                run,
                where,
                after=after,
                is_newest_first=newest,
                limit=limit,
                bytes_max=bytes_max,
            )
            for reader in (one, other)
        ]
        assert pages[0] == pages[1], (where, after, newest, limit, bytes_max)
        rows = pages[0]
        places = [rows.place(index) for index in range(min(20, len(rows.lines)))]
        rings = [
            await reader.read_around(run, places, count=3, bytes_max=bytes_max)
            for reader in (one, other)
        ]
        assert rings[0] == rings[1], places
        if not rows.has_more:
            break
        after = rows.place(0 if newest else len(rows.lines) - 1)


@pytest.mark.parametrize(
    ("seed", "is_clickhouse", "question_count"),
    [(0, False, 40), (1, False, 40), (2, False, 40), (3, True, 12), (4, True, 12)],
)
async def test_archives_answer_as_the_first_store_does(
    clickhouse: ClickHouse,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    is_clickhouse: bool,
    question_count: int,
) -> None:
    """Every read of a log that is archived, wholly or with lines that came later, is that of a log that never was."""
    monkeypatch.setattr(archive_format, "GROUP_LINES_MAX", 50)
    draw = random.Random(seed)
    run = new_run_key()
    plain, dropping, archives = MemoryPoints(), MemoryPoints(), MemoryArchives(tmp_path)
    writer = ClickHousePointWriter(clickhouse, clock=SystemClock()) if is_clickhouse else dropping
    hot: HotConsole = ClickHouseHotConsole(clickhouse) if is_clickhouse else dropping.console
    dropper = ClickHouseConsoleDropper(clickhouse) if is_clickhouse else dropping.console
    layered = LayeredConsole(hot, archives)
    first = {1: 1, 2: 1, 3: 1}
    for round_ in range(3):
        for number in first:
            if round_ and draw.random() < 0.4:
                continue
            batches = list(random_batches(run, draw, writer=number, first=first[number], count=300))
            first[number] += 280  # the last lines come once more, otherwise
            for store in (plain, writer):
                await store.insert_block([BlockEntry(batch) for batch in batches])
        if round_ != 1:
            await archive_and_drop(layered, archives, dropper, run)
        assert await plain.console.count_lines(run) == await layered.count_lines(run)
        for _ in range(question_count):
            await same_answers(plain.console, layered, run, draw)


async def test_a_page_reads_little(clickhouse: ClickHouse, tmp_path: Path) -> None:
    """A page of a long log reads a row group or two of its archive, not the archive."""
    points = ClickHousePointWriter(clickhouse, clock=SystemClock())
    hot, archives = ClickHouseHotConsole(clickhouse), MemoryArchives(tmp_path)
    layered = LayeredConsole(hot, archives)
    run = new_run_key()
    text = "\n".join(f"line {n} {n * 7919 % 100_003}" for n in range(1, 5_001))
    for block in range(20):
        batch = printed(run, (1 + block * 5_000, text), sequence=block + 1, ms=block)
        await points.insert_block([BlockEntry(batch)])
    await archive_and_drop(layered, archives, ClickHouseConsoleDropper(clickhouse), run)
    assert await hot.count_lines(run) == []
    whole = sum(one.size_bytes for one in await archives.list_console_archives(run))
    for is_newest_first in (True, False):
        archives.reads.clear()
        page = await layered.read_lines(
            run,
            LineFilter(),
            after=None,
            is_newest_first=is_newest_first,
            limit=1_000,
            bytes_max=1 << 20,
        )
        assert len(page.lines) == 1_000
        assert sum(archives.reads) < whole / 2


async def test_a_check_finds_what_an_archive_lacks(tmp_path: Path) -> None:
    """Lines that came after the archive was made, or were told otherwise since, count as missing."""
    points, archives = MemoryPoints(), MemoryArchives(tmp_path)
    layered = LayeredConsole(points.console, archives)
    run = new_run_key()
    await points.insert_block([BlockEntry(printed(run, (1, "a\nb\nc"), sequence=5))])
    await archives.make(layered, run)
    assert (await layered.check_archive(run, 1, after_line=0)).missing_count == 0
    await points.insert_block([BlockEntry(printed(run, (2, "other"), sequence=9))])
    await points.insert_block([BlockEntry(printed(run, (4, "d\ne"), sequence=10))])
    check = await layered.check_archive(run, 1, after_line=0)
    assert (check.missing_count, check.last_line) == (3, 5)


async def test_an_expression_that_cannot_be_is_refused_in_archives_too(tmp_path: Path) -> None:
    points, archives = MemoryPoints(), MemoryArchives(tmp_path)
    layered = LayeredConsole(points.console, archives)
    run = new_run_key()
    await points.insert_block([BlockEntry(printed(run, (1, "a")))])
    await archive_and_drop(layered, archives, points.console, run)
    with pytest.raises(InvalidArgument, match="matches"):
        await layered.read_lines(
            run,
            LineFilter(matches="(open"),
            after=None,
            is_newest_first=False,
            limit=1,
            bytes_max=1,
        )
