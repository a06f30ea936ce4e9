"""Which lines of a table are wanted, as ClickHouse finds them: the same RE2, small letters of ASCII only, colours passed over."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from runyard_server.domain.errors import InvalidArgument
from runyard_server.storage.archive.format import joined_texts, shown_texts
from runyard_server.storage.ports.console import LineFilter, LinePlace


def check_expression(where: LineFilter) -> None:
    """Raises InvalidArgument if the regular expression cannot be."""
    if where.matches:
        try:
            pc.match_substring_regex(pa.array([""]), _expression(where))
        except pa.ArrowInvalid as error:
            raise InvalidArgument(
                "FIELD_INVALID",
                f"matches is {where.matches!r}: it is no regular expression of RE2 (https://github.com/google/re2/wiki/Syntax)",
                metadata={"field": "matches", "value": where.matches},
            ) from error


def select(
    table: pa.Table,
    writer: int,
    where: LineFilter,
    *,
    after: LinePlace | None = None,
    is_newest_first: bool = False,
) -> pa.Table:
    """Returns the rows that are wanted, of lines of one writer."""
    mask = None
    for condition in (
        *_bounds(table, where),
        *([] if after is None else [_behind(table, writer, after, is_newest_first)]),
    ):
        mask = condition if mask is None else pc.and_(mask, condition)
    if mask is not None:
        table = table.filter(mask)
    for pattern in _patterns(where):
        if not table.num_rows:
            break
        table = table.filter(pc.match_substring_regex(shown_texts(table), pattern))
    return table


def _bounds(table: pa.Table, where: LineFilter) -> list[pa.ChunkedArray]:
    found = []
    if where.streams:
        streams = pa.array([one for one in where.streams if 0 <= one < 256], pa.uint8())
        found.append(pc.is_in(table["stream"], value_set=streams))
    if where.first_time_unix_ms is not None:
        found.append(pc.greater_equal(table["time"], where.first_time_unix_ms))
    if where.last_time_unix_ms is not None:
        found.append(pc.less_equal(table["time"], where.last_time_unix_ms))
    return found


def _behind(
    table: pa.Table, writer: int, after: LinePlace, is_newest_first: bool
) -> pa.ChunkedArray:
    """Returns which rows lie behind the place, in the direction of reading."""
    further = pc.less if is_newest_first else pc.greater
    here = pc.equal(table["time"], after.time_unix_ms)
    beyond = further(table["time"], after.time_unix_ms)
    if writer == after.writer:
        return pc.or_(beyond, pc.and_(here, further(table["line"], after.line)))
    is_behind = writer < after.writer if is_newest_first else writer > after.writer
    return pc.or_(beyond, here) if is_behind else beyond


def _patterns(where: LineFilter) -> list[str]:
    found = []
    if where.contains:
        found.append("".join(_literal(one, where.is_case_sensitive) for one in where.contains))
    if where.matches:
        found.append(_expression(where))
    return found


def _literal(letter: str, is_case_sensitive: bool) -> str:
    """Returns a pattern of RE2 that finds the letter, one of ASCII in either case."""
    if not letter.isascii():
        # Ignoring case altogether would join letters beyond ASCII too.
        return letter
    if letter.isalpha() and not is_case_sensitive:
        return f"[{letter.lower()}{letter.upper()}]"
    return letter if letter.isalnum() else f"\\x{ord(letter):02x}"


def _expression(where: LineFilter) -> str:
    return where.matches if where.is_case_sensitive else f"(?i){where.matches}"


def text_test(where: LineFilter) -> Callable[[pa.Table], bool] | None:
    """Returns what tells of texts (columns text and plain) whether any of them is wanted; None: all are."""
    patterns = _patterns(where)
    if not patterns:
        return None
    literal = where.contains.encode()

    def has_any(texts: pa.Table) -> bool:
        if literal and not any(
            _has(joined, literal, where.is_case_sensitive) for joined in joined_texts(texts)
        ):
            return False
        shown = shown_texts(texts)
        return all(pc.any(pc.match_substring_regex(shown, one)).as_py() for one in patterns)

    return has_any


def _has(texts: bytes, literal: bytes, is_case_sensitive: bool) -> bool:
    return literal in texts if is_case_sensitive else literal.lower() in texts.lower()
