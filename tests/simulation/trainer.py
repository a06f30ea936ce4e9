"""Trainers of the simulated world: they write journals as protos/journal.md says, and remember what they wrote."""

from __future__ import annotations

import asyncio
import json
import math
import struct
from dataclasses import dataclass
from zlib import crc32

from runyard import journal_format as form
from tests.simulation.disk import Disk
from tests.simulation.printing import Keeper
from tests.simulation.world import Chance, Node, WorldClock
from tests.simulation.written import Media, Row, Setting, Written

ODD_VALUES = (math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308)
NAMES = ("loss", "accuracy", "lr", "grad/norm", "val.loss", "t")
MEDIA_NAMES = ("examples", "val/examples")
SYNC_INTERVAL_S = 0.25


class JournalWriter:
    """Appends frames to segments on a simulated disk; a frame is there whole when `append` returns True."""

    def __init__(
        self, disk: Disk, folder: str, *, segment_bytes: int, journal: str = form.RUN_JOURNAL
    ) -> None:
        self._disk = disk
        self._folder = f"{folder}/{journal}"
        self._segment_bytes = segment_bytes
        self._number = 0
        self._synced_number = 0
        self._position = 0
        self._size = 0
        self._schemas: dict[tuple[str, ...], int] = {}
        self.sequence = 0

    def append(self, kind: int, payload: bytes, schema: int = 0) -> bool:
        """Writes one record; returns False if the disk is full."""
        frame = _frame(kind, payload, schema)
        if self._position + len(frame) > self._size and not self._open(len(frame)):
            return False
        self._write(frame)
        self.sequence += 1
        return True

    def append_json(self, kind: int, content: dict[str, object]) -> bool:
        """Writes a record of JSON."""
        return self.append(kind, json.dumps(content).encode())

    def append_row(
        self, names: tuple[str, ...], step: int, time_ns: int, values: list[float]
    ) -> bool:
        """Writes a row, and its schema before it where the segment has none yet."""
        payload = form.ROW_HEAD.pack(step, time_ns) + struct.pack(f"<{len(values)}d", *values)
        row_bytes = len(_frame(form.ROW, payload, 1))
        schema_payload = json.dumps(list(names)).encode()
        schema_bytes = len(_frame(form.SCHEMA, schema_payload, 1))
        needed = row_bytes + schema_bytes
        if self._position + needed > self._size and not self._open(needed):
            return False
        if names not in self._schemas:
            self._schemas[names] = len(self._schemas) + 1
            self.append(form.SCHEMA, schema_payload, self._schemas[names])
        return self.append(form.ROW, payload, self._schemas[names])

    def sync(self) -> int:
        """Makes all segments last, and their names; returns the sequence up to which that holds."""
        for number in range(max(1, self._synced_number), self._number + 1):
            self._disk.sync(self._path(number))
        if self._number != self._synced_number:
            self._disk.sync_names()
            self._synced_number = self._number
        return self.sequence

    @property
    def unsynced_segments(self) -> int:
        """How many whole segments a power cut would meet before they were synced."""
        return self._number - max(1, self._synced_number)

    def tear(self, chance: Chance) -> None:
        """Leaves the beginning of a frame behind, as a death in the middle of a write does: its length comes last."""
        if not self._number:
            return
        frame = bytearray(_frame(form.ROW, bytes(64), 1))
        frame[0:4] = bytes(4)
        part = frame[: min(chance.between(5, len(frame)), self._size - self._position)]
        self._disk.write(self._path(self._number), self._position, bytes(part))

    def _path(self, number: int) -> str:
        return f"{self._folder}/{form.segment_name(number)}"

    def _open(self, frame_bytes: int) -> bool:
        size = max(self._segment_bytes, form.HEADER_BYTES + frame_bytes)
        try:
            self._disk.create(self._path(self._number + 1), size)
        except OSError:
            return False
        self._number += 1
        self._size = size
        header = form.HEADER.pack(form.MAGIC, form.VERSION, form.HEADER_BYTES, self.sequence + 1, 1)
        self._disk.write(self._path(self._number), 0, header)
        self._position = form.HEADER_BYTES
        self._schemas = {}
        return True

    def _write(self, frame: bytes) -> None:
        self._disk.write(self._path(self._number), self._position, frame)
        self._position += len(frame)


def _frame(kind: int, payload: bytes, schema: int) -> bytes:
    checked = struct.pack("<HHI", kind, 0, schema) + payload
    padding = bytes(form.padded(len(payload)) - len(payload))
    return struct.pack("<II", len(payload), crc32(checked)) + checked + padding


@dataclass(frozen=True)
class Lesson:
    """What a trainer does."""

    rows: int
    pace_s: float
    """Pause behind what was logged at once, on average."""
    finishes: bool
    pause_probability: float = 0.5
    """How often a pause follows a row: seldom, and many segments wait for one sync."""


class Trainer(Node):
    """A training process: one writer of a run. It logs rows and changes for a while, then ends well, or vanishes."""

    def __init__(
        self, written: Written, disk: Disk, chance: Chance, clock: WorldClock, *, label: str
    ) -> None:
        super().__init__(written.name)
        self.chance = chance
        self.clock = clock
        self.written = written
        self.label = label
        self.journal = JournalWriter(
            disk, written.folder, segment_bytes=chance.between(1, 16) * 512
        )
        self._disk = disk
        self._lock = f"{written.folder}/writer.lock"
        console = JournalWriter(
            disk,
            written.folder,
            segment_bytes=chance.between(1, 8) * 512,
            journal=form.CONSOLE_JOURNAL,
        )
        self.keeper = Keeper(f"{self.name}-keeper", console, written.printed, disk, chance)

    async def train(self, lesson: Lesson) -> None:
        """Logs rows; then writes FINISH, or ends without a word in the middle of a write."""
        if not await self._begin():
            self.is_alive = False
            return
        self.keeper.begin(self.written.folder)
        syncing = asyncio.ensure_future(self._keep_synced())
        talks = self.chance.random.choice((0.0, 0.1, 0.5))
        key_sets = [
            tuple(self.chance.random.sample(NAMES, self.chance.between(1, len(NAMES))))
            for _ in range(self.chance.between(1, 3))
        ]
        step = self.written.first_step
        for _ in range(lesson.rows):
            # Mostly onwards, sometimes late data for an earlier step.
            step = max(0, step + (1 if self.chance.hits(0.95) else -self.chance.between(0, 5)))
            self.log(self.chance.random.choice(key_sets), step)
            if self.chance.hits(0.05):
                self.change()
            if self.chance.hits(talks):
                self.keeper.keep(self.clock.now_unix_ns())
            if self.chance.hits(lesson.pause_probability):
                await asyncio.sleep(self.chance.delay_s(lesson.pace_s))
        if lesson.finishes:
            self._finish()
        else:
            self.journal.tear(self.chance)
        syncing.cancel()
        # The lock goes with the process.
        self.is_alive = False
        self._end_keeper()

    def kill(self) -> None:
        """Ends the process in the middle of a write."""
        if self.is_alive:
            self.journal.tear(self.chance)
            self._end_keeper()
        super().kill()

    def _end_keeper(self) -> None:
        """Has the keeper end with it: mostly well, though it may be killed too."""
        if self.chance.hits(0.8):
            self.keeper.end()
        else:
            self.keeper.kill()

    def log(self, names: tuple[str, ...], step: int) -> None:
        """Writes one row of values that differ for every record; a full disk drops it."""
        values = [
            self.chance.random.choice(ODD_VALUES)
            if self.chance.hits(0.05)
            else self.chance.random.random()
            for _ in names
        ]
        written, journal = self.written, self.journal
        if journal.append_row(names, step, self.clock.now_unix_ns(), values):
            bits = {
                name: struct.pack("<d", value) for name, value in zip(names, values, strict=True)
            }
            written.rows.append(Row(journal.sequence, step, bits))
            if self.chance.hits(0.05):
                self._log_media(step)
        written.last_sequence = journal.sequence

    def _log_media(self, step: int) -> None:
        """Writes a media value at a step that has a row."""
        name = self.chance.random.choice(MEDIA_NAMES)
        items = [{"caption": f"{self.chance.random.getrandbits(32):08x}"}]
        content: dict[str, object] = {
            "step": step, "time_unix_ns": self.clock.now_unix_ns(), "name": name, "kind": "image",
            "items": items,
        }  # fmt: skip
        if self.journal.append_json(form.MEDIA, content):
            self.written.media.append(Media(self.journal.sequence, step, name, items))

    def change(self) -> None:
        """Writes a change of config or summary; keys are the writer's own."""
        key, value = f"{self.name}/{self.chance.between(0, 3)}", self.chance.between(0, 1000)
        is_config = self.chance.hits(0.5)
        content: dict[str, object] = {"config_set" if is_config else "summary_set": {key: value}}
        written, journal = self.written, self.journal
        if journal.append_json(form.CHANGE, content):
            settings = written.config if is_config else written.summary
            settings.append(Setting(journal.sequence, key, value))
        written.last_sequence = journal.sequence

    async def _begin(self) -> bool:
        """Makes the folder; without room for START there is no run to speak of. Returns whether it began."""
        start: dict[str, object] = {
            "format": 1, "request_id": self.written.request_id, "mode": "online",
            "base_url": "http://sim", "entity": "sim", "project": "world",
            "run_id": self.written.run_id, "is_id_given": True, "resume": "allow",
            "config": {self.name: 0}, "writer_label": self.label,
            "start_time_unix_ns": self.clock.now_unix_ns(), "host": {"hostname": "sim", "pid": 1},
        }  # fmt: skip
        if self.written.rewind_to_step is not None:
            start["rewind_to_step"] = self.written.rewind_to_step
        if self.written.fork is not None:
            start["fork"] = {"run_path": self.written.fork[0], "step": self.written.fork[1]}
        try:
            self._disk.create(self._lock, 0)
        except OSError:
            return False
        self._disk.locks[self._lock] = self
        for _ in range(3):
            if self.journal.append_json(form.START, start):
                self.written.last_sequence = 1
                self.written.config.append(Setting(1, self.name, 0))
                return True
            await asyncio.sleep(1.0)
        return False

    def _finish(self) -> None:
        ending: dict[str, object] = {
            "exit_code": 0, "cause": "PROCESS_EXITED", "evidence": "", "time_unix_ns": 1,
        }  # fmt: skip
        if self.journal.append_json(form.FINISH, ending):
            self.written.is_finished = True
        self.written.last_sequence = self.journal.sequence
        self.written.synced_sequence = self.journal.sync()

    async def _keep_synced(self) -> None:
        while True:
            await asyncio.sleep(SYNC_INTERVAL_S)
            self.written.synced_sequence = self.journal.sync()
            self.keeper.sync()
