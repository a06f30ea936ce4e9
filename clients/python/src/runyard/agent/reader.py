"""Follows a journal that grows: segments into pieces of records, checked frame by frame, whatever the crash left."""

from __future__ import annotations

import dataclasses
import json
from typing import Any
from zlib import crc32

import numpy as np

from runyard import journal_format as form
from runyard.agent.columns import Event, Piece, RowGatherer
from runyard.agent.media_messages import media_problem
from runyard.agent.ports import Disk, OpenFile
from runyard.agent.start import header_sequence

PIECE_BYTES_MAX = 1 << 20
"""Bytes of journal that one piece covers; a single larger frame makes a larger piece."""
FIRST_READ_BYTES = 1 << 16
"""Read at first, and while little comes; a full read doubles it up to PIECE_BYTES_MAX."""
FRAME_BYTES_MAX = 256 << 20
"""A length beyond this is damage, not a frame."""
FRAME_HEADER_WORDS = form.FRAME_HEADER_BYTES // 8
RUN_GUESS_MAX = 1 << 16


@dataclasses.dataclass(frozen=True)
class Lost:
    """Records that cannot be sent."""

    first_sequence: int
    last_sequence: int
    message: str
    """What is damaged. Empty: nothing is, an earlier agent removed them because they were durable."""


class JournalFollower:
    """Reads each record of a journal once, in order.

    `next_sequence` is the first record that was not read yet. `is_torn` says that bytes which are no whole frame lie
    there: in a live journal the writer may be at it, in a dead one they are lost. `blocked` is set where a newer
    agent is needed. `lost` grows by ranges that cannot be read. `last_step` and `finish` are of all that was read,
    durable or not.
    """

    def __init__(self, disk: Disk, folder: str, *, durable_sequence: int) -> None:
        self.next_sequence = 1
        self.is_torn = False
        self.blocked = ""
        self.lost: list[Lost] = []
        self.last_step: int | None = None
        self.finish: Event | None = None
        self._disk = disk
        self._folder = folder
        self._skip_to = durable_sequence + 1
        self._number = 0
        self._next_number = 1
        self._file: OpenFile | None = None
        self._position = 0
        self._read_bytes = FIRST_READ_BYTES
        self._names: dict[int, tuple[str, ...]] = {}
        self._run_guess = 1

    def read(self) -> Piece | None:
        """Returns the next piece that is not known to be durable; None if nothing whole is there (now)."""
        while not self.blocked:
            if self._file is None and not self._open_first():
                return None
            has_next = self._disk.stamp(self._path(self._next_number)) is not None
            piece = self._read_here()
            if piece is None:
                if not has_next or not self._advance():
                    return None
                continue
            self._note(piece)
            if piece.first_sequence >= self._skip_to:
                return piece
            if piece.last_sequence >= self._skip_to:
                return piece.within(self._skip_to, piece.last_sequence)
        return None

    def close(self) -> None:
        """Lets go of the open segment."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def removable(self, durable_sequence: int) -> list[tuple[str, int, int]]:
        """Returns (path, first, last record) of segments that are durable whole, lowest first.

        The first, which holds START, and the open one are left out.
        """
        found = []
        numbers = _segment_numbers(self._disk, self._folder)
        for number, following in zip(numbers, numbers[1:]):
            if number == 1:
                continue
            first, behind = self._first_sequence(number), self._first_sequence(following)
            is_read = following <= self._number
            if not is_read or first is None or behind is None or behind - 1 > durable_sequence:
                break
            found.append((self._path(number), first, behind - 1))
        return found

    def paths(self) -> list[str]:
        """Returns the paths of all segments, lowest first."""
        return [self._path(number) for number in _segment_numbers(self._disk, self._folder)]

    def _path(self, number: int) -> str:
        return f"{self._folder}/{form.segment_name(number)}"

    def _open_first(self) -> bool:
        """Opens the last segment that begins at or before the first record wanted."""
        numbers = _segment_numbers(self._disk, self._folder)
        chosen = 0
        for number in numbers:
            first = self._first_sequence(number)
            if first is None or (chosen and first > self._skip_to):
                break
            chosen = number
        return bool(chosen) and self._open(chosen)

    def _open(self, number: int) -> bool:
        file = self._disk.open(self._path(number))
        if file is None:
            return False
        first = header_sequence(file.read_at(0, form.HEADER_BYTES))
        if first is None:
            file.close()
            self.is_torn = True
            return False
        self.close()
        self._file, self._number, self._position = file, number, form.HEADER_BYTES
        later = [n for n in _segment_numbers(self._disk, self._folder) if n > number]
        self._next_number = later[0] if later else number + 1
        self._names = {}
        self.is_torn = False
        self.next_sequence = first
        return True

    def _advance(self) -> bool:
        """Goes on to the next segment; what is missing before it is lost."""
        if self.blocked:
            return False
        wanted, was_torn, number = self.next_sequence, self.is_torn, self._next_number
        # The first segment is kept when those behind it are removed; without a mark that is all that tells.
        is_removed = self._number == 1 and number > 2 and self._skip_to == 1
        first = self._first_sequence(number)
        if first is not None and first < wanted:
            self.blocked = f"segment {number} begins at record {first}, not at {wanted}"
            return False
        if first is None or not self._open(number):
            self.is_torn = was_torn or first is None
            return False
        if first > wanted and first > self._skip_to:
            message = f"records {wanted} to {first - 1} are damaged or missing on this disk"
            start = max(wanted, self._skip_to)
            self.lost.append(Lost(start, first - 1, "" if is_removed else message))
        return True

    def _first_sequence(self, number: int) -> int | None:
        file = self._disk.open(self._path(number))
        if file is None:
            return None
        try:
            return header_sequence(file.read_at(0, form.HEADER_BYTES))
        finally:
            file.close()

    def _read_here(self) -> Piece | None:
        file = self._file
        assert file is not None
        header = file.read_at(self._position, form.FRAME_HEADER_BYTES)
        if len(header) < form.FRAME_HEADER_BYTES or header == bytes(form.FRAME_HEADER_BYTES):
            self.is_torn = any(header)
            return None
        length = form.FRAME_HEADER.unpack(header)[0]
        needed = form.FRAME_HEADER_BYTES + form.padded(length)
        if needed > FRAME_BYTES_MAX:
            self.is_torn = True
            return None
        buffer = file.read_at(self._position, max(self._read_bytes, needed))
        scan = _Scan(buffer, self.next_sequence, self._names, self._run_guess)
        scan.run()
        self._run_guess = scan.run_guess
        self._position += scan.position
        self.next_sequence = scan.sequence
        self.lost.extend(
            Lost(lost.first_sequence, lost.last_sequence, lost.message)
            for lost in scan.lost
            if lost.first_sequence >= self._skip_to
        )
        self.is_torn = scan.is_torn
        self.blocked = scan.blocked
        is_full = scan.position * 2 > len(buffer)
        self._read_bytes = (
            min(PIECE_BYTES_MAX, self._read_bytes * 2) if is_full else FIRST_READ_BYTES
        )
        return self._piece(scan)

    def _piece(self, scan: _Scan) -> Piece | None:
        if scan.sequence == scan.first_sequence:
            return None
        return Piece(
            scan.first_sequence,
            scan.sequence - 1,
            scan.rows.tables(scan.buffer, FRAME_HEADER_WORDS),
            tuple(scan.events),
            scan.position,
        )

    def _note(self, piece: Piece) -> None:
        last_step = piece.last_step()
        if last_step is not None and (self.last_step is None or last_step > self.last_step):
            self.last_step = last_step
        if piece.events and piece.events[-1].kind == form.FINISH:
            self.finish = piece.events[-1]


class _Scan:
    """Walks over the whole frames of a buffer."""

    def __init__(
        self, buffer: bytes, sequence: int, names: dict[int, tuple[str, ...]], run_guess: int
    ) -> None:
        self.buffer = buffer
        self.first_sequence = sequence
        self.sequence = sequence
        self.position = 0
        self.rows = RowGatherer()
        self.events: list[Event] = []
        self.lost: list[Lost] = []
        self.is_torn = False
        self.blocked = ""
        self.run_guess = run_guess
        self._names = names
        self._view = memoryview(buffer)
        self._words = np.frombuffer(buffer, "<u8", count=len(buffer) // 8)

    def run(self) -> None:
        """Walks to the end, or to the first frame that is not whole, or of an unknown kind."""
        buffer, view = self.buffer, self._view
        size = len(buffer)
        unpack_from = form.FRAME_HEADER.unpack_from
        while self.position + form.FRAME_HEADER_BYTES <= size:
            position = self.position
            length, checksum, kind, _, schema = unpack_from(buffer, position)
            if length == 0 and kind == 0:
                self.is_torn = any(view[position : position + form.FRAME_HEADER_BYTES])
                return
            stop = position + form.FRAME_HEADER_BYTES + length
            frame_bytes = form.FRAME_HEADER_BYTES + form.padded(length)
            if stop > size or (kind == form.ROW and position + frame_bytes > size):
                self.is_torn = position == 0  # else the next read begins here
                return
            if crc32(view[position + form.CHECKED_OFFSET : stop]) != checksum:
                self.is_torn = True
                return
            if kind == form.ROW:
                self._take_rows(position, frame_bytes, length, schema)
            elif self._take_other(kind, schema, bytes(view[position + 16 : stop])):
                self.position += frame_bytes
                self.sequence += 1
            else:
                return

    def _take_rows(self, position: int, frame_bytes: int, length: int, schema: int) -> None:
        """Takes the row, and as many equal-shaped whole ones behind it as a guess says."""
        names = self._names.get(schema)
        if names is None or length != form.ROW_HEAD.size + 8 * len(names):
            self._lose("a row whose metric names are not known")
            self.position += frame_bytes
            self.sequence += 1
            return
        count = 1
        if self.run_guess > 1:
            count += self._count_equal(position, frame_bytes, length)
        else:
            following, buffer = position + frame_bytes, self.buffer
            is_equal = (
                buffer[following : following + 4] == buffer[position : position + 4]
                and buffer[following + 8 : following + 16] == buffer[position + 8 : position + 16]
            )
            self.run_guess = 32 if is_equal else 1
        self.rows.add(names, schema, position, self.sequence, count)
        self.position += count * frame_bytes
        self.sequence += count

    def _count_equal(self, position: int, frame_bytes: int, length: int) -> int:
        """Returns how many whole frames of the same head follow the one at `position`, as far as the guess goes."""
        width = frame_bytes // 8
        start = position // 8
        limit = min(self.run_guess, (len(self.buffer) - position) // frame_bytes)
        block = self._words[start : start + limit * width].reshape(limit, width)
        lengths = block[:, 0] & np.uint64(0xFFFFFFFF)
        is_equal = (lengths == np.uint64(length)) & (block[:, 1] == block[0, 1])
        count = limit if bool(is_equal.all()) else int(is_equal.argmin())
        view = self._view
        first, stop = position + form.CHECKED_OFFSET, form.FRAME_HEADER_BYTES + length - 8
        computed = [
            crc32(view[at : at + stop])
            for at in range(first + frame_bytes, first + count * frame_bytes, frame_bytes)
        ]
        is_whole = np.array(computed, dtype=np.uint64) == block[1:count, 0] >> np.uint64(32)
        whole = count - 1 if bool(is_whole.all()) else int(is_whole.argmin())
        self.run_guess = min(RUN_GUESS_MAX, self.run_guess * 8) if whole + 1 >= limit else 1
        return whole

    def _take_other(self, kind: int, schema: int, payload: bytes) -> bool:
        """Takes a frame that is not a row; returns False where reading must end."""
        if kind not in form.KIND_NAMES:
            if kind & form.SKIPPABLE:
                return True
            self.blocked = f"record {self.sequence} is of kind {kind}: it needs a newer runyard"
            return False
        if kind == form.CONSOLE:
            self._take_console(payload)
            return True
        try:
            content: Any = json.loads(payload)
        except ValueError:
            self._lose(f"a {form.KIND_NAMES[kind]} that is not JSON")
            return True
        if kind == form.SCHEMA:
            if isinstance(content, list) and all(isinstance(name, str) for name in content):
                self._names[schema] = tuple(content)
            else:
                self._lose("a SCHEMA that is no list of names")
        elif kind == form.MEDIA and isinstance(content, dict) and media_problem(content):
            self._lose(f"a MEDIA {media_problem(content)}")
        elif isinstance(content, dict):
            self.events.append(Event(self.sequence, kind, payload))
        else:
            self._lose(f"a {form.KIND_NAMES[kind]} that is no object")
        return True

    def _take_console(self, payload: bytes) -> None:
        if len(payload) >= form.CONSOLE_HEAD.size:
            self.events.append(Event(self.sequence, form.CONSOLE, payload))
        else:
            self._lose("a CONSOLE that is cut")

    def _lose(self, what: str) -> None:
        self.lost.append(Lost(self.sequence, self.sequence, f"record {self.sequence} is {what}"))


def _segment_numbers(disk: Disk, folder: str) -> list[int]:
    names = (name for name in disk.names(folder) if name.endswith(".seg"))
    return sorted(int(name[:-4]) for name in names if name[:-4].isdigit())
