"""Reads journals with the standard library alone: for people, for recovery, and to check that the agent reads the same."""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

from runyard import journal_format as form

END = "end"
"""All frames were read."""
TORN = "torn"
"""A frame is cut or its checksum is wrong: what follows it is lost, or not written yet in a live journal."""
UNKNOWN_KIND = "unknown_kind"
"""A frame of a kind that this version does not know and may not pass over."""
BAD_HEADER = "bad_header"
"""A segment does not begin as one does."""
BAD_PAYLOAD = "bad_payload"
"""A frame's checksum is right but its payload is not what its kind asks for."""
MISSING = "missing"
"""A segment between two others is not there, or does not go on where the one before ended."""


@dataclasses.dataclass(frozen=True)
class Frame:
    """One record of a journal."""

    sequence: int
    kind: int
    schema: int
    payload: bytes
    names: tuple[str, ...] = ()
    """Of a ROW: the names of its values."""

    @property
    def step(self) -> int:
        """Returns the step of a ROW."""
        return int(form.ROW_HEAD.unpack_from(self.payload)[0])

    @property
    def time_unix_ns(self) -> int:
        """Returns the time of a ROW."""
        return int(form.ROW_HEAD.unpack_from(self.payload)[1])

    @property
    def values(self) -> tuple[float, ...]:
        """Returns the values of a ROW, bit-exact."""
        return struct.unpack_from(f"<{len(self.names)}d", self.payload, form.ROW_HEAD.size)

    @property
    def content(self) -> Any:
        """Returns the JSON payload of any frame but a ROW, as plain JSON says it; of a CONSOLE what its bytes mean."""
        if self.kind == form.CONSOLE:
            first_line, time_unix_ns, stream, line_count = form.CONSOLE_HEAD.unpack_from(
                self.payload
            )
            text = self.payload[form.CONSOLE_HEAD.size :].decode("utf-8", "replace")
            return {
                "first_line": first_line,
                "time_unix_ns": time_unix_ns,
                "stream": stream,
                "line_count": line_count,
                "lines": text.split("\n"),
            }
        return json.loads(self.payload)


@dataclasses.dataclass
class JournalReader:
    """Reads a journal's segments in order; `frames` recovers to the last whole frame and then says why it stopped."""

    segments: list[tuple[str, bytes]]
    """(file name, bytes), ascending."""
    stop_reason: str = END
    """Why `frames` stopped; one of the constants of this module."""
    stop_place: str = ""
    """Where, as "file: offset"."""

    @classmethod
    def open(cls, path: Path) -> JournalReader:
        """Returns a reader of one segment file, of a journal folder, or of a run folder."""
        if path.is_dir():
            folder = path / "journal" if (path / "journal").is_dir() else path
            files = sorted(folder.glob("*.seg"))
        else:
            files = [path]
        return cls([(file.name, file.read_bytes()) for file in files])

    def frames(self) -> Iterator[Frame]:
        """Yields whole frames in order of sequence; journals whose first segments were deleted begin later."""
        next_sequence: int | None = None
        self._stop(END, "", 0)
        for name, content in self.segments:
            first_sequence = first_sequence_of(content)
            if first_sequence is None:
                self._stop(BAD_HEADER, name, 0)
                return
            if next_sequence is not None and first_sequence != next_sequence:
                self._stop(MISSING, name, 0)
                return
            next_sequence = first_sequence
            for frame in self._segment_frames(name, content, first_sequence):
                next_sequence = frame.sequence + 1
                yield frame
            if self.stop_reason in (UNKNOWN_KIND, BAD_PAYLOAD):
                return
        # A torn frame matters at the end only: a next segment that goes on there shows that it never counted.

    def _segment_frames(self, name: str, content: bytes, sequence: int) -> Iterator[Frame]:
        self._stop(END, "", 0)
        names_by_schema: dict[int, tuple[str, ...]] = {}
        position = form.HEADER_BYTES
        while position + form.FRAME_HEADER_BYTES <= len(content):
            length, checksum, kind, _, schema = form.FRAME_HEADER.unpack_from(content, position)
            if length == 0 and kind == 0:
                if any(content[position : position + form.FRAME_HEADER_BYTES]):
                    self._stop(TORN, name, position)
                return
            stop = position + form.FRAME_HEADER_BYTES + length
            if stop > len(content):
                self._stop(TORN, name, position)
                return
            if crc32(content[position + form.CHECKED_OFFSET : stop]) != checksum:
                self._stop(TORN, name, position)
                return
            if kind not in form.KIND_NAMES and not kind & form.SKIPPABLE:
                self._stop(UNKNOWN_KIND, name, position)
                return
            payload = content[position + form.FRAME_HEADER_BYTES : stop]
            frame = Frame(sequence, kind, schema, payload, names_by_schema.get(schema, ()))
            if not is_well_formed(frame):
                self._stop(BAD_PAYLOAD, name, position)
                return
            if kind == form.SCHEMA:
                names_by_schema[schema] = tuple(frame.content)
            yield frame
            sequence += 1
            position += form.FRAME_HEADER_BYTES + form.padded(length)

    def _stop(self, reason: str, name: str, position: int) -> None:
        self.stop_reason = reason
        self.stop_place = f"{name}: {position}" if name else ""


def describe(frame: Frame) -> dict[str, Any]:
    """Returns the frame as JSON can say it; a ROW's values as in extended JSON."""
    kind = form.KIND_NAMES.get(frame.kind, str(frame.kind))
    fields: dict[str, Any] = {"sequence": frame.sequence, "kind": kind}
    if frame.kind == form.ROW:
        from runyard import extended_json

        values = dict(zip(frame.names, frame.values))
        fields.update(step=frame.step, time_unix_ns=frame.time_unix_ns)
        fields["values"] = json.loads(extended_json.dumps(values))
    elif frame.kind == form.SCHEMA:
        fields.update(schema=frame.schema, names=frame.content)
    elif frame.kind in form.KIND_NAMES:
        fields["content"] = frame.content
    return fields


def first_sequence_of(content: bytes) -> int | None:
    """Returns the sequence of a segment's first frame; None if the content does not begin as a segment does."""
    if len(content) < form.HEADER_BYTES:
        return None
    magic, version, header_bytes, first_sequence, _ = form.HEADER.unpack_from(content)
    is_ours = magic == form.MAGIC and version == form.VERSION and header_bytes == form.HEADER_BYTES
    return int(first_sequence) if is_ours and first_sequence > 0 else None


def is_well_formed(frame: Frame) -> bool:
    """Returns whether the payload is what the kind asks for."""
    if frame.kind == form.ROW:
        return bool(frame.names) and len(frame.payload) == form.ROW_HEAD.size + 8 * len(frame.names)
    if frame.kind not in form.KIND_NAMES:
        return True
    if frame.kind == form.CONSOLE:
        return len(frame.payload) >= form.CONSOLE_HEAD.size
    try:
        content = frame.content
    except ValueError:
        return False
    if frame.kind == form.SCHEMA:
        return isinstance(content, list) and all(isinstance(name, str) for name in content)
    return isinstance(content, dict)
