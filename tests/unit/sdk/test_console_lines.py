"""Lines: what is printed becomes numbered lines as a terminal would show them, however it is cut into chunks."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard.console.lines import (
    LINE_BYTES_MAX,
    NOTE,
    STDERR,
    STDOUT,
    Block,
    ConsoleLines,
)


class Reader:
    """What a reader of the blocks knows: the last telling of each line."""

    def __init__(self) -> None:
        self.lines: dict[int, tuple[int, str]] = {}

    def take(self, blocks: Sequence[Block]) -> None:
        for block in blocks:
            texts = block.text.decode().split("\n")
            assert len(texts) == block.count
            for place, text in enumerate(texts):
                self.lines[block.first_line + place] = (block.stream, text)

    @property
    def texts(self) -> list[str]:
        assert sorted(self.lines) == list(range(1, len(self.lines) + 1)), "a number is missing"
        return [self.lines[number][1] for number in sorted(self.lines)]


def shown(*chunks: bytes, is_flushed: bool = False) -> list[str]:
    """Returns the lines of chunks of stdout."""
    lines, reader = ConsoleLines(), Reader()
    for time, chunk in enumerate(chunks):
        reader.take(lines.feed(STDOUT, chunk, time))
        if is_flushed:
            reader.take(lines.flush(time))
    reader.take(lines.flush(len(chunks), is_last=True))
    return reader.texts


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        (b"a\nb\n", ["a", "b"]),
        (b"a\n\nb", ["a", "", "b"]),
        (b"\n\n", ["", ""]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"1%\r2%\r3%\n", ["3%"]),
        (b"\r1%\r2%\r3%", ["3%"]),
        (b"\rbar 99%\r        \rnext\n", ["next"]),
        (b"a\rb\r\nc\n", ["b", "c"]),
        (b"\x1b[31mred\x1b[0m\n", ["\x1b[31mred\x1b[0m"]),
        (b"spin |\b/\b-\b\\ done\n", ["spin \\ done"]),
        (b"epoch 1\n\rbatch 1\x1b[A\repoch 2\n\rbatch 2\x1b[A", ["epoch 2", "batch 2"]),
        (b"one\ntwo\n\x1b[2A\x1b[2Kuno\n\x1b[Kdos\n", ["uno", "dos"]),
        (b"old\r\x1b[Knew\n", ["new"]),
        (b"keep\x1b[K\n", ["keep"]),
        (b"a\nb\nc\x1b[2A\r\x1b[Jx\n", ["x", ""]),
        ("ä€😀\n".encode(), ["ä€😀"]),
        (b"\xff\xfe\x00\x01\x07junk\n", ["\ufffd\ufffdjunk"]),
        (b"tab\there\n", ["tab\there"]),
        (b"\x1b]0;title\x07text\n", ["text"]),
    ],
)
def test_a_line_is_what_a_terminal_shows_last(printed: bytes, expected: list[str]) -> None:
    """Carriage returns, cursor moves and erasures leave the last state of each line; colours stay, junk is replaced."""
    assert expected == shown(printed)
    assert expected == shown(*(bytes([byte]) for byte in printed))


@given(
    st.lists(
        st.sampled_from(
            [
                b"x",
                b"loss 0.3",
                b"\n",
                b"\n",
                b"\r",
                b"\r\n",
                b"\b",
                b"\x1b[A",
                b"\x1b[2B",
                b"\x1b[K",
                b"\x1b[2K",
                b"\x1b[1m",
                b"\x1b",
                b"\xc3\xa4",
                b"\xff",
                b"\x00",
                b"\x1b[G",
                b"\x1b[J",
                b"\x1b[3F",
            ]
        ),
        max_size=60,
    ),
    st.integers(0, 2**32),
)
def test_chunks_change_nothing(parts: list[bytes], seed: int) -> None:
    """However what is printed is cut into chunks, and however often unfinished lines are told, the lines are the same."""
    printed = b"".join(parts)
    chance = random.Random(seed)
    cuts = sorted(chance.sample(range(len(printed) + 1), min(len(printed), chance.randrange(12))))
    edges = [0, *cuts, len(printed)]
    chunks = [printed[start:stop] for start, stop in itertools.pairwise(edges)]
    assert shown(printed) == shown(*chunks)
    # Telling unfinished lines may only show more: an empty line at the end that had a text for a moment.
    flushed = shown(*chunks, is_flushed=True)
    plain = shown(printed)
    assert plain == flushed[: len(plain)]
    assert not any(flushed[len(plain) :])


@given(st.lists(st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=40), max_size=30))
def test_plain_lines_come_back(texts: list[str]) -> None:
    """Lines without control characters come back as they were printed."""
    printed = "".join(text + "\n" for text in texts).encode()
    assert texts == shown(printed)


def test_streams_share_the_numbers() -> None:
    """Lines of stdout and stderr, and notes, are numbered together; an unfinished line of one is not broken by the other."""
    lines, reader = ConsoleLines(), Reader()
    reader.take(lines.feed(STDOUT, b"half", 1))
    reader.take(lines.feed(STDERR, b"warning\n", 2))
    reader.take(lines.feed(STDOUT, b" whole\n", 3))
    reader.take(lines.note("not kept", 4))
    assert reader.lines == {
        1: (STDERR, "warning"),
        2: (STDOUT, "half whole"),
        3: (NOTE, "not kept"),
    }


def test_an_unfinished_line_is_told_again() -> None:
    """A progress bar is told under one number, each time as it is then, with the time at which it began."""
    lines = ConsoleLines()
    told = []
    for time, state in enumerate((b"\r10%", b"\r20%", b"\r30%")):
        lines.feed(STDOUT, state, 100 + time)
        told += lines.flush(100 + time)
    told += lines.feed(STDOUT, b"\n", 200)
    told += lines.flush(300)
    assert [(block.first_line, block.text, block.time_unix_ns) for block in told] == [
        (1, b"10%", 100),
        (1, b"20%", 100),
        (1, b"30%", 100),
    ]
    assert lines.flush(400) == []


def test_long_lines_are_cut_into_several() -> None:
    """A line beyond the limit becomes several that hold all of it, whether it comes at once or in pieces."""
    printed = ("ä" * 50_000 + "\n").encode()
    for chunks in ([printed], [printed[at : at + 777] for at in range(0, len(printed), 777)]):
        texts = shown(*chunks)
        assert "".join(texts).replace("\ufffd", "") in ("ä" * 50_000, "ä" * (50_000 - len(texts)))
        assert all(len(text.encode()) <= LINE_BYTES_MAX + 4 for text in texts)
    endless = shown(*[b"x" * 1_000] * 100)
    assert "".join(endless) == "x" * 100_000


def test_a_skipped_chunk_ends_its_line() -> None:
    """What follows a chunk that was passed over does not go on with the line before it."""
    lines, reader = ConsoleLines(), Reader()
    reader.take(lines.feed(STDOUT, b"kept\nhalf of a li", 1))
    lines.skip(STDOUT)
    reader.take(lines.feed(STDOUT, b"behind\n", 2))
    assert reader.texts == ["kept", "behind"]


def test_large_blocks_are_cut_at_lines() -> None:
    """A chunk of very many lines comes as blocks of bounded size that follow each other."""
    lines = ConsoleLines()
    blocks = lines.feed(STDOUT, b"".join(b"%d\n" % number for number in range(200_000)), 7)
    assert max(len(block.text) for block in blocks) <= 256 << 10
    reader = Reader()
    reader.take(blocks)
    assert reader.texts == [str(number) for number in range(200_000)]
