"""The agent's part in the end of a run: real ends, corrections, and stops, with the clock of a simulation."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from runyard import journal_format as form
from runyard.agent.ports import ProcessEnd, StopOrder
from runyard.agent.run import COMPLETE, CORRECTION_WAIT_S, RunUpload
from runyard.errors import NotFound
from tests.simulation import loop as virtual
from tests.unit.sdk.agent_fakes import START, Disk, FakeServer, Trainer, server_of, world_of

ORDER = StopOrder(7, "nico", "enough", grace_s=60.0, may_kill=False, request_time_unix_ns=11)
EXITED = b'{"exit_code": 0, "cause": "PROCESS_EXITED", "evidence": "", "time_unix_ns": 5}'


class Watch:
    """A training process of a test: it ends when told, or by the signals that it heeds."""

    def __init__(self, disk: Disk, folder: Path, heeds: tuple[int, ...] = ()) -> None:
        self.end: ProcessEnd | None = None
        self.signals: list[tuple[float, int]] = []
        self._ended = asyncio.Event()
        self._disk = disk
        self._folder = folder
        self._heeds = heeds

    def watch(self, folder: str) -> Watch:
        return self

    async def wait(self, timeout_s: float) -> ProcessEnd | None:
        try:
            await asyncio.wait_for(self._ended.wait(), timeout_s)
        except TimeoutError:
            pass
        return self.end

    def look(self) -> None:
        pass

    def close(self) -> None:
        pass

    def send_signal(self, number: int) -> bool:
        if self.end is not None:
            return False
        self.signals.append((asyncio.get_running_loop().time(), number))
        if number in self._heeds:
            self.die(number=number)
        return True

    def die(self, *, code: int | None = None, number: int | None = None) -> None:
        self._disk.living.discard(f"{self._folder}/writer.lock")
        self.end = ProcessEnd(code, number, False, "process 5 ended", 77)
        self._ended.set()


@dataclasses.dataclass
class Stage:
    """One run with its process, its server and its upload."""

    trainer: Trainer
    disk: Disk
    fake: FakeServer
    watch: Watch
    upload: RunUpload
    beating: asyncio.Task[None]

    def numbers(self) -> list[int]:
        return [number for _, number in self.watch.signals]

    def stages(self) -> list[str]:
        return [stage for stage, _ in self.fake.stages]


def stage(tmp_path: Path, *, heeds: tuple[int, ...] = ()) -> Stage:
    """Sets a run up. MUST be called on the loop."""
    disk, fake = Disk(), FakeServer()
    trainer = Trainer(tmp_path, disk)
    watch = Watch(disk, trainer.folder, heeds)
    server = server_of(fake)
    world = dataclasses.replace(world_of(disk), processes=watch)
    upload = RunUpload(str(trainer.folder), START, world=world, server=server)
    beating = asyncio.get_running_loop().create_task(server.heart.run())
    return Stage(trainer, disk, fake, watch, upload, beating)


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return virtual.run(main)


async def outcome_of(one: Stage, uploading: asyncio.Task[str]) -> None:
    assert await asyncio.wait_for(uploading, 1000) == COMPLETE
    one.beating.cancel()


def begin(one: Stage) -> asyncio.Task[str]:
    return asyncio.get_running_loop().create_task(one.upload.run())


def stop_file(one: Stage) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads((one.trainer.folder / "stop.json").read_bytes())
    return fields


def test_a_death_is_told_at_once_and_as_it_was(tmp_path: Path) -> None:
    """A process that dies without a word ends its run within moments, though a child of it holds the lock."""

    async def main() -> None:
        one = stage(tmp_path)
        uploading = begin(one)
        await asyncio.sleep(10)
        one.trainer.log(1)
        lock = f"{one.trainer.folder}/writer.lock"
        one.watch.die(number=signal.SIGSEGV)
        one.disk.living.add(lock)
        died_s = asyncio.get_running_loop().time()
        await outcome_of(one, uploading)
        assert asyncio.get_running_loop().time() - died_s < 2.0
        (ending,) = one.fake.endings
        assert (ending.cause, ending.exit_code, ending.last_sequence) == (
            "PROCESS_VANISHED",
            139,
            3,
        )
        assert len(one.fake.covered) == one.fake.covered_at_end == 3

    run(main())


def test_an_end_that_turns_out_wrong_is_corrected(tmp_path: Path) -> None:
    """finish() sees the mark complete while the process lives; the end is corrected when it ends otherwise."""

    async def main() -> None:
        one = stage(tmp_path)
        uploading = begin(one)
        await asyncio.sleep(1)
        one.trainer.journal.append(form.FINISH, EXITED)
        await asyncio.sleep(5)
        assert one.trainer.mark()["is_complete"] and not uploading.done()
        one.watch.die(code=3)
        await outcome_of(one, uploading)
        told, real = one.fake.endings
        assert (told.cause, told.exit_code, told.is_correction) == ("PROCESS_EXITED", 0, False)
        assert (real.cause, real.exit_code, real.is_correction) == ("PROCESS_EXITED", 3, True)
        assert real.last_sequence == told.last_sequence

    run(main())


@pytest.mark.parametrize("code", [0, None])
def test_an_end_that_holds_is_told_once(tmp_path: Path, code: int | None) -> None:
    """The watch ends with the process, or a minute after the end was told."""

    async def main() -> None:
        one = stage(tmp_path)
        uploading = begin(one)
        one.trainer.journal.append(form.FINISH, EXITED)
        await asyncio.sleep(5)
        if code is not None:
            one.watch.die(code=code)
        await asyncio.wait_for(uploading, CORRECTION_WAIT_S)
        one.beating.cancel()
        assert len(one.fake.endings) == 1

    run(main())


@pytest.mark.parametrize(
    ("finish", "disruption", "cause"),
    [
        ({"cause": "SIGNAL", "exit_code": 143, "evidence": "SIGTERM"}, "Kubernetes: EvictionByEvictionAPI", "PREEMPTED"),
        ({"cause": "SIGNAL", "exit_code": 143, "evidence": "SIGTERM"}, "", "SIGNAL"),
        ({"cause": "SIGNAL", "exit_code": 130, "evidence": "SIGINT"}, "Kubernetes: x", "SIGNAL"),
        ({"cause": "USER_REQUEST", "exit_code": 143}, "Kubernetes: x", "USER_REQUEST"),
    ],
)  # fmt: skip
def test_a_pod_that_is_taken_away_explains_sigterm(
    tmp_path: Path, finish: dict[str, Any], disruption: str, cause: str
) -> None:
    """Only a SIGTERM that nothing else explains is asked about."""

    class Pod:
        async def disruption(self) -> str:
            return disruption

    async def main() -> None:
        one = stage(tmp_path)
        world = dataclasses.replace(world_of(one.disk), pod=Pod())
        upload = RunUpload(str(one.trainer.folder), START, world=world, server=server_of(one.fake))
        one.trainer.journal.append(form.FINISH, json.dumps(finish).encode())
        assert await asyncio.wait_for(upload.run(), 100) == COMPLETE
        one.beating.cancel()
        (ending,) = one.fake.endings
        assert ending.cause == cause
        assert cause != "PREEMPTED" or "Eviction" in ending.evidence

    run(main())


def test_an_end_outlives_the_agent_that_saw_it(tmp_path: Path) -> None:
    """With the server away for longer than the agent, the next agent tells how the process ended, and `sync` does."""

    async def main() -> None:
        one = stage(tmp_path)
        uploading = begin(one)
        await asyncio.sleep(5)
        one.fake.is_away = True
        one.watch.die(number=signal.SIGSEGV)
        await asyncio.sleep(30)
        uploading.cancel()
        await asyncio.gather(uploading, return_exceptions=True)
        one.fake.is_away = False
        later = RunUpload(
            str(one.trainer.folder), START, world=world_of(one.disk), server=server_of(one.fake)
        )
        assert await asyncio.wait_for(later.run(), 100) == COMPLETE
        one.beating.cancel()
        (ending,) = one.fake.endings
        assert (ending.cause, ending.exit_code, ending.time_unix_ns) == (
            "PROCESS_VANISHED",
            139,
            77,
        )

    run(main())


def test_a_finished_run_is_not_watched(tmp_path: Path) -> None:
    """After finish() the process may go on, and end as it likes."""

    async def main() -> None:
        one = stage(tmp_path)
        one.trainer.finish()
        assert await asyncio.wait_for(begin(one), 5) == COMPLETE
        one.beating.cancel()
        assert [ending.cause for ending in one.fake.endings] == ["FINISH_CALLED"]

    run(main())


def test_what_an_exception_said_is_sent(tmp_path: Path) -> None:
    """The exception of FINISH goes into FinishRun."""
    fields = {"type": "ValueError", "message": "hot", "traceback": "Traceback …"}
    finish = {"exit_code": 1, "cause": "UNHANDLED_EXCEPTION", "exception": fields}

    async def main() -> None:
        one = stage(tmp_path)
        one.trainer.journal.append(form.FINISH, json.dumps(finish).encode())
        await outcome_of(one, begin(one))
        (ending,) = one.fake.endings
        assert ending.exception == fields

    run(main())


def test_an_announced_preemption_explains_sigkill(tmp_path: Path) -> None:
    """A process that announced it and got no further than SIGKILL was preempted."""

    async def main() -> None:
        one = stage(tmp_path)
        uploading = begin(one)
        one.trainer.change({"preemption_notice": "mark_preempting()"})
        await asyncio.sleep(5)
        one.watch.die(number=signal.SIGKILL)
        await outcome_of(one, uploading)
        (ending,) = one.fake.endings
        assert (ending.cause, ending.exit_code) == ("PREEMPTED", 137)

    run(main())


def test_a_stop_is_handed_over_and_each_stage_told(tmp_path: Path) -> None:
    """The request lies in the run's folder within a beat; the script's word makes it drain; its end stands."""

    async def main() -> None:
        one = stage(tmp_path)
        uploading = begin(one)
        await asyncio.sleep(3)
        assert not (one.trainer.folder / "stop.json").exists()
        one.fake.stop_orders = [ORDER, dataclasses.replace(ORDER, run_key=8)]
        await asyncio.sleep(4)
        fields = stop_file(one)
        assert (fields["requested_by"], fields["reason"], fields["grace_s"]) == (
            "nico",
            "enough",
            60,
        )
        assert one.stages() == ["ACKNOWLEDGED"]
        one.trainer.journal.append(form.STOP_TOLD, b'{"how": "callback"}')
        await asyncio.sleep(4)
        assert one.stages() == ["ACKNOWLEDGED", "DRAINING"] and "on_stop" in one.fake.stages[1][1]
        row = one.trainer.log(3)
        one.watch.die(code=0)  # os._exit(0) in the callback
        await outcome_of(one, uploading)
        assert row in one.fake.rows and not one.watch.signals
        (ending,) = one.fake.endings
        assert (ending.cause, ending.exit_code) == ("USER_REQUEST", 0)
        assert "nico asked for it" in ending.evidence

    run(main())


def test_the_drain_is_known_before_the_end(tmp_path: Path) -> None:
    """A script that is told and gone within a moment was seen to drain."""

    async def main() -> None:
        one = stage(tmp_path)
        uploading = begin(one)
        one.fake.stop_orders = [ORDER]
        await asyncio.sleep(4)
        one.trainer.journal.append(form.STOP_TOLD, b'{"how": "interrupt"}')
        one.trainer.journal.append(form.FINISH, EXITED.replace(b"PROCESS_EXITED", b"USER_REQUEST"))
        one.watch.die(number=signal.SIGINT)
        await outcome_of(one, uploading)
        assert one.stages() == ["ACKNOWLEDGED", "DRAINING"]
        assert [ending.cause for ending in one.fake.endings] == ["USER_REQUEST"]

    run(main())


@pytest.mark.parametrize("heeds", [(signal.SIGTERM,), (signal.SIGKILL,)])
def test_after_the_grace_time_comes_sigterm_then_sigkill(
    tmp_path: Path, heeds: tuple[int, ...]
) -> None:
    """SIGTERM after the grace time; SIGKILL 10 s later where the request allows it."""

    async def main() -> None:
        one = stage(tmp_path, heeds=heeds)
        uploading = begin(one)
        one.fake.stop_orders = [dataclasses.replace(ORDER, may_kill=True)]
        await outcome_of(one, uploading)
        times = [time_s for time_s, _ in one.watch.signals]
        assert 60 <= times[0] <= 65
        is_killed = heeds == (signal.SIGKILL,)
        assert one.numbers() == [signal.SIGTERM, signal.SIGKILL][: 1 + is_killed]
        assert one.stages() == ["ACKNOWLEDGED", "TERMINATED", "KILLED"][: 2 + is_killed]
        assert not is_killed or times[1] - times[0] == pytest.approx(10)
        (ending,) = one.fake.endings
        assert (ending.cause, ending.exit_code) == ("USER_REQUEST", 137 if is_killed else 143)

    run(main())


def test_without_permission_nothing_is_killed_until_it_is_given(tmp_path: Path) -> None:
    """A process that ignores everything lives on; a further request that may kill ends it."""

    async def main() -> None:
        one = stage(tmp_path, heeds=(signal.SIGKILL,))
        uploading = begin(one)
        one.fake.stop_orders = [dataclasses.replace(ORDER, grace_s=5.0)]
        await asyncio.sleep(500)
        assert one.numbers() == [signal.SIGTERM] and not uploading.done()
        further = dataclasses.replace(ORDER, may_kill=True, request_time_unix_ns=12)
        one.fake.stop_orders = [further]
        await outcome_of(one, uploading)
        assert stop_file(one)["request_time_unix_ns"] == 12
        assert one.numbers() == [signal.SIGTERM, signal.SIGKILL]

    run(main())


def test_a_new_agent_goes_on_where_the_one_before_was(tmp_path: Path) -> None:
    """The grace time counts from when an agent first had the request."""

    async def main() -> None:
        one = stage(tmp_path, heeds=(signal.SIGTERM,))
        before = {
            "request_time_unix_ns": 11,
            "acknowledge_time_unix_ns": 1_700_000_000_000_000_000 - 50 * 10**9,
        }
        (one.trainer.folder / "stop.json").write_text(json.dumps(before))
        one.fake.stop_orders = [ORDER]
        await outcome_of(one, begin(one))
        assert 9 <= one.watch.signals[0][0] <= 15

    run(main())


def test_a_server_that_knows_no_stages_holds_nothing_up(tmp_path: Path) -> None:
    """A stage that the server refuses is passed over; the run ends all the same."""

    async def main() -> None:
        one = stage(tmp_path)

        async def refuse(*arguments: Any) -> None:
            raise NotFound("gone", reason="RUN_NOT_FOUND")

        one.fake.record_stop_stage = refuse  # type: ignore[method-assign]  # this server refuses
        uploading = begin(one)
        one.fake.stop_orders = [ORDER]
        await asyncio.sleep(4)
        one.trainer.journal.append(form.STOP_TOLD, b'{"how": "polling"}')
        one.watch.die(code=0)
        await outcome_of(one, uploading)
        assert [ending.cause for ending in one.fake.endings] == ["USER_REQUEST"]

    run(main())
