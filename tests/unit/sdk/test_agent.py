"""The agent: sends in order, repeats after any reply, deletes only what is durable, ends what died, goes when idle."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runyard import journal_format as form
from runyard.agent import agent as agent_module
from runyard.agent.agent import Agent
from runyard.agent.mark import REFUSED_RANGE_COUNT_MAX
from runyard.agent.ports import Batch, Change
from runyard.agent.run import COMPLETE, CURRENT, REFUSED, RunUpload
from runyard.errors import Error, FailedPrecondition, Internal, InvalidArgument
from runyard.run_folder import RunFolder
from tests.simulation import loop as virtual
from tests.unit.sdk.agent_fakes import (
    START,
    Disk,
    FakeServer,
    Trainer,
    server_of,
    upload_of,
    world_of,
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


def test_what_is_refused_is_in_no_batch(tmp_path: Path) -> None:
    """The receipt of the server, made of batches, lacks exactly what the mark and FinishRun call refused."""
    disk, fake = Disk(), FakeServer()
    trainer = Trainer(tmp_path, disk)
    bad = set()
    for step in range(30):
        trainer.log(step)
        sequence = trainer.change({"notes": f"n{step}"})
        if step in (3, 4, 17):
            bad.add(sequence)
    trainer.finish()

    def refuse(changes: Sequence[Change]) -> Error | None:
        is_bad = any(change.sequence in bad for change in changes)
        return InvalidArgument("too large", reason="FIELD_TOO_LARGE") if is_bad else None

    fake.refuse_change = refuse
    assert run(_run(trainer, disk, fake)) == COMPLETE
    everything = set(range(1, trainer.journal.sequence + 1))
    assert everything - fake.covered == bad
    assert [ending.records_refused for ending in fake.endings] == [len(bad)]
    assert sorted(fake.applied) == fake.applied and len(fake.applied) == 27


def test_refusals_beyond_the_list_are_counted(tmp_path: Path) -> None:
    """However scattered they are, refused records are never called durable, and their segments stay."""
    disk, fake = Disk(), FakeServer()
    trainer = Trainer(tmp_path, disk)
    for number in range(2 * REFUSED_RANGE_COUNT_MAX + 50):
        trainer.change({"notes": str(number)})
        trainer.change({"summary_set": {"a": number}})
    trainer.finish()
    fake.refuse_change = lambda changes: InvalidArgument("no", reason="FIELD_INVALID")
    assert run(_run(trainer, disk, fake)) == COMPLETE
    mark = RunFolder(trainer.folder).read_mark()
    assert mark is not None and mark.records_refused == 2 * REFUSED_RANGE_COUNT_MAX + 50
    assert fake.endings[0].records_refused == mark.records_refused
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


@pytest.mark.parametrize("note", ["fits", "x" * (1 << 20)])
def test_a_resumed_run_learns_what_it_held(tmp_path: Path, note: str) -> None:
    """run.json holds config and summary of earlier attempts; a summary beyond 1 MiB is left out."""
    disk, fake = Disk(), FakeServer()
    fake.is_resumed = True
    fake.config_json = '{"n":9007199254740993,"lr":{"$float":"NaN"}}'
    fake.summary_json = json.dumps({"best": {"$float": "Infinity"}, "note": note})
    trainer = Trainer(tmp_path, disk)
    trainer.finish()
    run(_run(trainer, disk, fake))
    answer = json.loads((trainer.folder / "run.json").read_bytes())
    assert answer["config"] == {"n": 2**53 + 1, "lr": {"$float": "NaN"}}
    wanted = {"best": {"$float": "Infinity"}, "note": note} if note == "fits" else None
    assert answer.get("summary") == wanted


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
