"""What the agent's tests stand on: a server that keeps what it is sent and fails as drawn, a disk, a trainer."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from runyard import journal_format as form
from runyard.agent.budget import Budget
from runyard.agent.digests import digest_file
from runyard.agent.disk import LocalDisk
from runyard.agent.heartbeat import Heart
from runyard.agent.ports import (
    Batch,
    Beat,
    BeatAnswer,
    Change,
    Ending,
    FileDigest,
    FilePart,
    Rejection,
    StartedRun,
    StopOrder,
    UploadPlan,
)
from runyard.agent.retry import Reach, Repeater
from runyard.agent.run import RunUpload
from runyard.agent.world import Server, World
from runyard.errors import Error, InvalidArgument, ResourceExhausted, Unavailable
from runyard.journal import JournalWriter, RowSchema
from tests.unit.sdk.artifact_fakes import FakeArtifacts

START = {"format": 1, "request_id": "r" * 32, "mode": "online", "project": "p"}
FINISH = b'{"exit_code": 0, "cause": "FINISH_CALLED", "evidence": "", "time_unix_ns": 5}'

Fault = Callable[[], "Error | None"]


class Disk(LocalDisk):
    """The real disk, but for who holds which lock, and without threads."""

    def __init__(self) -> None:
        self.living: set[str] = set()
        self.removed: list[str] = []

    def is_locked(self, path: str) -> bool:
        return path in self.living

    def remove(self, path: str) -> None:
        self.removed.append(path)
        super().remove(path)

    async def digest(self, path: str, *, size_bytes: int, part_bytes: int) -> FileDigest:
        return digest_file(path, size_bytes, part_bytes, threading.Event())

    async def digest_all(
        self, paths: Sequence[str], *, size_bytes_max: int
    ) -> list[tuple[tuple[int, int], FileDigest] | None]:
        return [self._digest_small(path, size_bytes_max, threading.Event()) for path in paths]


class FakeServer(FakeArtifacts):
    """Keeps what it is sent. `fault` draws what becomes of each call; half of the failed ones are carried out."""

    def __init__(self, chance: random.Random | None = None) -> None:
        super().__init__()
        self.chance = chance or random.Random(1)
        self.density = 0.0
        self.is_away = False
        self.refuse_batch: Callable[[Batch], Error | None] = lambda batch: None
        self.refuse_change: Callable[[Sequence[Change]], Error | None] = lambda changes: None
        self.refuse_start: Error | None = None
        self.rows: dict[int, tuple[int, tuple[str, ...]]] = {}
        self.covered: set[int] = set()
        self.batches: list[Batch] = []
        self.side_batches: list[Batch] = []
        """Those of the journals beside the run's own."""
        self.applied: list[int] = []
        self.summary: dict[str, tuple[int, str]] = {}
        self.endings: list[Ending] = []
        self.covered_at_end: int = 0
        self.beats: list[Beat] = []
        self.stop_orders: list[StopOrder] = []
        self.stages: list[tuple[str, str]] = []
        self.files: dict[str, bytes] = {}
        self.contents_held: dict[bytes, bytes] = {}
        self.refuse_file: Callable[[str], Error | None] = lambda name: None
        self.announced: list[int] = []
        """Files of each CreateUploads."""
        self.file_count_max = 1000
        self.uploads: dict[str, str] = {}
        self.parts: dict[str, bytes] = {}
        self.part_bytes = 1 << 30
        self.last_step_value: int | None = None
        self.is_resumed = False
        self.config_json = ""
        self.summary_json = ""
        self.start_count = 0

    async def _meet(self, do: Callable[[], Any]) -> Any:
        """Carries a call out, delayed, lost before or after, or answered with back-pressure."""
        await asyncio.sleep(self.chance.uniform(0, 0.3))
        if self.is_away:
            raise Unavailable("nobody there", reason="UNREACHABLE")
        draw = self.chance.random()
        if draw < self.density / 3:
            raise Unavailable("lost on the way")
        if draw < self.density * 2 / 3:
            raise ResourceExhausted("full", reason="QUEUE_FULL", retry_delay_s=0.4)
        answer = do()
        if draw < self.density:
            await asyncio.sleep(self.chance.uniform(0, 5))
            raise Unavailable("the reply was lost")
        return answer

    async def start_run(self, start: Mapping[str, Any]) -> StartedRun:
        def do() -> StartedRun:
            self.start_count += 1
            if self.refuse_start is not None:
                raise self.refuse_start
            return StartedRun("e/p/r", 7, 1, 1, "a-b-1", self.is_resumed, self.config_json)

        answer: StartedRun = await self._meet(do)
        return answer

    async def last_step(self, run_path: str, *, writer_max: int) -> int | None:
        answer: int | None = await self._meet(lambda: self.last_step_value)
        return answer

    async def read_summary(self, run_path: str) -> str:
        answer: str = await self._meet(lambda: self.summary_json)
        return answer

    async def write_batch(self, batch: Batch) -> Sequence[Rejection]:
        def do() -> list[Rejection]:
            error = self.refuse_batch(batch)
            if error is not None:
                raise error
            if batch.journal != form.RUN_JOURNAL:
                self.side_batches.append(batch)
                return []
            self.batches.append(batch)
            self.covered.update(range(batch.first_sequence, batch.last_sequence + 1))
            for table in batch.tables:
                for row, sequence in enumerate(table.sequences):
                    self.rows[int(sequence)] = (int(table.words[row, 0]), table.names)
            for change in batch.summary_changes:
                held = self.summary.get(change.key, (0, ""))
                self.summary[change.key] = max(held, (change.sequence, change.value_json))
            return []

        answer: list[Rejection] = await self._meet(do)
        return answer

    async def apply_changes(self, run_key: int, writer: int, changes: Sequence[Change]) -> None:
        def do() -> None:
            error = self.refuse_change(changes)
            if error is not None:
                raise error
            for change in changes:
                if not self.applied or change.sequence > self.applied[-1]:
                    self.applied.append(change.sequence)

        await self._meet(do)

    async def finish_run(self, run_key: int, writer: int, ending: Ending) -> None:
        def do() -> None:
            self.covered_at_end = len(self.covered)
            self.endings.append(ending)

        await self._meet(do)

    async def record_stop_stage(self, run_key: int, writer: int, stage: str, evidence: str) -> None:
        await self._meet(lambda: self.stages.append((stage, evidence)))

    async def heartbeat(self, agent_id: str, beats: Sequence[Beat]) -> BeatAnswer:
        def do() -> BeatAnswer:
            self.beats.extend(beats)
            return BeatAnswer(2.0, (), self.stop_orders)

        answer: BeatAnswer = await self._meet(do)
        return answer

    async def create_uploads(
        self, run_path: str, asks: Sequence[tuple[str, FileDigest]]
    ) -> Sequence[UploadPlan | Error]:
        def do() -> list[UploadPlan | Error]:
            if len(asks) > self.file_count_max:
                raise InvalidArgument("too many files", reason="FIELD_TOO_LARGE")
            self.announced.append(len(asks))
            return [self.refuse_file(name) or self._plan(name, digest) for name, digest in asks]

        answer: list[UploadPlan | Error] = await self._meet(do)
        return answer

    def _plan(self, name: str, digest: FileDigest) -> UploadPlan:
        held = self.contents_held.get(digest.sha256)
        if held is not None:
            self.files[name] = held
            return UploadPlan("", True, 0, ())
        upload_id = f"u{len(self.uploads)}"
        self.uploads[upload_id] = name
        count = max(1, -(-digest.size_bytes // self.part_bytes))
        assert digest.part_md5s in ((), digest.part_md5s[:count])
        urls = [f"{upload_id}/{part:04d}" for part in range(count)]
        return UploadPlan(upload_id, False, self.part_bytes, urls)

    async def put_part(self, url: str, part: FilePart) -> str:
        def do() -> str:
            content = Path(part.path).read_bytes()[part.offset : part.offset + part.size_bytes]
            self.parts[url] = content
            return f'"{hashlib.sha256(content).hexdigest()}"'

        answer: str = await self._meet(do)
        return answer

    async def put_parts(
        self, jobs: Sequence[tuple[str, FilePart]]
    ) -> Sequence[str | Error | OSError]:
        answers: list[str | Error | OSError] = []
        for url, part in jobs:
            try:
                answers.append(await self.put_part(url, part))
            except (Error, OSError) as error:
                answers.append(error)
        return answers

    async def complete_uploads(
        self, arrivals: Sequence[tuple[str, Sequence[str]]]
    ) -> Sequence[Error | None]:
        def do() -> list[None]:
            for upload_id, part_etags in arrivals:
                urls = sorted(url for url in self.parts if url.startswith(upload_id + "/"))
                assert len(urls) == len(part_etags)
                content = b"".join(self.parts[url] for url in urls)
                self.files[self.uploads[upload_id]] = content
                self.contents_held[hashlib.sha256(content).digest()] = content
            return [None] * len(arrivals)

        answer: list[None] = await self._meet(do)
        return answer

    async def close(self) -> None:
        pass


class Trainer:
    """Writes the journal of one run folder."""

    def __init__(self, root: Path, disk: Disk, *, name: str = "run-1", start: Any = START) -> None:
        self.folder = root / name
        (self.folder / "journal").mkdir(parents=True)
        self.journal = JournalWriter(self.folder / "journal", segment_bytes=[2048], is_synced=False)
        self._disk = disk
        self._schemas: dict[tuple[str, ...], RowSchema] = {}
        disk.living.add(f"{self.folder}/writer.lock")
        self.journal.append(form.START, json.dumps(start).encode())

    def log(self, step: int, names: tuple[str, ...] = ("loss",)) -> int:
        if names not in self._schemas:
            payload = json.dumps(names).encode()
            self._schemas[names] = self.journal.make_schema(names, payload)
        with self.journal.lock:
            self.journal.append_row(self._schemas[names], step, 1, [0.5] * len(names))
        return self.journal.sequence

    def change(self, content: Mapping[str, Any]) -> int:
        self.journal.append(form.CHANGE, json.dumps(content).encode())
        return self.journal.sequence

    def file(self, path: Path, policy: str, name: str = "") -> None:
        content = {"path": str(path), "name": name or path.name, "policy": policy}
        self.journal.append(form.FILE, json.dumps(content).encode())

    def finish(self) -> None:
        self.journal.append(form.FINISH, FINISH)
        self.journal.close()
        self.die()

    def die(self) -> None:
        self._disk.living.discard(f"{self.folder}/writer.lock")

    def mark(self) -> dict[str, Any]:
        fields: dict[str, Any] = json.loads((self.folder / "mark.json").read_bytes())
        return fields


def server_of(fake: FakeServer) -> Server:
    loop = asyncio.get_running_loop()
    reach = Reach(loop.time)
    repeater = Repeater(reach, draw=fake.chance.random)
    return Server("http://fake", fake, reach, repeater, Heart(fake, reach, agent_id="a"))


def world_of(disk: Disk) -> World:
    return World(disk, Budget(1 << 20), lambda: 1_700_000_000_000_000_000)


def upload_of(
    trainer: Trainer,
    disk: Disk,
    fake: FakeServer,
    *,
    is_foreground: bool = False,
    start: Any = START,
) -> RunUpload:
    return RunUpload(
        str(trainer.folder),
        start,
        world=world_of(disk),
        server=server_of(fake),
        is_foreground=is_foreground,
    )
