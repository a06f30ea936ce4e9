"""What a person sees of a run in the terminal or the notebook: a few lines at the start, tables at the end."""

from __future__ import annotations

import html
import math
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from runyard.settings import is_terminal_plain

PREFIX = "runyard: "
SPARK_LENGTH = 40
_BARS = "▁▂▃▄▅▆▇█"
_TEXT_LENGTH_MAX = 20
_NOTE_COUNT_MAX = 1000

Write = Callable[[str], None]


def _nowhere(line: str) -> None:
    """Takes what is said before there is a log."""


class Terminal:
    """Prints lines with our prefix on stderr; says each note once. Nothing it does raises."""

    def __init__(self, *, is_silent: bool = False, is_quiet: bool = False) -> None:
        self.is_silent = is_silent
        self.is_quiet = is_quiet
        self._log: Write = _nowhere
        self._noted: set[str] = set()
        self._is_progress_shown = False
        self._lock = threading.Lock()

    @property
    def is_coloured(self) -> bool:
        """Returns whether stderr is a terminal that takes colour."""
        try:
            return bool(sys.stderr.isatty()) and not is_terminal_plain()
        except (AttributeError, ValueError):
            return False

    def log_to(self, log: Write) -> None:
        """Writes all that is said, silent or not, to `log` too."""
        self._log = log

    def line(self, text: str = "") -> None:
        """Prints a line."""
        self._log(text)
        if not self.is_silent:
            self._print(self._prefixed(text))

    def say(self, text: str, word: str, colour: str, *, is_repeated: bool, end: str) -> None:
        """Prints what a script says through us."""
        if not is_repeated:
            self._once(f"said.{word}.{text}", text, word, colour)
            return
        self.end_progress()
        self._write(self._prefixed(f"{self._coloured(word, colour)} {text}".lstrip()) + end)

    def note(self, key: str, text: str) -> None:
        """Prints a remark once per key."""
        self._once(key, text, "NOTE", "33")

    def warn(self, key: str, text: str) -> None:
        """Prints a warning once per key."""
        self._once(key, text, "WARNING", "31")

    def progress(self, text: str) -> None:
        """Shows a line that the next one replaces; on terminals only."""
        if self.is_silent or not self.is_coloured:
            return
        self._is_progress_shown = True
        self._write(f"\r\x1b[K{self._prefixed(text)}")

    def end_progress(self) -> None:
        """Takes the progress line away."""
        if self._is_progress_shown:
            self._is_progress_shown = False
            self._write("\r\x1b[K")

    def link(self, url: str) -> str:
        """Returns the address, underlined on a terminal."""
        return f"\x1b[4;34m{url}\x1b[0m" if self.is_coloured else url

    def strong(self, text: str) -> str:
        """Returns the text, bold on a terminal."""
        return f"\x1b[1m{text}\x1b[0m" if self.is_coloured else text

    def _once(self, key: str, text: str, word: str, colour: str) -> None:
        with self._lock:
            if key in self._noted or len(self._noted) >= _NOTE_COUNT_MAX:
                return
            self._noted.add(key)
        self._log(f"{word} {text}")
        if self.is_silent:
            return
        self._print(self._prefixed(f"{self._coloured(word, colour)} {text}".lstrip()))

    def _coloured(self, word: str, colour: str) -> str:
        return f"\x1b[{colour}m{word}\x1b[0m" if word and self.is_coloured else word

    def _prefixed(self, text: str) -> str:
        prefix = "\x1b[34m\x1b[1mrunyard\x1b[0m: " if self.is_coloured else PREFIX
        return "\n".join(prefix + part for part in text.split("\n"))

    def _print(self, text: str) -> None:
        self.end_progress()
        self._write(text + "\n")

    def _write(self, text: str) -> None:
        stream = sys.stderr
        try:
            stream.write(text)
            stream.flush()
        except UnicodeEncodeError:
            encoding = getattr(stream, "encoding", None) or "ascii"
            stream.write(text.encode(encoding, "replace").decode(encoding))
        except (AttributeError, OSError, ValueError):
            return  # no stderr (pythonw, daemons), or it is closed: there is nobody to tell


_scripts = Terminal()
"""Through which scripts speak with our prefix."""


def termlog(string: str = "", newline: bool = True, repeat: bool = True) -> None:
    """Prints a line of the script's own with our prefix; with `repeat=False` each text once."""
    _scripts.say(str(string), "", "", is_repeated=repeat, end="\n" if newline else "")


def termwarn(string: str, newline: bool = True, repeat: bool = True) -> None:
    """Prints a warning of the script's own; see termlog."""
    _scripts.say(str(string), "WARNING", "33", is_repeated=repeat, end="\n" if newline else "")


def termerror(string: str, newline: bool = True, repeat: bool = True) -> None:
    """Prints an error of the script's own; see termlog."""
    _scripts.say(str(string), "ERROR", "31", is_repeated=repeat, end="\n" if newline else "")


def history_table(histories: Mapping[str, Sequence[float]], row_count_max: int) -> list[str]:
    """Returns the lines of "Run history": a sparkline for each metric with finite values, by name."""
    rows = {}
    for name in sorted(histories):
        if name.startswith("_"):
            continue
        drawn = sparkline(histories[name])
        if drawn.strip():
            rows[name] = drawn
    return _table("Run history:", rows, row_count_max)


def summary_table(summary: Mapping[str, Any], row_count_max: int) -> list[str]:
    """Returns the lines of "Run summary": each scalar, by name; floats to 5 places, text cut at 20 characters."""
    rows = {}
    for name in sorted(summary):
        shown = None if name.startswith("_") else shown_value(summary[name])
        if shown is not None:
            rows[name] = shown
    return _table("Run summary:", rows, row_count_max)


def shown_value(value: Any) -> str | None:
    """Returns a summary value as the table shows it; None if it is no scalar."""
    if isinstance(value, bool) or (isinstance(value, int) and not isinstance(value, bool)):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        if value == int(value) and abs(value) < 1e15:
            return str(int(value))
        rounded = round(value, 5)
        return str(rounded) if rounded else f"{value:.5g}"
    if isinstance(value, str):
        return value[:_TEXT_LENGTH_MAX] + "..." if len(value) > _TEXT_LENGTH_MAX else value
    return None


def sparkline(values: Sequence[float], length: int = SPARK_LENGTH) -> str:
    """Returns at most `length` bars; a bar is the mean of its share, a blank where nothing finite is.

    A constant series draws the lowest bar.
    """
    cells = _cells(values, length)
    finite = [cell for cell in cells if cell is not None]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    scale = 0.5 if math.isinf(high - low) else 1.0  # the span of the largest floats is beyond them
    span = high * scale - low * scale
    drawn = []
    for cell in cells:
        if cell is None:
            drawn.append(" ")
        else:
            share = (cell * scale - low * scale) / span if span > 0 else 0.0
            drawn.append(_BARS[min(len(_BARS) - 1, int(share * len(_BARS)))])
    return "".join(drawn)


def _cells(values: Sequence[float], length: int) -> list[float | None]:
    count = min(len(values), length)
    cells: list[float | None] = []
    for i in range(count):
        share = values[i * len(values) // count : (i + 1) * len(values) // count]
        finite = [value for value in share if math.isfinite(value)]
        cells.append(sum(value / len(finite) for value in finite) if finite else None)
    return cells


def _table(title: str, rows: Mapping[str, str], row_count_max: int) -> list[str]:
    if not rows:
        return []
    names = list(rows)[:row_count_max]
    width = max(len(name) for name in names)
    lines = [title, *(f"{name:>{width}} {rows[name]}" for name in names)]
    if len(rows) > len(names):
        lines.append(f"+{len(rows) - len(names)} ...")
    return lines


def is_notebook() -> bool:
    """Returns whether a Jupyter kernel runs this code; imports nothing that is not imported."""
    ipython = sys.modules.get("IPython")
    if ipython is None:
        return False
    shell = getattr(ipython, "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in getattr(shell, "config", {})


def show_html(markup: str) -> bool:
    """Shows markup in the notebook; returns False outside of one."""
    if not is_notebook():
        return False
    display = sys.modules.get("IPython.display")
    if display is None:
        return False
    display.display(display.HTML(markup))
    return True


def run_html(
    name: str, url: str, state: str, summary: Mapping[str, Any], row_count_max: int = 10
) -> str:
    """Returns a compact view of a run for notebooks."""
    cells = [(key, shown_value(summary[key])) for key in sorted(summary) if not key.startswith("_")]
    rows = "".join(
        f"<tr><td>{html.escape(key)}</td><td>{html.escape(shown)}</td></tr>"
        for key, shown in [cell for cell in cells if cell[1] is not None][:row_count_max]
        if shown is not None
    )
    title = html.escape(name)
    linked = f'<a href="{html.escape(url)}" target="_blank">{title}</a>' if url else title
    return f"<div><b>runyard</b> {linked} <i>{html.escape(state)}</i><table>{rows}</table></div>"
