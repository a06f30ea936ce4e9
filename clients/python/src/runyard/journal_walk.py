"""Walks over a journal as it lies on the disk, whole or not: for people who look at one, and for what `--status` counts.

Unlike the agent and `journal_reader` it shows frames of unknown kinds, and goes on with the next segment behind damage.
"""

from __future__ import annotations

import dataclasses
import json
import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union
from zlib import crc32

from runyard import extended_json
from runyard import journal_format as form
from runyard.errors import UsageError
from runyard.journal_reader import Frame, first_sequence_of, is_well_formed

Buffer = Union[bytes, mmap.mmap]
_ZERO_BYTES = 1 << 16


@dataclasses.dataclass(frozen=True)
class Damage:
    """Bytes that are no frame."""

    segment: str
    """Name of the file."""
    offset: int
    """Where in it they begin."""
    size_bytes: int
    """How many, up to the last one that is not zero."""
    what: str
    """What is wrong, in words."""
    records_lost: int | None = 0
    """Records that are lost by it; None where nothing tells how many."""

    def __str__(self) -> str:
        lost = ""
        if self.records_lost:
            lost = f"; {self.records_lost:,} record{'' if self.records_lost == 1 else 's'} lost"
        elif self.records_lost is None:
            lost = "; how many records were in them is not known"
        return (
            f"{self.segment}: {self.what} at byte {self.offset:,}, {self.size_bytes:,} bytes{lost}"
        )


@dataclasses.dataclass(frozen=True)
class Place:
    """A frame and where it lies."""

    frame: Frame
    segment: str
    offset: int
    size_bytes: int
    """Header and padding included."""
    problem: str = ""
    """What is wrong with its payload, though its checksum is right."""


@dataclasses.dataclass(frozen=True)
class Segment:
    """One file of a journal."""

    path: Path
    first_sequence: int | None
    """None: it does not begin as a segment does."""
    size_bytes: int


def segments_of(path: Path) -> list[Segment]:
    """Returns the segments of a run folder, of a journal folder, or of one file, ascending. Raises UsageError."""
    try:
        if path.is_dir():
            folder = path / "journal" if (path / "journal").is_dir() else path
            files = sorted(file for file in folder.glob("*.seg"))
        else:
            files = [path]
        segments = [_segment(file) for file in files]
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
    if not segments:
        runs = len(list(path.glob("run-*")))
        hint = f"; it holds {runs} run folders, give one of them" if runs else ""
        raise UsageError(f"{path} holds no journal{hint}")
    return segments


def walk(segments: list[Segment], *, from_sequence: int = 0) -> Iterator[Place | Damage]:
    """Yields each frame and each damage in order; segments that end before `from_sequence` are not read.

    Segments at the front that were deleted because they are durable are no damage; nor are zeros at the end.
    """
    expected: int | None = None
    for index, segment in enumerate(segments):
        following = segments[index + 1].first_sequence if index + 1 < len(segments) else None
        first = segment.first_sequence
        if first is None:
            size_bytes = _used_bytes(segment.path, 0)
            what = "no segment begins" if size_bytes else "nothing was written: zeros"
            if index == 0 and segment.path.name == form.segment_name(1):
                expected = 1
            lost = None if size_bytes else 0
            if expected is not None and following is not None and following >= expected:
                lost, expected = following - expected, following
            yield Damage(segment.path.name, 0, size_bytes, what, lost)
            continue
        if following is not None and following <= from_sequence and following > first:
            expected = following
            continue
        if expected is not None and first != expected and not _is_removed(segments, index):
            what = f"begins at record {first:,} where {expected:,} was due"
            yield Damage(segment.path.name, 0, 0, what, max(0, first - expected))
        expected = first
        for found in _walk_segment(segment, first):
            if isinstance(found, Place):
                expected = found.frame.sequence + 1
                yield found
            elif following is not None and following >= expected:
                yield dataclasses.replace(found, records_lost=following - expected)
                expected = following
            else:
                yield found


def end_of(path: Path) -> tuple[int, int]:
    """Returns the number of the last segment and the last record of a journal, for a writer that goes on; zeros where there is none."""
    try:
        segments = segments_of(path)
    except UsageError:
        return 0, 0
    sequences = [segment.first_sequence - 1 for segment in segments if segment.first_sequence]
    sequences += [one.frame.sequence for one in walk(segments[-1:]) if isinstance(one, Place)]
    return int(segments[-1].path.stem), max(sequences, default=0)


def _is_removed(segments: list[Segment], index: int) -> bool:
    """Returns whether the segments before this one were deleted because they are durable: the first, with START, stays."""
    names = (segments[0].path.name, segments[index].path.name)
    return index == 1 and names[0] == form.segment_name(1) and names[1] != form.segment_name(2)


def _segment(path: Path) -> Segment:
    with path.open("rb") as file:
        header = file.read(form.HEADER_BYTES)
        return Segment(path, first_sequence_of(header), os.fstat(file.fileno()).st_size)


def _walk_segment(segment: Segment, sequence: int) -> Iterator[Place | Damage]:
    name = segment.path.name
    try:
        file = segment.path.open("rb")
    except OSError as error:  # removed meanwhile, for an agent is at work
        yield Damage(name, 0, 0, f"cannot be read ({error.strerror})", None)
        return
    with file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        names: dict[int, tuple[str, ...]] = {}
        position, size = form.HEADER_BYTES, len(content)
        while position + form.FRAME_HEADER_BYTES <= size:
            what, frame_bytes = _look(content, position, size)
            if frame_bytes == 0:
                if what:
                    yield Damage(name, position, _used(content, position), what, None)
                return
            length, _, kind, _, schema = form.FRAME_HEADER.unpack_from(content, position)
            start = position + form.FRAME_HEADER_BYTES
            payload = content[start : start + length]
            frame = Frame(sequence, kind, schema, payload, names.get(schema, ()))
            problem = "" if is_well_formed(frame) else _problem(frame)
            if kind == form.SCHEMA and not problem:
                names[schema] = tuple(frame.content)
            yield Place(frame, name, position, frame_bytes, problem)
            sequence += 1
            position += frame_bytes
        if position < size and any(content[position:size]):
            yield Damage(name, position, size - position, "a frame is cut", None)


def _look(content: Buffer, position: int, size: int) -> tuple[str, int]:
    """Returns (what is wrong, bytes of the frame); 0 bytes where there is no whole frame, "" at a clean end."""
    length, checksum, kind, _, _ = form.FRAME_HEADER.unpack_from(content, position)
    if length == 0 and kind == 0:
        is_clean = not any(content[position : position + form.FRAME_HEADER_BYTES])
        return ("" if is_clean else "a frame was not finished"), 0
    stop = position + form.FRAME_HEADER_BYTES + length
    if stop > size:
        return "a frame is cut", 0
    if crc32(content[position + form.CHECKED_OFFSET : stop]) != checksum:
        return "a frame's checksum is wrong", 0
    return "", form.FRAME_HEADER_BYTES + form.padded(length)


def _problem(frame: Frame) -> str:
    if frame.kind == form.ROW and not frame.names:
        return f"no SCHEMA {frame.schema} stands before it"
    return "its payload is not what its kind asks for"


def _used(content: Buffer, position: int) -> int:
    """Returns how many bytes there are from `position` to the last one that is not zero."""
    end = len(content)
    while end > position:
        start = max(position, end - _ZERO_BYTES)
        used = len(content[start:end].rstrip(b"\0"))
        if used:
            return start + used - position
        end = start
    return 0


def _used_bytes(path: Path, position: int) -> int:
    try:
        content = path.read_bytes()
    except OSError:
        return 0
    return _used(content, position)


def describe(place: Place) -> dict[str, Any]:
    """Returns the record as JSON can say it, values as in extended JSON; of a kind not known, the payload as text or hex."""
    frame = place.frame
    fields: dict[str, Any] = {
        "sequence": frame.sequence,
        "kind": form.KIND_NAMES.get(frame.kind, str(frame.kind)),
    }
    if place.problem:
        fields["problem"] = place.problem
    if frame.kind == form.ROW and len(frame.payload) >= form.ROW_HEAD.size:
        fields.update(step=frame.step, time_unix_ns=frame.time_unix_ns)
        if frame.names and not place.problem:
            fields["values"] = _extended(dict(zip(frame.names, frame.values)))
        else:
            count = (len(frame.payload) - form.ROW_HEAD.size) // 8
            floats = struct.unpack_from(f"<{count}d", frame.payload, form.ROW_HEAD.size)
            fields["values"] = _extended(list(floats))
    elif frame.kind == form.SCHEMA and not place.problem:
        fields.update(schema=frame.schema, names=frame.content)
    elif frame.kind in form.KIND_NAMES and not place.problem:
        fields["content"] = frame.content
    else:
        fields["payload"] = _shown(frame.payload)
    return fields


def _extended(value: Any) -> Any:
    return json.loads(extended_json.dumps(value))


def _shown(payload: bytes) -> Any:
    """Returns an unknown payload: its JSON, else its text, else its bytes in hex."""
    try:
        return json.loads(payload)
    except ValueError:
        pass
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError:
        return {"hex": payload.hex()}
    return text if text.isprintable() else {"hex": payload.hex()}


def last_line(folder: Path) -> int:
    """Returns the highest number of a line in a console's journal; 0 if there is none."""
    line = 0
    for one in walk(segments_of(folder)):
        if isinstance(one, Place) and one.frame.kind == form.CONSOLE and not one.problem:
            first, _, _, count = form.CONSOLE_HEAD.unpack_from(one.frame.payload)
            line = max(line, first + count - 1)
    return line
