"""Turns what is printed into numbered lines as a terminal would show them: the last state of each, its colours kept.

Lines of both streams are numbered together, from 1, in the order in which they came. A line whose text changes later (a
progress bar, a line above the cursor) is told again under its number; the last telling counts.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Callable

STDOUT, STDERR, NOTE = 1, 2, 3
"""Streams; NOTE is what runyard itself says in place of lines that it could not keep."""
LOGGED = 4
"""Whole lines that are kept and not shown, of a handler of `logging`: kept as STDERR, but not in the middle of its lines."""
LINE_BYTES_MAX = 16 << 10
"""Longer lines are cut into several."""
BLOCK_BYTES_MAX = 256 << 10
ROW_COUNT_MAX = 64
"""Rows above the cursor that can still change."""
SLOW_FACTOR = 8
"""How much more a chunk costs in which the cursor moves."""

_CONTROL = bytes(code for code in range(32) if code not in b"\t\n\x1b") + b"\x7f"
_TITLE = re.compile(rb"\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)?")
"""What sets a window's title and the like (OSC)."""
_ESCAPED_MOVE = re.compile(rb"\x1b\[\d*[ABEFGJK]")
_TOKEN = re.compile(
    rb"(?P<newline>\r?\n)|(?P<return>\r)|(?P<back>\x08)|\x1b\[(?P<count>\d*)(?P<move>[ABEFGJK])"
    rb"|(?P<text>(?:[^\r\n\x08\x1b]+|\x1b(?!\[\d*[ABEFGJK]))+)"
)
_UNFINISHED = re.compile(rb"(?:\x1b(?:\[[\d;:?]{0,32})?|\r)\Z")
"""The beginning of an escape sequence, or of the end of a line, at the end of a chunk."""


@dataclasses.dataclass(frozen=True)
class Block:
    """Lines that follow each other: `count` of them, joined by newlines, in UTF-8."""

    first_line: int
    stream: int
    time_unix_ns: int
    """When the first byte of each of them came."""
    count: int
    text: bytes


class _Row:
    __slots__ = ("is_changed", "is_returned", "line", "text", "time_unix_ns")

    def __init__(self, text: bytes = b"", line: int = 0, time_unix_ns: int = 0) -> None:
        self.text = text
        self.line = line
        """Its number; 0 while it has none."""
        self.time_unix_ns = time_unix_ns
        self.is_returned = False
        """Whether the cursor stands at its beginning: what comes takes the place of the text."""
        self.is_changed = False


class _Screen:
    """The last rows of one stream, and where its cursor is."""

    def __init__(self) -> None:
        self.rows = [_Row()]
        self.at = 0
        self.carry = b""

    @property
    def is_plain(self) -> bool:
        """Returns whether the cursor is at the end of the last row."""
        return self.at == len(self.rows) - 1 and not self.rows[-1].is_returned

    def trim(self) -> None:
        """Forgets the rows that can no longer change."""
        surplus = len(self.rows) - ROW_COUNT_MAX
        if surplus > 0:
            del self.rows[:surplus]
            self.at = max(0, self.at - surplus)


class ConsoleLines:
    """Takes chunks of bytes as they were written; gives blocks of lines."""

    def __init__(
        self,
        *,
        first_line: int = 1,
        redact: Callable[[bytes], bytes] = lambda text: text,
        ends_inside: Callable[[bytes], bool] = lambda text: False,
        secret_bytes_max: int = 0,
    ) -> None:
        self.next_line = first_line
        self._redact = redact
        self._ends_inside = ends_inside
        self._cut_bytes = LINE_BYTES_MAX + secret_bytes_max
        self._screens = {STDOUT: _Screen(), STDERR: _Screen(), LOGGED: _Screen()}

    def cost(self, stream: int, data: bytes) -> int:
        """Returns what it takes to turn the chunk into lines, in bytes of plain text."""
        is_plain = self._screens[stream].is_plain and not _moves(data)
        return len(data) if is_plain else len(data) * SLOW_FACTOR

    def feed(self, stream: int, data: bytes, time_unix_ns: int) -> list[Block]:
        """Returns the lines that the chunk ends. What it leaves unfinished comes with the next chunk, or `flush`."""
        screen = self._screens[stream]
        if screen.carry:
            data, screen.carry = screen.carry + data, b""
        unfinished = _UNFINISHED.search(data, max(0, len(data) - 40))
        if unfinished:
            screen.carry = unfinished[0]
            data = data[: unfinished.start()]
        if b"\r\n" in data:
            data = data.replace(b"\r\n", b"\n")
        if screen.is_plain and not _moves(data):
            blocks = self._feed_plain(screen, stream, data, time_unix_ns)
        else:
            blocks = self._feed_moves(screen, stream, data, time_unix_ns)
        return blocks + list(self._cut_last(screen, stream))

    def skip(self, stream: int) -> None:
        """Takes note that a chunk is passed over: the line it would have gone on with ends here."""
        self._screens[stream] = _Screen()

    def flush(self, time_unix_ns: int, *, is_last: bool = False) -> list[Block]:
        """Returns the lines that changed since they were told, unfinished ones too; `is_last`: nothing follows."""
        blocks = []
        for stream, screen in self._screens.items():
            if is_last and screen.carry.startswith(b"\x1b"):
                self._put(screen, screen.carry, time_unix_ns)
                screen.carry = b""
            for row in screen.rows:
                if not row.is_changed or (not row.line and not row.text):
                    continue
                if not is_last and self._ends_inside(row.text):
                    continue
                blocks += self._tell(stream, [row])
        return blocks

    def note(self, text: str, time_unix_ns: int) -> list[Block]:
        """Returns a line of our own."""
        return self._tell(NOTE, [_Row(text.encode(), 0, time_unix_ns)])

    def _feed_plain(
        self, screen: _Screen, stream: int, data: bytes, time_unix_ns: int
    ) -> list[Block]:
        last = screen.rows[-1]
        end = data.rfind(b"\n")
        if end < 0:
            self._put(screen, data, time_unix_ns)
            return []
        blocks: list[Block] = []
        start = 0
        if last.text or last.line:  # the line that was begun before keeps its time, and its number
            start = data.find(b"\n") + 1
            self._put(screen, data[: start - 1], time_unix_ns)
            if last.is_changed or not last.line:
                blocks += self._tell(stream, [last])
            screen.rows.append(_Row())
        if end >= start:
            body = self._clean(data[start:end])
            lines = body.split(b"\n")
            if len(body) > LINE_BYTES_MAX and len(max(lines, key=len)) > LINE_BYTES_MAX:
                lines = [piece for line in lines for piece in _pieces(line)]
                body = b"\n".join(lines)
            number = self.next_line
            self.next_line += len(lines)
            blocks += _blocks(number, stream, time_unix_ns, len(lines), body)
            kept = lines[-ROW_COUNT_MAX:]
            screen.rows.pop()
            screen.rows += [
                _Row(line, self.next_line - len(kept) + place, time_unix_ns)
                for place, line in enumerate(kept)
            ]
            screen.rows.append(_Row())
        screen.at = len(screen.rows) - 1
        screen.trim()
        rest = data[end + 1 :]
        if rest:
            self._put(screen, rest, time_unix_ns)
        return blocks

    def _feed_moves(
        self, screen: _Screen, stream: int, data: bytes, time_unix_ns: int
    ) -> list[Block]:
        ended: list[_Row] = []
        for token in _TOKEN.finditer(data):
            kind = token.lastgroup
            row = screen.rows[screen.at]
            if kind == "text":
                self._put(screen, token[0], time_unix_ns)
            elif kind == "newline":
                if not row.line:
                    row.time_unix_ns = row.time_unix_ns or time_unix_ns
                    row.line = self._draw_line()
                    ended.append(row)
                _go_down(screen, 1)
            elif kind == "return":
                row.is_returned = True
            elif kind == "back":
                row.text, row.is_changed = row.text[: _last_character(row.text)], True
            else:
                _move(screen, token["move"], token["count"])
        return self._tell(stream, ended)

    def _put(self, screen: _Screen, text: bytes, time_unix_ns: int) -> None:
        if not text:
            return
        row = screen.rows[screen.at]
        row.text = text if row.is_returned else row.text + text
        row.time_unix_ns = row.time_unix_ns or time_unix_ns
        row.is_returned, row.is_changed = False, True

    def _cut_last(self, screen: _Screen, stream: int) -> Iterator[Block]:
        """Tells the beginning of a line that grows without an end."""
        row = screen.rows[screen.at]
        while len(row.text) > self._cut_bytes:
            text = self._redact(row.text)
            if len(text) <= LINE_BYTES_MAX:
                row.text = text
                return
            head = _Row(text[:LINE_BYTES_MAX], row.line, row.time_unix_ns)
            yield from self._tell(stream, [head])
            row.text, row.line = text[LINE_BYTES_MAX:], 0

    def _tell(self, stream: int, rows: list[_Row]) -> list[Block]:
        """Returns the rows as blocks; numbers those that have no number."""
        blocks: list[Block] = []
        texts: list[bytes] = []
        first = _Row()

        def close() -> None:
            if texts:
                blocks.extend(
                    _blocks(first.line, stream, first.time_unix_ns, len(texts), b"\n".join(texts))
                )
                texts.clear()

        for row in rows:
            row.line = row.line or self._draw_line()
            row.is_changed = False
            pieces = _pieces(self._clean(row.text).replace(b"\n", b" "))
            is_next = texts and row.line == first.line + len(texts)
            if not is_next or row.time_unix_ns != first.time_unix_ns:
                close()
                first = row
            texts.append(pieces[0])
            for piece in pieces[1:]:
                close()
                first = _Row(b"", self._draw_line(), row.time_unix_ns)
                texts.append(piece)
        close()
        return blocks

    def _draw_line(self) -> int:
        self.next_line += 1
        return self.next_line - 1

    def _clean(self, text: bytes) -> bytes:
        """Returns the text as UTF-8 without control characters, titles and secrets."""
        if b"\x1b]" in text:
            text = _TITLE.sub(b"", text)
        text = self._redact(text.translate(None, _CONTROL))
        return text if text.isascii() else text.decode("utf-8", "replace").encode()


def _go_down(screen: _Screen, count: int) -> None:
    for _ in range(min(count, ROW_COUNT_MAX)):
        screen.at += 1
        if screen.at == len(screen.rows):
            screen.rows.append(_Row())
        else:
            screen.rows[screen.at].is_returned = True
    screen.trim()


def _move(screen: _Screen, move: bytes, number: bytes) -> None:
    """Moves the cursor, or erases; columns but the first are not kept."""
    row = screen.rows[screen.at]
    count = int(number[:4] or b"1")
    if move in (b"A", b"F"):
        screen.at = max(0, screen.at - count)
    elif move in (b"B", b"E"):
        screen.at = min(len(screen.rows) - 1, screen.at + count)
    elif move == b"G" and count <= 1:
        row.is_returned = True
    elif move == b"K" and (row.is_returned or number == b"2"):
        _erase(row)
    elif move == b"J" and number in (b"", b"0"):
        for below in screen.rows[screen.at + 1 :]:
            _erase(below)
    if move in (b"E", b"F"):
        screen.rows[screen.at].is_returned = True


def _erase(row: _Row) -> None:
    if row.text:
        row.text, row.is_changed = b"", True


def _moves(data: bytes) -> bool:
    """Returns whether the cursor moves back, up or down within the chunk."""
    if b"\r" in data or b"\x08" in data:
        return True
    return b"\x1b[" in data and _ESCAPED_MOVE.search(data) is not None


def _last_character(text: bytes) -> int:
    """Returns where the last character begins."""
    place = max(0, len(text) - 1)
    while place > 0 and text[place] & 0xC0 == 0x80:
        place -= 1
    return place


def _pieces(line: bytes) -> list[bytes]:
    if len(line) <= LINE_BYTES_MAX:
        return [line]
    pieces, start = [], 0
    while start < len(line):
        stop = start + LINE_BYTES_MAX
        while stop < len(line) and stop > start + 1 and line[stop] & 0xC0 == 0x80:
            stop -= 1  # not within a character
        pieces.append(line[start:stop])
        start = stop
    return pieces


def _blocks(
    first_line: int, stream: int, time_unix_ns: int, count: int, text: bytes
) -> Iterator[Block]:
    """Yields the lines as blocks of bounded size."""
    while len(text) > BLOCK_BYTES_MAX:
        cut = text.rfind(b"\n", 0, BLOCK_BYTES_MAX)
        if cut < 0:
            break
        within = text.count(b"\n", 0, cut) + 1
        yield Block(first_line, stream, time_unix_ns, within, text[:cut])
        first_line, count, text = first_line + within, count - within, text[cut + 1 :]
    yield Block(first_line, stream, time_unix_ns, count, text)
