"""What a person sees: sparklines, tables, notes once, silence, colour on terminals only."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard import terminal as term
from runyard.run_end import Outcome, outcome_lines


@pytest.mark.parametrize(
    ("values", "drawn"),
    [
        ([], ""),
        ([1.0], "▁"),
        ([3.0, 3.0, 3.0], "▁▁▁"),
        ([0, 1, 2, 3, 4, 5, 6, 7], "▁▂▃▄▅▆▇█"),
        ([1.0, math.nan, 0.0, math.inf], "█ ▁ "),
        ([math.nan, -math.inf], ""),
        ([-1.7976931348623157e308, 1.7976931348623157e308], "▁█"),
        ([5e-324, 0.0], "█▁"),
    ],
)
def test_sparklines(values: list[float], drawn: str) -> None:
    """Lowest to highest bar; a constant is the lowest; what is not finite is a blank."""
    assert term.sparkline(values) == drawn


@given(values=st.lists(st.floats(), max_size=300))
def test_sparklines_of_anything(values: list[float]) -> None:
    """Any values draw at most 40 characters of the eight bars and blanks."""
    drawn = term.sparkline(values)
    assert len(drawn) <= 40 and set(drawn) <= set("▁▂▃▄▅▆▇█ ")
    assert bool(drawn) == any(map(math.isfinite, values))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.123456789, "0.12346"),
        (1.0, "1"),
        (True, "True"),
        (10**15, "1000000000000000"),
        (1e-9, "1e-09"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        ("x" * 21, "x" * 20 + "..."),
        ({"a": 1}, None),
        ([1], None),
        (None, None),
    ],
)
def test_summary_values(value: object, shown: str | None) -> None:
    """Floats to 5 places, text cut at 20 characters, what is no scalar left out."""
    assert term.shown_value(value) == shown


def test_tables_show_ten_rows() -> None:
    """Rows are sorted, hidden keys left out, the rest counted."""
    lines = term.summary_table({f"m{i:02}": i for i in range(13)} | {"_hidden": 1}, 10)
    assert lines[0] == "Run summary:" and lines[1] == "m00 0" and lines[-1] == "+3 ..."
    assert len(lines) == 12
    assert term.summary_table({"long name": 1, "b": 2}, 10)[1:] == ["        b 2", "long name 1"]
    assert term.history_table({"a": [math.nan], "b": [1.0, 2.0]}, 10) == ["Run history:", "b ▁█"]
    assert term.history_table({}, 10) == []


def test_lines_carry_our_prefix(capsys: pytest.CaptureFixture[str]) -> None:
    """Everything goes to stderr, each line with the prefix, without colour where there is no terminal."""
    terminal = term.Terminal()
    terminal.line("one\ntwo")
    terminal.note("k", "noted")
    terminal.note("k", "again")
    terminal.progress("never outside a terminal")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "runyard: one\nrunyard: two\nrunyard: NOTE noted\n"
    assert terminal.link("http://x") == "http://x"


def test_silent_says_nothing_but_logs(capsys: pytest.CaptureFixture[str]) -> None:
    """A silent terminal prints nothing; the run's log has all."""
    logged: list[str] = []
    terminal = term.Terminal(is_silent=True)
    terminal.log_to(logged.append)
    terminal.line("one")
    terminal.warn("k", "two")
    assert capsys.readouterr() == ("", "")
    assert logged == ["one", "WARNING two"]


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_colour_and_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the prefix is coloured, and the progress line is replaced."""
    screen = Screen()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = term.Terminal()
    terminal.progress("1 of 2")
    terminal.line("done")
    assert "\x1b[34m" in screen.getvalue() and "\r\x1b[K" in screen.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not terminal.is_coloured


@pytest.mark.parametrize("broken", [None, "closed", "ascii"])
def test_a_missing_stderr_is_no_trouble(
    monkeypatch: pytest.MonkeyPatch, broken: str | None
) -> None:
    """Without stderr, with a closed one or one that knows ASCII only, nothing raises."""
    stream: io.TextIOBase | None = None
    if broken is not None:
        stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        if broken == "closed":
            stream.close()
    monkeypatch.setattr("sys.stderr", stream)
    term.Terminal().line("🚀 ▁▂▃")


def outcome(**changes: object) -> Outcome:
    fields: dict[str, object] = {
        "records_written": 38, "records_durable": 38, "records_dropped": 0, "records_refused": 0, "gaps": (), "refusal": "",
        "files_durable": 0, "files_failed": 0,
        "points_rejected": 0, "is_complete": True, "reason": "",
    }  # fmt: skip
    return Outcome(**{**fields, **changes})  # type: ignore[arg-type]  # fields by name


def test_the_receipt() -> None:
    """The receipt says how many records of how many are durable, and how many files."""
    folder = Path("/x/run-1")
    assert outcome_lines(outcome(), folder) == ["38 of 38 records durable; 0 files"]
    big = outcome(records_written=128_400, records_durable=128_400, files_durable=1)
    assert outcome_lines(big, folder) == ["128,400 of 128,400 records durable; 1 file"]


def test_refused_records_are_not_durable() -> None:
    """The receipt says how many records the server refused for good, and why."""
    lines = outcome_lines(
        outcome(
            records_durable=36, records_refused=2, gaps=((4, 5),), refusal="notes have 9 bytes"
        ),
        Path("/x"),
    )
    assert lines[0] == "36 of 38 records durable; 0 files"
    assert lines[1] == "2 records were refused by the server (4-5): notes have 9 bytes"


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    """Where something is missing, the line says what, why, where it lies and how to send it."""
    lines = outcome_lines(
        outcome(
            records_durable=3,
            is_complete=False,
            reason="the server does not answer",
            records_dropped=2,
        ),
        tmp_path,
    )
    assert lines[0] == "3 of 38 records durable; 0 files"
    assert "2 records were dropped" in lines[1]
    assert "the server does not answer" in lines[2] and f"runyard sync {tmp_path}" in lines[2]
    lost = outcome_lines(
        outcome(records_durable=3, is_complete=False, reason="no agent answers"), tmp_path / "gone"
    )
    assert "gone was removed: what the server has not got by now is lost" in lost[0]


def test_html_is_escaped() -> None:
    """Names of runs and metrics are text in notebooks, not markup."""
    markup = term.run_html("<b>", "http://x/?a=1&b=2", "running", {"<i>": 1.0})
    assert "<b><" not in markup.replace("<b>runyard</b>", "") and "&lt;i&gt;" in markup
