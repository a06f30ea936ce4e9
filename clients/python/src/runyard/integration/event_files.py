"""Follows TensorBoard's event files while others write them: torn ends are waited for, damage is passed over and told."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Callable

from runyard.integration.event_records import (
    FOOT_BYTES,
    HEAD_BYTES,
    RECORD_BYTES_MAX,
    EventParser,
    check_payload,
    payload_bytes,
)
from runyard.integration.event_values import Found
from runyard.integration.event_wire import DamagedRecord

CHUNK_BYTES = 256 << 10
PATIENCE = 5
"""So many looks at what seems damaged before it is given up: its writer may be in the middle of it."""

Take = Callable[[Found], None]


class EventFile:
    """One file that grows. Where a shorter or another file takes its place, that is read from its beginning."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem = ""
        """What was wrong with it last; what could not be read is left out."""
        self.offset = 0
        """How far it has been read."""
        self._inode = 0
        self._look_count = 0
        """Looks at the damage at the offset."""
        self._is_given_up = False
        self._parser = EventParser()

    def read(self, take: Take | None, *, is_last: bool = False) -> bool:
        """Reads a piece of what is new, or passes over it; returns whether there may be more of it at once.

        `is_last`: nobody writes any more, so what is torn or damaged stays so.
        """
        try:
            status = self.path.stat()
            if status.st_ino != self._inode or status.st_size < self.offset:
                self._begin(status.st_ino)
            if self._is_given_up or status.st_size - self.offset < HEAD_BYTES + FOOT_BYTES:
                return False
            before = self.offset
            with self.path.open("rb") as file:
                file.seek(self.offset)
                self._read(file, status.st_size, take, is_last=is_last)
            return self.offset > before
        except FileNotFoundError:
            return False  # it was removed
        except OSError as error:
            self.problem = f"it cannot be read: {error.strerror or error}"
            return False

    def _begin(self, inode: int) -> None:
        self.offset, self._inode = 0, inode
        self._look_count, self._is_given_up = 0, False
        self._parser = EventParser()

    def _read(self, file: BinaryIO, size_bytes: int, take: Take | None, *, is_last: bool) -> None:
        data = file.read(CHUNK_BYTES)
        if len(data) < HEAD_BYTES:
            return
        try:
            first_bytes = HEAD_BYTES + payload_bytes(data[:HEAD_BYTES]) + FOOT_BYTES
            if self.offset + first_bytes > size_bytes:
                return  # torn: the rest comes
            if first_bytes > RECORD_BYTES_MAX:
                self.offset += first_bytes
                return
            if first_bytes > len(data):
                data += file.read(first_bytes - len(data))
            self._take_whole(data, take, is_last=is_last)
        except DamagedRecord as error:  # without the length of a record, none behind it is found
            if not self._waits(is_last=is_last):
                self.problem = f"from byte {self.offset:,} on it cannot be read: {error}"
                self._is_given_up = True

    def _take_whole(self, data: bytes, take: Take | None, *, is_last: bool) -> None:
        """Takes the records that lie whole in the data, and moves the offset behind them."""
        view, start = memoryview(data), self.offset
        while self.offset - start + HEAD_BYTES <= len(data):
            place = self.offset - start
            begin = place + HEAD_BYTES
            end = begin + payload_bytes(data[place:begin])
            if end + FOOT_BYTES > len(data):
                return
            if take is not None:
                try:
                    check_payload(view[begin:end], view[end : end + FOOT_BYTES])
                    found = self._parser.parse(view[begin:end])
                except DamagedRecord as error:
                    if self._waits(is_last=is_last):
                        return
                    self.problem = f"the record at byte {self.offset:,} is left out: {error}"
                    found = []
                for value in found:
                    take(value)
            self._look_count = 0
            self.offset += end + FOOT_BYTES - place

    def _waits(self, *, is_last: bool) -> bool:
        """Returns whether what seems damaged may still become whole."""
        self._look_count += 1
        return not is_last and self._look_count < PATIENCE
