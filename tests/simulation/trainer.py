"""Trainers of the simulated world: they write journals as protos/journal.md says, and remember what they wrote."""

from __future__ import annotations

import asyncio
import json
import math
import struct
from dataclasses import dataclass, field
from zlib import crc32

from runyard import journal_format as form
from tests.simulation.world import Chance, Disk, Node, WorldClock

ODD_VALUES = (math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308)
NAMES = ("loss", "accuracy", "lr", "grad/norm", "val.loss", "t")


@dataclass
class Written:
    """What a trainer wrote, so that the checker can ask for it."""

    run_id: str
    folder: str
    points: dict[tuple[str, int], bytes] = field(default_factory=dict)
    """(metric, step) -> bits of the value; the last one written wins."""
    point_count: int = 0
    config: dict[str, object] = field(default_factory=dict)
    summary: dict[str, object] = field(default_factory=dict)
    last_sequence: int = 0
    is_finished: bool = False
    """True if FINISH was written."""

    @property
    def path(self) -> str:
        """Returns entity/project/run_id."""
        return f"sim/world/{self.run_id}"


class JournalWriter:
    """Appends frames to segments on a simulated disk; a frame is there whole when `append` returns."""

    def __init__(self, disk: Disk, folder: str, *, segment_bytes: int) -> None:
        self._disk = disk
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._number = 0
        self._position = 0
        self._schemas: dict[tuple[str, ...], int] = {}
        self.sequence = 0

    def append(self, kind: int, payload: bytes, schema: int = 0) -> int:
        """Writes one record and returns its sequence."""
        frame = _frame(kind, payload, schema)
        if self._number == 0 or self._position + len(frame) > len(self._segment()):
            self._open(len(frame))
        self._write(frame)
        self.sequence += 1
        return self.sequence

    def append_json(self, kind: int, content: dict[str, object]) -> int:
        """Writes a record of JSON."""
        return self.append(kind, json.dumps(content).encode())

    def append_row(self, names: tuple[str, ...], step: int, time_ns: int, values: list[float]) -> int:  # fmt: skip
        """Writes a row, and its schema before it where the segment has none yet."""
        payload = form.ROW_HEAD.pack(step, time_ns) + struct.pack(f"<{len(values)}d", *values)
        row_bytes = len(_frame(form.ROW, payload, 1))
        schema_payload = json.dumps(list(names)).encode()
        schema_bytes = len(_frame(form.SCHEMA, schema_payload, 1))
        if self._number == 0 or self._position + row_bytes + schema_bytes > len(self._segment()):
            self._open(row_bytes + schema_bytes)
        if names not in self._schemas:
            self._schemas[names] = len(self._schemas) + 1
            self.append(form.SCHEMA, schema_payload, self._schemas[names])
        return self.append(form.ROW, payload, self._schemas[names])

    def tear(self, chance: Chance) -> None:
        """Leaves the beginning of a frame behind, as a death in the middle of a write does: its length comes last."""
        frame = bytearray(_frame(form.ROW, bytes(64), 1))
        frame[0:4] = bytes(4)
        part = frame[: chance.between(5, len(frame))]
        segment = self._segment()
        end = min(len(segment), self._position + len(part))
        segment[self._position : end] = part[: end - self._position]

    def _segment(self) -> bytearray:
        return self._disk.files[self._path()]

    def _path(self) -> str:
        return f"{self._folder}/journal/{form.segment_name(self._number)}"

    def _open(self, frame_bytes: int) -> None:
        self._number += 1
        size = max(self._segment_bytes, form.HEADER_BYTES + frame_bytes)
        segment = bytearray(size)
        segment[: form.HEADER_BYTES] = form.HEADER.pack(
            form.MAGIC, form.VERSION, form.HEADER_BYTES, self.sequence + 1, 1
        )
        self._disk.files[self._path()] = segment
        self._disk.touch(self._path())
        self._position = form.HEADER_BYTES
        self._schemas = {}

    def _write(self, frame: bytes) -> None:
        self._segment()[self._position : self._position + len(frame)] = frame
        self._position += len(frame)
        self._disk.touch(self._path())


def _frame(kind: int, payload: bytes, schema: int) -> bytes:
    checked = struct.pack("<HHI", kind, 0, schema) + payload
    padding = bytes(form.padded(len(payload)) - len(payload))
    return struct.pack("<II", len(payload), crc32(checked)) + checked + padding


class Trainer(Node):
    """A training process: logs rows and changes for a while, then ends well, or vanishes."""

    def __init__(
        self, name: str, disk: Disk, chance: Chance, clock: WorldClock, *, root: str
    ) -> None:
        super().__init__(name)
        self.chance = chance
        self.clock = clock
        self.written = Written(run_id=name, folder=f"{root}/run-20260101_000000-{name}")
        self.journal = JournalWriter(
            disk, self.written.folder, segment_bytes=chance.between(1, 16) * 512
        )
        disk.files[f"{self.written.folder}/writer.lock"] = bytearray()
        disk.touch(f"{self.written.folder}/writer.lock")
        disk.locks[f"{self.written.folder}/writer.lock"] = self
        start = {
            "format": 1, "request_id": f"{chance.random.getrandbits(128):032x}", "mode": "online",
            "base_url": "http://sim", "entity": "sim", "project": "world", "run_id": name,
            "is_id_given": True, "config": {"seed": chance.seed},
            "start_time_unix_ns": clock.now_unix_ns(), "host": {},
        }  # fmt: skip
        self.written.config["seed"] = chance.seed
        self.written.last_sequence = self.journal.append_json(form.START, start)

    async def train(self, rows: int, *, pace_s: float, finishes: bool) -> None:
        """Logs `rows` rows; then writes FINISH, or ends without a word in the middle of a write."""
        key_sets = [
            tuple(self.chance.random.sample(NAMES, self.chance.between(1, len(NAMES))))
            for _ in range(self.chance.between(1, 3))
        ]
        step = 0
        for _ in range(rows):
            # Mostly onwards, sometimes late data for an earlier step.
            step = max(0, step + (1 if self.chance.hits(0.95) else -self.chance.between(0, 5)))
            self.log(self.chance.random.choice(key_sets), step)
            if self.chance.hits(0.05):
                self.change()
            if self.chance.hits(0.5):
                await asyncio.sleep(self.chance.delay_s(pace_s))
        if finishes:
            self.written.last_sequence = self.journal.append_json(
                form.FINISH,
                {"exit_code": 0, "cause": "PROCESS_EXITED", "evidence": "", "time_unix_ns": 1},
            )
            self.written.is_finished = True
        else:
            self.journal.tear(self.chance)
        # The lock goes with the process.
        self.is_alive = False

    def log(self, names: tuple[str, ...], step: int) -> None:
        """Writes one row of values that differ for every record."""
        values = [
            self.chance.random.choice(ODD_VALUES)
            if self.chance.hits(0.05)
            else self.chance.random.random()
            for _ in names
        ]
        written = self.written
        sequence = self.journal.append_row(names, step, self.clock.now_unix_ns(), values)
        written.last_sequence = sequence
        for name, value in zip(names, values, strict=True):
            written.points[name, step] = struct.pack("<d", value)
            written.point_count += 1

    def change(self) -> None:
        """Writes a change of config or summary."""
        key, value = f"key{self.chance.between(0, 3)}", self.chance.between(0, 1000)
        if self.chance.hits(0.5):
            content: dict[str, object] = {"config_set": {key: value}}
            self.written.config[key] = value
        else:
            content = {"summary_set": {key: value}}
            self.written.summary[key] = value
        self.written.last_sequence = self.journal.append_json(form.CHANGE, content)
