"""Says what is wrong with a batch: refuses it whole if it is malformed, single series if only they are bad. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from runyard_server.domain.console import (
    LINE_BYTES_MAX,
    LINE_MAX,
    ConsoleBlock,
    ConsoleStream,
)
from runyard_server.domain.errors import InvalidArgument
from runyard_server.domain.extended_json import read_object
from runyard_server.domain.points import (
    METRIC_NAME_BYTES_MAX,
    SEQUENCE_MAX,
    WRITER_MAX,
    Batch,
    Journal,
    PointTable,
    Rejection,
    SummaryChange,
)
from runyard_server.ingest.validate_media import split_media

VALUE_SHOWN_MAX = 128
_CONSOLE_BLOCK_BYTES = 32
"""What a block of lines takes besides its text."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What one batch may hold."""

    batch_bytes_max: int
    summary_value_bytes_max: int
    metric_name_bytes_max: int = METRIC_NAME_BYTES_MAX


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a series is refused; `message` goes to the user."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ValidBatch:
    """A batch that may be stored, and what was taken out of it."""

    batch: Batch
    rejections: tuple[Rejection, ...] = ()

    @property
    def points_rejected(self) -> int:
        """Returns how many points were taken out."""
        return sum(rejection.points for rejection in self.rejections)


def validate_batch(batch: Batch, limits: BatchLimits) -> ValidBatch:
    """Returns the batch without its bad series and changes.

    Raises InvalidArgument (FIELD_INVALID, FIELD_TOO_LARGE, COLUMN_LENGTH_MISMATCH) if the whole is malformed.
    """
    _check_identity(batch)
    _check_size(batch, limits)
    _check_names(batch)
    for position, table in enumerate(batch.tables):
        _check_table(batch, table, position)
    _check_console(batch)
    _check_media(batch)
    changes, change_rejections = _check_changes(batch, limits)
    media, media_rejections = split_media(
        batch.media_values, lambda name: _name_problem(name, limits)
    )
    valid = refuse_metrics(batch, _bad_names(batch.metric_names, limits))
    if change_rejections or media_rejections:
        cut = tuple(replace(one, metric=_cut(one.metric)) for one in media_rejections)
        return ValidBatch(
            replace(valid.batch, summary_changes=changes, media_values=media),
            valid.rejections + change_rejections + cut,
        )
    return valid


def refuse_media(valid: ValidBatch, names: Mapping[str, Problem]) -> ValidBatch:
    """Returns the batch without the media values of these names."""
    if not names:
        return valid
    kept = tuple(value for value in valid.batch.media_values if value.name not in names)
    counts = dict.fromkeys(names, 0)
    for value in valid.batch.media_values:
        if value.name in counts:
            counts[value.name] += 1
    rejections = tuple(
        Rejection(_cut(name), problem.reason, problem.message, counts[name])
        for name, problem in names.items()
    )
    return ValidBatch(replace(valid.batch, media_values=kept), valid.rejections + rejections)


def refuse_metrics(batch: Batch, problems: Mapping[int, Problem]) -> ValidBatch:
    """Returns the batch without the metrics at these positions of `metric_names`; the names keep their positions.

    A refused metric is reported with all its points, and also if the batch has none of it.
    """
    if not problems:
        return ValidBatch(batch)
    points = dict.fromkeys(problems, 0)
    tables = []
    for table in batch.tables:
        for index in table.metric_indexes:
            if index in points:
                points[index] += table.steps.size
        tables.append(_without(table, problems))
    rejections = tuple(
        Rejection(_cut(batch.metric_names[index]), problem.reason, problem.message, points[index])
        for index, problem in sorted(problems.items())
    )
    kept = tuple(table for table in tables if table.metric_indexes)
    return ValidBatch(replace(batch, tables=kept), rejections)


def batch_bytes(batch: Batch) -> int:
    """Returns the bytes of the batch's columns, names, changes and media; about what it takes in memory and on the wire."""
    columns = sum(
        table.steps.nbytes
        + table.times_unix_ns.nbytes
        + table.sequences.nbytes
        + table.values.nbytes
        + 4 * len(table.metric_indexes)
        for table in batch.tables
    )
    names = sum(map(len, batch.metric_names))
    changes = sum(len(change.key) + len(change.value_json) for change in batch.summary_changes)
    lines = sum(len(block.text) + _CONSOLE_BLOCK_BYTES for block in batch.console_blocks)
    media = sum(value.size_bytes for value in batch.media_values)
    return columns + names + changes + lines + media


def _check_identity(batch: Batch) -> None:
    _check_range("run_key", batch.run_key, 1, 2**64 - 1)
    _check_range("writer", batch.writer, 1, WRITER_MAX)
    _check_range("first_sequence", batch.first_sequence, 1, SEQUENCE_MAX)
    _check_range("last_sequence", batch.last_sequence, batch.first_sequence, SEQUENCE_MAX)


def _check_size(batch: Batch, limits: BatchLimits) -> None:
    size_bytes = batch_bytes(batch)
    if size_bytes > limits.batch_bytes_max:
        raise InvalidArgument(
            "FIELD_TOO_LARGE",
            f"the batch has {size_bytes} bytes, at most {limits.batch_bytes_max} are allowed; send it in parts",
            metadata={"field": "batch", "value": size_bytes, "limit": limits.batch_bytes_max},
        )


def _check_names(batch: Batch) -> None:
    names = batch.metric_names
    if len(set(names)) == len(names):
        return
    seen: set[str] = set()
    for position, name in enumerate(names):
        if name in seen:
            raise _invalid(f"metric_names[{position}]", name, "names must be unique")
        seen.add(name)


def _check_table(batch: Batch, table: PointTable, position: int) -> None:
    field = f"tables[{position}]"
    indexes = table.metric_indexes
    rows, metrics = table.steps.size, len(indexes)
    _check_length(f"{field}.times_unix_ns", table.times_unix_ns.size, rows, "one per step")
    _check_length(f"{field}.sequences", table.sequences.size, rows, "one per step")
    _check_length(f"{field}.values", table.values.size, rows * metrics, "steps times metrics")
    if indexes and max(indexes) >= len(batch.metric_names):
        raise _invalid(
            f"{field}.metric_indexes",
            max(indexes),
            f"there are {len(batch.metric_names)} metric names",
            limit=len(batch.metric_names) - 1,
        )
    if len(set(indexes)) != metrics:
        raise _invalid(f"{field}.metric_indexes", _repeated(indexes), "each metric at most once")
    if not rows:
        return
    sequences = table.sequences
    wrong = np.flatnonzero(sequences[1:] <= sequences[:-1])
    if wrong.size:
        value = int(sequences[wrong[0] + 1])
        raise _invalid(
            f"{field}.sequences",
            value,
            f"stands after {int(sequences[wrong[0]])}; they must ascend",
        )
    _check_range(f"{field}.sequences", int(sequences[0]), batch.first_sequence, SEQUENCE_MAX)
    _check_range(f"{field}.sequences", int(sequences[-1]), 1, batch.last_sequence)


def _check_console(batch: Batch) -> None:
    is_console = batch.journal == Journal.CONSOLE
    if batch.journal == Journal.SYSTEM and batch.summary_changes:
        raise _invalid("journal", batch.journal.name, "such a batch holds tables only")
    if is_console and (batch.metric_names or batch.tables or batch.summary_changes):
        raise _invalid("journal", batch.journal.name, "such a batch holds console_blocks only")
    if not is_console and batch.console_blocks:
        raise _invalid("journal", batch.journal.name, "console_blocks are of JOURNAL_CONSOLE")
    before = batch.first_sequence
    for position, block in enumerate(batch.console_blocks):
        field = f"console_blocks[{position}]"
        _check_range(f"{field}.sequence", block.sequence, before, batch.last_sequence)
        before = block.sequence
        _check_range(f"{field}.first_line", block.first_line, 1, LINE_MAX)
        _check_range(f"{field}.line_count", block.line_count, 1, LINE_MAX)
        _check_range(f"{field}.stream", block.stream, ConsoleStream.STDOUT, ConsoleStream.NOTE)
        _check_lines(field, block)


def _check_media(batch: Batch) -> None:
    if batch.journal != Journal.RUN and batch.media_values:
        raise _invalid("journal", batch.journal.name, "media_values are of JOURNAL_RUN")
    before = batch.first_sequence
    for position, value in enumerate(batch.media_values):
        field = f"media_values[{position}].sequence"
        _check_range(field, value.sequence, before, batch.last_sequence)
        before = value.sequence


def _check_lines(field: str, block: ConsoleBlock) -> None:
    line_count = block.text.count(b"\n") + 1
    if line_count != block.line_count:
        raise InvalidArgument(
            "COLUMN_LENGTH_MISMATCH",
            f"{field}.text has {line_count} lines, but must have {block.line_count}, as line_count says",
            metadata={"field": f"{field}.text", "value": line_count, "limit": block.line_count},
        )
    if len(block.text) > LINE_BYTES_MAX:
        longest = max(map(len, block.text.split(b"\n")))
        if longest > LINE_BYTES_MAX:
            raise InvalidArgument(
                "FIELD_TOO_LARGE",
                f"{field}.text has a line of {longest} bytes, at most {LINE_BYTES_MAX} are allowed; cut it",
                metadata={"field": f"{field}.text", "value": longest, "limit": LINE_BYTES_MAX},
            )


def _check_length(field: str, length: int, expected: int, why: str) -> None:
    if length != expected:
        raise InvalidArgument(
            "COLUMN_LENGTH_MISMATCH",
            f"{field} has {length} entries, but must have {expected}: {why}",
            metadata={"field": field, "value": length, "limit": expected},
        )


def _bad_names(names: Iterable[str], limits: BatchLimits) -> dict[int, Problem]:
    problems = {}
    for position, name in enumerate(names):
        problem = _name_problem(name, limits)
        if problem:
            problems[position] = Problem("METRIC_NAME_INVALID", f"metric {_shown(name)} {problem}")
    return problems


def _name_problem(name: str, limits: BatchLimits) -> str:
    if not name:
        return "is empty; a name has at least one character"
    if not name.isprintable() and any(_is_control(character) for character in name):
        return "holds a control character, which no name may hold"
    # UTF-8 takes at most 4 bytes a character: most names need no encoding to know.
    if 4 * len(name) > limits.metric_name_bytes_max:
        size_bytes = len(name.encode())
        if size_bytes > limits.metric_name_bytes_max:
            return f"has {size_bytes} bytes, at most {limits.metric_name_bytes_max} are allowed"
    return ""


def _is_control(character: str) -> bool:
    """Returns whether it is of Unicode's category Cc."""
    return character < " " or "\x7f" <= character < "\xa0"


def _check_changes(
    batch: Batch, limits: BatchLimits
) -> tuple[tuple[SummaryChange, ...], tuple[Rejection, ...]]:
    kept, rejections = [], []
    for position, change in enumerate(batch.summary_changes):
        field = f"summary_changes[{position}].sequence"
        _check_range(field, change.sequence, batch.first_sequence, batch.last_sequence)
        problem = _change_problem(change, limits)
        if problem is None:
            kept.append(change)
        else:
            rejections.append(Rejection(_cut(change.key), problem.reason, problem.message, 0))
    return tuple(kept), tuple(rejections)


def _change_problem(change: SummaryChange, limits: BatchLimits) -> Problem | None:
    key_problem = _name_problem(change.key, limits)
    if key_problem:
        return Problem("METRIC_NAME_INVALID", f"summary key {_shown(change.key)} {key_problem}")
    if not change.value_json:
        return None
    field = f"summary value of {_shown(change.key)}"
    try:
        json.loads(
            change.value_json
        )  # alone, so that the object around it below cannot hide a comma
        read_object(
            f'{{"value":{change.value_json}}}',
            field=field,
            bytes_max=limits.summary_value_bytes_max + len('{"value":}'),
        )
    except InvalidArgument as error:
        return Problem(error.reason, error.message)
    except (ValueError, RecursionError) as error:
        return Problem("FIELD_INVALID", f"{field} is not extended JSON: {error}")
    return None


def _without(table: PointTable, refused: Mapping[int, Problem]) -> PointTable:
    kept = [place for place, index in enumerate(table.metric_indexes) if index not in refused]
    if len(kept) == len(table.metric_indexes):
        return table
    values = table.values.reshape(len(table.metric_indexes), table.steps.size)
    return replace(
        table,
        metric_indexes=tuple(table.metric_indexes[place] for place in kept),
        values=values[kept].reshape(-1),
    )


def _check_range(field: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        limit = low if value < low else high
        side = "at least" if value < low else "at most"
        raise _invalid(field, value, f"must be {side} {limit}", limit=limit)


def _invalid(
    field: str, value: object, problem: str, *, limit: object | None = None
) -> InvalidArgument:
    shown = _shown(value) if isinstance(value, str) else value
    metadata = {"field": field, "value": shown}
    if limit is not None:
        metadata["limit"] = limit
    return InvalidArgument("FIELD_INVALID", f"{field} is {shown}: {problem}", metadata=metadata)


def _repeated(indexes: tuple[int, ...]) -> int:
    return next(index for place, index in enumerate(indexes) if index in indexes[:place])


def _shown(text: str) -> str:
    return repr(text if len(text) <= VALUE_SHOWN_MAX else text[:VALUE_SHOWN_MAX] + "…")


def _cut(name: str) -> str:
    return name.encode()[:METRIC_NAME_BYTES_MAX].decode("utf-8", "ignore")
