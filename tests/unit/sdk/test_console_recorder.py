"""The recorder: lines reach the journal, too many are counted and named, and a later recorder goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from runyard.console.lines import NOTE, STDERR, STDOUT
from runyard.console.recorder import BURST_S, ConsoleRecorder
from runyard.journal_walk import segments_of, walk
from tests.console_journal import kept

RATE = 10_000


class Watch:
    """A monotonic clock that is told to move."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def recorder(folder: Path, watch: Watch | None = None, *, rate: int = RATE) -> ConsoleRecorder:
    folder.mkdir(exist_ok=True)
    return ConsoleRecorder(
        folder,
        environ={"A_TOKEN": "hunter2hunter2"},
        is_redacting=True,
        bytes_per_s_max=rate,
        room=None,
        monotonic=watch or Watch(),
    )


def test_lines_reach_the_journal(tmp_path: Path) -> None:
    """What was printed is in the journal the moment it was taken, without credentials; the end tells how much there was."""
    folder = tmp_path / "console"
    one = recorder(folder)
    one.take(STDOUT, b"a\ntoken hunter2hunter2\n")
    one.take(STDERR, b"half")
    lines, ends = kept(folder)
    assert lines == {1: (STDOUT, "a"), 2: (STDOUT, "token [redacted A_TOKEN]")}
    assert ends == []
    one.close()
    lines, ends = kept(folder)
    assert lines[3] == (STDERR, "half")
    assert (ends[0]["line_count"], ends[0]["lines_dropped"]) == (3, 0)


def test_unfinished_lines_are_kept_now_and_then(tmp_path: Path) -> None:
    """A progress bar is kept once a second, not with every change."""
    folder, watch = tmp_path / "console", Watch()
    one = recorder(folder, watch)
    for percent in range(100):
        one.take(STDOUT, b"\r%d%%" % percent)
        one.tick()
        watch.now_s += 0.1
    records = list(walk(segments_of(folder)))
    assert 9 <= len(records) <= 11
    one.close()
    assert kept(folder)[0] == {1: (STDOUT, "99%")}


def test_too_much_is_counted_and_named(tmp_path: Path) -> None:
    """What comes faster than the limit is passed over, and a line in its place says how much that was."""
    folder, watch = tmp_path / "console", Watch()
    one = recorder(folder, watch)
    chunk = b"0123456789abcde\n" * 100
    count = int(BURST_S * RATE / len(chunk)) + 50
    for _ in range(count):
        one.take(STDOUT, chunk)
    watch.now_s += 2
    one.take(STDOUT, b"at last\n")
    one.close()
    lines, ends = kept(folder)
    assert lines[len(lines)] == (STDOUT, "at last")
    assert lines[len(lines) - 1][0] == NOTE
    dropped = ends[0]["lines_dropped"]
    assert isinstance(dropped, int)
    assert f"{dropped:,} lines" in lines[len(lines) - 1][1]
    assert len(lines) - 2 + dropped == 100 * count
    assert 0 < dropped < 100 * count


def test_a_later_recorder_goes_on(tmp_path: Path) -> None:
    """A recorder that died is followed by one that goes on with the next record and line."""
    folder = tmp_path / "console"
    first = recorder(folder)
    first.take(STDOUT, b"one\ntwo\n")
    second = recorder(folder)
    second.take(STDOUT, b"three\n")
    second.close()
    lines, ends = kept(folder)
    assert [text for _, text in lines.values()] == ["one", "two", "three"]
    assert ends[0]["line_count"] == 3
    first.abandon()


@pytest.mark.parametrize("chunk", [b"\x00\xff\x80\x1b[" * 5_000, b"\r\x08\x1b[A\n" * 5_000])
def test_junk_is_bounded(tmp_path: Path, chunk: bytes) -> None:
    """Binary junk and wild cursors neither raise nor take more than the limit."""
    folder = tmp_path / "console"
    one = recorder(folder)
    for _ in range(100):
        one.take(STDOUT, chunk)
    one.close()
    _, ends = kept(folder)
    assert ends[0]["bytes_dropped"] > 0
    assert sum(path.stat().st_size for path in folder.glob("*.seg")) < 20 * BURST_S * RATE
