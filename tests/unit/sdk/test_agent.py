"""The agent: sends in order, repeats after any reply, deletes only what is durable, ends what died, goes when idle."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runyard import journal_format as form
from runyard.agent import agent as agent_module
from runyard.agent.agent import Agent
from runyard.agent.budget import Budget
from runyard.agent.disk import LocalDisk, _digest
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
    UploadPlan,
)
from runyard.agent.retry import Reach, Repeater
from runyard.agent.run import COMPLETE, CURRENT, REFUSED, RunUpload, Server, World
from runyard.errors import (
    Error,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
)
from runyard.journal import JournalWriter, RowSchema
from tests.simulation import loop as virtual

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

    async def digest(self, path: str, part_bytes_of: int) -> FileDigest:
        import threading

        return _digest(path, part_bytes_of, threading.Event())


class FakeServer:
    """Keeps what it is sent. `fault` draws what becomes of each call; half of the failed ones are carried out."""

    def __init__(self, chance: random.Random | None = None) -> None:
        self.chance = chance or random.Random(1)
        self.density = 0.0
        self.is_away = False
        self.refuse_batch: Callable[[Batch], Error | None] = lambda batch: None
        self.refuse_start: Error | None = None
        self.rows: dict[int, tuple[int, tuple[str, ...]]] = {}
        self.covered: set[int] = set()
        self.batches: list[Batch] = []
        self.applied: list[int] = []
        self.summary: dict[str, tuple[int, str]] = {}
        self.endings: list[Ending] = []
        self.covered_at_end: int = 0
        self.beats: list[Beat] = []
        self.files: dict[str, bytes] = {}
        self.uploads: dict[str, str] = {}
        self.parts: dict[str, bytes] = {}
        self.part_bytes = 1 << 30
        self.last_step_value: int | None = None
        self.is_resumed = False
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
            return StartedRun("e/p/r", 7, 1, 1, "a-b-1", self.is_resumed)

        answer: StartedRun = await self._meet(do)
        return answer

    async def last_step(self, run_path: str) -> int | None:
        answer: int | None = await self._meet(lambda: self.last_step_value)
        return answer

    async def write_batch(self, batch: Batch) -> Sequence[Rejection]:
        def do() -> list[Rejection]:
            error = self.refuse_batch(batch)
            if error is not None:
                raise error
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
            for change in changes:
                if not self.applied or change.sequence > self.applied[-1]:
                    self.applied.append(change.sequence)

        await self._meet(do)

    async def finish_run(self, run_key: int, writer: int, ending: Ending) -> None:
        def do() -> None:
            self.covered_at_end = len(self.covered)
            self.endings.append(ending)

        await self._meet(do)

    async def heartbeat(self, agent_id: str, beats: Sequence[Beat]) -> BeatAnswer:
        def do() -> BeatAnswer:
            self.beats.extend(beats)
            return BeatAnswer(2.0, (), ())

        answer: BeatAnswer = await self._meet(do)
        return answer

    async def create_upload(self, run_path: str, name: str, digest: FileDigest) -> UploadPlan:
        def do() -> UploadPlan:
            held = self.files.get(name)
            if held is not None and hashlib.sha256(held).digest() == digest.sha256:
                return UploadPlan("", True, 0, ())
            upload_id = f"u{len(self.uploads)}"
            self.uploads[upload_id] = name
            count = max(1, -(-digest.size_bytes // self.part_bytes))
            assert digest.part_md5s in ((), digest.part_md5s[:count])
            urls = [f"{upload_id}/{part:04d}" for part in range(count)]
            return UploadPlan(upload_id, False, self.part_bytes, urls)

        answer: UploadPlan = await self._meet(do)
        return answer

    async def put_part(self, url: str, part: FilePart) -> str:
        def do() -> str:
            content = Path(part.path).read_bytes()[part.offset : part.offset + part.size_bytes]
            self.parts[url] = content
            return f'"{hashlib.sha256(content).hexdigest()}"'

        answer: str = await self._meet(do)
        return answer

    async def complete_upload(self, upload_id: str, part_etags: Sequence[str]) -> None:
        def do() -> None:
            urls = sorted(url for url in self.parts if url.startswith(upload_id + "/"))
            assert len(urls) == len(part_etags)
            self.files[self.uploads[upload_id]] = b"".join(self.parts[url] for url in urls)

        await self._meet(do)

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
    trainer: Trainer, disk: Disk, fake: FakeServer, *, is_foreground: bool = False
) -> RunUpload:
    return RunUpload(
        str(trainer.folder),
        START,
        world=world_of(disk),
        server=server_of(fake),
        is_foreground=is_foreground,
    )


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return virtual.run(main)


def test_a_finished_journal_is_sent_and_ended(tmp_path: Path) -> None:
    """Every record is covered once, FinishRun comes last, the mark is complete and the journal removed."""
    disk, fake = Disk(), FakeServer()
    trainer = Trainer(tmp_path, disk)
    trainer.change({"config_set": {"lr": 0.1}})
    rows = [trainer.log(step, ("loss", "acc") if step % 3 else ("loss",)) for step in range(200)]
    trainer.change({"summary_set": {"best": {"$float": "NaN"}}})
    trainer.finish()

    async def main() -> str:
        return await upload_of(trainer, disk, fake).run()

    assert run(main()) == COMPLETE
    assert rows == sorted(fake.rows)
    assert list(range(200)) == [fake.rows[sequence][0] for sequence in rows]
    assert set(range(1, trainer.journal.sequence + 1)) == fake.covered
    assert len(fake.covered) == fake.covered_at_end
    assert fake.applied == [2]
    assert fake.summary["best"][1] == '{"$float":"NaN"}'
    (ending,) = fake.endings
    assert ("FINISH_CALLED", 0, trainer.journal.sequence) == (
        ending.cause,
        ending.exit_code,
        ending.last_sequence,
    )
    mark = trainer.mark()
    assert mark["is_complete"] and mark["durable_sequence"] == trainer.journal.sequence
    assert not list((trainer.folder / "journal").glob("*.seg"))
    answer = json.loads((trainer.folder / "run.json").read_bytes())
    assert (
        answer["run_key"],
        answer["url"],
        answer["next_step"],
    ) == ("7", "http://fake/e/p/runs/r", 0)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32), density=st.floats(0, 0.8), kill_count=st.integers(0, 3))
def test_whatever_the_replies_the_mark_is_true(
    tmp_path_factory: pytest.TempPathFactory, seed: int, density: float, kill_count: int
) -> None:
    """Lost, delayed, repeated, refused with a delay, the agent killed: the mark never passes what was not taken,
    never goes back, all is sent in the end, and no segment goes before it is durable."""
    chance = random.Random(seed)
    root = tmp_path_factory.mktemp("root")
    disk, fake = Disk(), FakeServer(chance)
    fake.density = density
    trainer = Trainer(root, disk)
    marks = [0]
    changes: list[int] = []

    def check() -> None:
        path = trainer.folder / "mark.json"
        if path.exists():
            durable = trainer.mark()["durable_sequence"]
            assert durable >= marks[-1]
            assert all(sequence in fake.covered for sequence in range(1, durable + 1))
            assert all(s in fake.applied for s in changes if s <= durable)
            marks.append(durable)

    async def train() -> None:
        for step in range(120):
            names = chance.choice([("a",), ("b", "c"), ("a", "b", "c")])
            trainer.log(step, names)
            if chance.random() < 0.1:
                changes.append(trainer.change({"config_set": {"k": step}}))
            if chance.random() < 0.2:
                await asyncio.sleep(chance.uniform(0, 1))
            check()
        trainer.finish()

    async def main() -> None:
        training = asyncio.get_running_loop().create_task(train())
        for _ in range(kill_count):
            upload = asyncio.get_running_loop().create_task(upload_of(trainer, disk, fake).run())
            await asyncio.sleep(chance.uniform(0, 8))
            upload.cancel()
            await asyncio.gather(upload, return_exceptions=True)
            check()
        outcome = await upload_of(trainer, disk, fake).run()
        await training
        assert outcome == COMPLETE

    run(main())
    check()
    last = trainer.journal.sequence
    assert last == trainer.mark()["durable_sequence"]
    assert set(range(1, last + 1)) == fake.covered
    assert changes == fake.applied
    assert len(fake.rows) == 120
    assert {1} == {len({e.last_sequence for e in fake.endings})}


def test_durable_segments_are_removed_while_the_run_goes_on(tmp_path: Path) -> None:
    """What is durable leaves the disk, but for the first segment, which holds START."""
    disk, fake = Disk(), FakeServer()
    trainer = Trainer(tmp_path, disk)

    async def main() -> None:
        upload = asyncio.get_running_loop().create_task(upload_of(trainer, disk, fake).run())
        for step in range(300):
            trainer.log(step)
        await asyncio.sleep(5)
        names = sorted(path.name for path in (trainer.folder / "journal").iterdir())
        assert form.segment_name(1) == names[0] and len(names) == 2
        trainer.finish()
        await upload

    run(main())
    assert trainer.mark()["is_complete"]


def test_a_vanished_process_is_ended(tmp_path: Path) -> None:
    """A free lock without FINISH: all that is there is sent, then the run ends as vanished, with evidence."""
    disk, fake = Disk(), FakeServer()
    start = {**START, "host": {"pid": 412, "hostname": "node7"}}
    trainer = Trainer(tmp_path, disk, start=start)
    last = [trainer.log(step) for step in range(10)][-1]

    async def main() -> str:
        upload = RunUpload(str(trainer.folder), start, world=world_of(disk), server=server_of(fake))
        task = asyncio.get_running_loop().create_task(upload.run())
        await asyncio.sleep(3)
        assert not fake.endings
        trainer.die()
        return await task

    assert run(main()) == COMPLETE
    (ending,) = fake.endings
    assert ("PROCESS_VANISHED", None, last) == (
        ending.cause,
        ending.exit_code,
        ending.last_sequence,
    )
    assert f"process 412 on node7 is gone; last record {last}" == ending.evidence


def test_a_torn_tail_of_a_dead_process_is_told(tmp_path: Path) -> None:
    """The journal is recovered to its last whole record, and the mark says so."""
    disk, fake = Disk(), FakeServer()
    trainer = Trainer(tmp_path, disk)
    last = [trainer.log(step) for step in range(10)][-1]
    (segment,) = (trainer.folder / "journal").glob("*.seg")
    content = bytearray(segment.read_bytes())
    end = len(bytes(content).rstrip(b"\0"))
    content[(end + 7) & ~7 : ((end + 7) & ~7) + 20] = b"\x21" * 20
    segment.write_bytes(bytes(content))
    trainer.die()
    assert run(_run(trainer, disk, fake)) == COMPLETE
    assert last == fake.endings[0].last_sequence
    assert f"last whole record, {last}" in trainer.mark()["message"]


async def _run(
    trainer: Trainer, disk: Disk, fake: FakeServer, *, is_foreground: bool = False
) -> str:
    return await upload_of(trainer, disk, fake, is_foreground=is_foreground).run()


@pytest.mark.parametrize("error", [InvalidArgument("bad", reason="FIELD_INVALID"), Internal("bug")])
def test_a_refused_record_is_set_aside_alone(tmp_path: Path, error: Error) -> None:
    """Halving finds the records that the server refuses; they are named in the mark, kept on disk, the rest is sent."""
    disk, fake = Disk(), FakeServer()
    trainer = Trainer(tmp_path, disk)
    rows = [trainer.log(step) for step in range(20)]
    bad = {rows[4], rows[13]}
    trainer.finish()

    def refuse(batch: Batch) -> Error | None:
        covered = range(batch.first_sequence, batch.last_sequence + 1)
        return error if bad & set(covered) else None

    fake.refuse_batch = refuse
    assert run(_run(trainer, disk, fake)) == COMPLETE
    assert set(rows) - bad == set(fake.rows)
    mark = trainer.mark()
    assert [[sequence, sequence] for sequence in sorted(bad)] == sorted(mark["refused_ranges"])
    assert mark["message"] == error.message
    assert list((trainer.folder / "journal").glob("*.seg"))


def test_a_batch_refused_whole_ends(tmp_path: Path) -> None:
    """A server that refuses everything is not asked without end: the count of refusals is bounded."""
    disk, fake = Disk(), FakeServer()
    trainer = Trainer(tmp_path, disk)
    for step in range(3000):
        trainer.log(step)
    trainer.finish()
    asked: list[Batch] = []

    def refuse(batch: Batch) -> Error:
        asked.append(batch)
        return InvalidArgument("no", reason="FIELD_INVALID")

    fake.refuse_batch = refuse
    assert run(_run(trainer, disk, fake)) == COMPLETE
    refused = trainer.mark()["refused_ranges"]
    assert sum(last - first + 1 for first, last in refused) >= 3000
    assert len(asked) < 80 * (3000 // 20)


def test_a_deleted_run_is_given_up(tmp_path: Path) -> None:
    """RUN_DELETED refuses the run: the mark says so, nothing is repeated, the journal stays."""
    disk, fake = Disk(), FakeServer()
    trainer = Trainer(tmp_path, disk)
    trainer.log(1)
    fake.refuse_batch = lambda batch: FailedPrecondition("it was deleted", reason="RUN_DELETED")
    assert run(_run(trainer, disk, fake)) == REFUSED
    assert tuple(trainer.mark()[key] for key in ("server", "message", "is_complete")) == (
        "refused",
        "it was deleted",
        False,
    )
    assert list((trainer.folder / "journal").glob("*.seg"))


def test_a_refused_start_is_told_in_run_json(tmp_path: Path) -> None:
    """run.json holds the reason, which init() raises."""
    disk, fake = Disk(), FakeServer()
    trainer = Trainer(tmp_path, disk)
    fake.refuse_start = FailedPrecondition("deleted", reason="RUN_DELETED")
    assert run(_run(trainer, disk, fake)) == REFUSED
    answer = json.loads((trainer.folder / "run.json").read_bytes())
    assert answer["error"] == {"reason": "RUN_DELETED", "message": "deleted"}


def test_a_resumed_run_learns_its_next_step(tmp_path: Path) -> None:
    """run.json of a resumed run continues after the last durable step."""
    disk, fake = Disk(), FakeServer()
    fake.is_resumed, fake.last_step_value = True, 41
    trainer = Trainer(tmp_path, disk)
    trainer.finish()
    run(_run(trainer, disk, fake))
    answer = json.loads((trainer.folder / "run.json").read_bytes())
    assert (answer["is_resumed"], answer["next_step"]) == (True, 42)


def test_an_absent_server_is_told_at_once_and_waited_for(tmp_path: Path) -> None:
    """The mark says unreachable within a second, reachable when it is back; nothing is lost."""
    disk, fake = Disk(), FakeServer()
    fake.is_away = True
    trainer = Trainer(tmp_path, disk)

    async def main() -> None:
        task = asyncio.get_running_loop().create_task(_run(trainer, disk, fake))
        await asyncio.sleep(1)
        assert trainer.mark()["server"] == "unreachable"
        trainer.log(1)
        await asyncio.sleep(600)
        fake.is_away = False
        await asyncio.sleep(7)
        assert trainer.mark()["server"] == "reachable"
        trainer.finish()
        assert await task == COMPLETE

    run(main())


def test_sync_of_a_living_run_ends(tmp_path: Path) -> None:
    """In the foreground, what is there is sent; a run whose process lives is not ended."""
    disk, fake = Disk(), FakeServer()
    trainer = Trainer(tmp_path, disk)
    last = trainer.log(1)
    assert run(_run(trainer, disk, fake, is_foreground=True)) == CURRENT
    assert last == trainer.mark()["durable_sequence"] and not fake.endings


def test_files_are_sent_as_their_policy_says(tmp_path: Path) -> None:
    """ "now" at once, "live" when it changed, "end" at the end; a missing one is counted and ends nothing."""
    disk, fake = Disk(), FakeServer()
    fake.part_bytes = 1000
    trainer = Trainer(tmp_path, disk)
    paths = {}
    for policy in ("now", "live", "end"):
        paths[policy] = tmp_path / f"{policy}.bin"
        paths[policy].write_bytes(policy.encode() * 1000)
        trainer.file(paths[policy], policy)
    trainer.file(tmp_path / "gone.bin", "now")

    async def main() -> None:
        task = asyncio.get_running_loop().create_task(_run(trainer, disk, fake))
        await asyncio.sleep(10)
        assert {"now.bin", "live.bin"} == set(fake.files)
        paths["live"].write_bytes(b"second" * 700)
        await asyncio.sleep(10)
        assert fake.files["live.bin"] == b"second" * 700
        trainer.finish()
        await task

    run(main())
    assert fake.files["end.bin"] == b"end" * 1000
    mark = trainer.mark()
    assert (mark["files_durable"], mark["files_failed"], mark["is_complete"]) == (3, 1, True)
    assert "gone.bin" in mark["message"]


def test_a_file_survives_the_agent(tmp_path: Path) -> None:
    """A file whose record is durable, but which was not sent when the agent died, is sent by the next agent."""
    disk, fake = Disk(), FakeServer()
    trainer = Trainer(tmp_path, disk)
    path = tmp_path / "model.bin"
    path.write_bytes(b"weights")
    trainer.file(path, "end")

    async def main() -> None:
        first = asyncio.get_running_loop().create_task(_run(trainer, disk, fake))
        await asyncio.sleep(5)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert not fake.files and trainer.mark()["durable_sequence"] == 2
        trainer.finish()
        await _run(trainer, disk, fake)

    run(main())
    assert fake.files["model.bin"] == b"weights"


def agent_of(root: Path, disk: Disk, fake: FakeServer) -> Agent:
    return Agent(
        str(root),
        base_url="http://fake",
        world=world_of(disk),
        make_server=lambda url: server_of(fake),
        idle_exit_s=15.0,
    )


def test_the_agent_adopts_begins_beats_and_goes(tmp_path: Path) -> None:
    """Left-over runs are sent, new ones found at once, offline ones passed over; idle, it ends."""
    disk, fake = Disk(), FakeServer()
    left = Trainer(tmp_path, disk, name="run-left")
    left.log(1)
    left.die()
    offline = Trainer(tmp_path, disk, name="run-off", start={**START, "mode": "offline"})
    offline.finish()
    empty = tmp_path / "run-empty"
    empty.mkdir()

    async def main() -> float:
        agent = agent_of(tmp_path, disk, fake)
        loop = asyncio.get_running_loop()
        serving = loop.create_task(agent.run())
        await asyncio.sleep(20)
        assert left.mark()["is_complete"]
        live = Trainer(tmp_path, disk, name="run-live")
        live.log(3)
        await asyncio.sleep(20)
        assert live.mark()["durable_sequence"] == live.journal.sequence
        assert len(fake.beats) >= 8 and fake.beats[-1].is_process_alive
        assert (3, live.journal.sequence) == (
            fake.beats[-1].last_step,
            fake.beats[-1].records_durable,
        )
        live.finish()
        end_s = loop.time()
        await serving
        assert not agent.has_new_work()
        assert live.mark()["is_complete"]
        waited_s = loop.time() - end_s
        Trainer(tmp_path, disk, name="run-late")
        assert agent.has_new_work()
        await agent.stop()
        return waited_s

    assert 15 <= run(main()) < 20
    assert not (offline.folder / "mark.json").exists()


def test_many_left_over_runs_are_sent_a_few_at_a_time(tmp_path: Path) -> None:
    """Hundreds of dead runs: all are sent, few at once, and looked at once only when done."""
    disk, fake = Disk(), FakeServer()
    trainers = []
    for number in range(60):
        trainers.append(Trainer(tmp_path, disk, name=f"run-{number}"))
        trainers[-1].finish()
    at_once: list[int] = []

    async def main() -> None:
        agent = agent_of(tmp_path, disk, fake)
        serving = asyncio.get_running_loop().create_task(agent.run())
        while not serving.done():
            at_once.append(len(agent._runs))
            await asyncio.sleep(0.1)
        await agent.stop()

    run(main())
    assert max(at_once) <= agent_module.LEFTOVER_COUNT_MAX
    assert all(trainer.mark()["is_complete"] for trainer in trainers)


def test_unsent_data_keeps_the_agent_for_an_hour(tmp_path: Path) -> None:
    """Without a server the agent waits an hour for a dead run's data to go, then ends; the data stays."""
    disk, fake = Disk(), FakeServer()
    fake.is_away = True
    trainer = Trainer(tmp_path, disk)
    trainer.finish()

    async def main() -> float:
        agent = agent_of(tmp_path, disk, fake)
        await agent.run()
        await agent.stop()
        return asyncio.get_running_loop().time()

    assert 3600 <= run(main()) < 3700
    assert list((trainer.folder / "journal").glob("*.seg"))
