"""How many lines of the console were read and are durable: what finish() and `runyard sync --status` tell."""

from __future__ import annotations

from pathlib import Path

from runyard import journal_format as form
from runyard.agent.columns import Event
from runyard.agent.line_count import LineCount
from runyard.journal import JournalWriter
from runyard.journal_status import read_status
from runyard.run_end import Outcome, outcome_lines
from runyard.run_folder import LineCounts


def said(sequence: int, first_line: int, count: int) -> Event:
    head = form.CONSOLE_HEAD.pack(first_line, 5, 1, count)
    return Event(sequence, form.CONSOLE, head + b"\n" * (count - 1))


def test_lines_are_durable_with_their_records() -> None:
    """A line counts once, however often a bar moved in it; it is durable when its first telling is."""
    lines = LineCount()
    lines.note([said(1, 1, 3), said(2, 4, 1), said(3, 4, 1)])
    lines.note([said(4, 4, 2), Event(5, form.FINISH, b'{"lines_dropped": 9}')])
    assert (lines.written, lines.durable, lines.dropped) == (5, 0, 9)
    lines.settle(2)
    assert (lines.written, lines.durable) == (5, 4)
    lines.settle(3)
    assert lines.durable == 4
    lines.settle(5)
    assert lines.durable == 5


def test_a_later_agent_counts_on() -> None:
    """What an earlier agent knew durable is told again only for what is behind it."""
    lines = LineCount(4, 4)
    lines.note([said(3, 4, 1), said(4, 4, 3)])
    lines.settle(3)
    assert (lines.written, lines.durable) == (6, 4)
    lines.settle(4)
    assert lines.durable == 6


def test_lines_of_the_disk_are_unsent(tmp_path: Path) -> None:
    """`runyard sync --status` counts lines that no agent has read, too."""
    (tmp_path / "journal").mkdir()
    console = tmp_path / form.CONSOLE_JOURNAL
    console.mkdir()
    journal = JournalWriter(console, segment_bytes=[1 << 16], is_synced=False)
    for event in (said(1, 1, 3), said(2, 4, 1)):
        journal.append(event.kind, event.payload)
    journal.close()
    (console / "mark.json").write_text('{"lines_written": 3, "lines_durable": 3}')
    status = read_status(tmp_path)
    assert (status.lines_written, status.lines_durable) == (4, 3)


def test_the_end_tells_of_lines(tmp_path: Path) -> None:
    def told(written: int, durable: int, dropped: int = 0) -> list[str]:
        outcome = Outcome(
            records_written=2,
            records_durable=2,
            records_dropped=0,
            records_refused=0,
            gaps=(),
            refusal="",
            files_durable=0,
            files_failed=0,
            points_rejected=0,
            is_complete=True,
            reason="",
            lines=LineCounts(written, durable, dropped),
        )
        return outcome_lines(outcome, tmp_path)

    assert told(0, 0) == ["2 of 2 records durable; 0 files"]
    assert told(1_200, 1_200) == ["2 of 2 records durable; 0 files, 1,200 lines of the console"]
    assert told(3, 1) == ["2 of 2 records durable; 0 files, 1 of 3 lines of the console"]
    assert told(3, 3, 1_000)[1].startswith("1,000 lines of the console not kept: printed faster")
