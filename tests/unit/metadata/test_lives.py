"""The life of a run as metadata decides it: attempts, rewinds, forks, ends, corrections, and what watchers see."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runyard_server.domain.attempts import AttemptKind
from runyard_server.domain.errors import AlreadyExists, FailedPrecondition, NotFound
from runyard_server.domain.events import AlertLevel, RunEventKind
from runyard_server.domain.run import (
    Cut,
    ForkPoint,
    Host,
    RunException,
    RunState,
    StopStage,
    StopStatus,
    TransitionCause,
)
from runyard_server.domain.writers import WriterIdentity
from runyard_server.metadata.requests import Alert, RecordEvent, ResumeMode, RunChange
from runyard_server.metadata.service import MetadataConfig, MetadataService
from runyard_server.metadata.starts import StartedRun
from tests.unit.metadata.desk import Desk

NS = 1_000_000_000
SECOND = TransitionCause.PROCESS_EXITED


async def kinds(desk: Desk, started: StartedRun) -> list[RunEventKind]:
    events, _ = await desk.service.list_events(started.run.path, page_size=0, page_token="")
    return [event.kind for event in events if event.kind is not RunEventKind.TRANSITION]


async def acknowledge_stop(
    desk: Desk, started: StartedRun, stage: StopStage = StopStage.ACKNOWLEDGED
) -> None:
    """Puts a stop into the run's document, as RequestStop and RecordStopStage do."""
    stop = StopStatus(stage, "ann", "", desk.clock.now_unix_ns(), 60.0, may_kill=False)

    def act(tx: object) -> None:
        document = tx.find_run_by_key(started.run.run_key, will_change=True)  # type: ignore[attr-defined]  # RunTransaction
        assert document is not None
        changed = replace(
            document, stop=stop, state=RunState.STOPPING, version=document.version + 1
        )
        tx.save_run(changed)  # type: ignore[attr-defined]  # RunTransaction

    await desk.runs.transact(act)


async def test_attempts_are_listed_with_how_each_ended() -> None:
    """A run that crashed, was resumed and finished has two attempts, the first crashed, the second finished."""
    desk = Desk()
    first = await desk.start("x", host=Host(hostname="node1"))
    await desk.crash(first.run)
    second = await desk.start("x", host=Host(hostname="node2"))
    await desk.finish(second)
    attempts = await desk.service.list_attempts(first.run.path)
    assert [
        (a.attempt, a.kind, a.state, a.hostname) for a in attempts
    ] == [(1, AttemptKind.START, RunState.CRASHED, "node1"), (2, AttemptKind.RESUME, RunState.FINISHED, "node2")]  # fmt: skip
    assert [a.first_writer for a in attempts] == [1, 2]
    assert all(a.end_time_unix_ns is not None for a in attempts)


async def test_active_time_leaves_out_the_pauses() -> None:
    """Two attempts of 10 s and 5 s with a day between them: 15 s of computing, however late it is now."""
    desk = Desk()
    first = await desk.start("x")
    desk.clock.advance(9.0)
    await desk.finish(first)
    desk.clock.advance(86_400.0)
    second = await desk.start("x")
    desk.clock.advance(4.0)
    ended = await desk.finish(second)
    desk.clock.advance(1_000.0)
    assert ended.active_ns(desk.clock.now_unix_ns()) == 15 * NS


async def test_a_rewind_supersedes_and_keeps() -> None:
    """A rewind makes an attempt whose history lacks what the writers before it logged after the step."""
    desk = Desk()
    first = await desk.start("x")
    await desk.finish(first)
    second = await desk.start("x", rewind_to_step=10)
    assert (second.run.attempt_count, second.writer.writer) == (2, 2)
    assert (Cut(1, 10),) == second.run.history_parts[0].cuts
    attempts = await desk.service.list_attempts(first.run.path)
    assert (attempts[1].kind, attempts[1].rewound_to_step) == (AttemptKind.REWIND, 10)
    assert await kinds(desk, first) == [RunEventKind.REWOUND]


async def test_ranks_of_one_job_rewind_once() -> None:
    """Of two ranks that both ask to rewind to one step, the second joins: the first one's points are not superseded."""
    desk = Desk()
    await desk.finish(await desk.start("x"))
    rank0 = await desk.start("x", rewind_to_step=10, writer_label="rank0")
    rank1 = await desk.start("x", rewind_to_step=10, writer_label="rank1")
    assert rank0.run.history_parts == rank1.run.history_parts
    assert rank0.writer.attempt == rank1.writer.attempt == 2
    again = await desk.start("x", rewind_to_step=10, writer_label="rank1")
    assert again.writer.attempt == 3
    assert (Cut(3, 10),) == again.run.history_parts[0].cuts


async def test_a_run_that_is_not_there_cannot_be_rewound() -> None:
    """A rewind of an unknown run is refused, and no run is made."""
    desk = Desk()
    with pytest.raises(NotFound, match="to resume") as refused:
        await desk.start("x", rewind_to_step=1)
    assert refused.value.reason == "RUN_NOT_FOUND"


async def test_a_fork_begins_with_its_parents_config_and_history() -> None:
    """A fork is a new run: the parent's points up to the step, its config beneath the one given."""
    desk = Desk()
    parent = await desk.start("parent", config_json='{"lr":0.1,"n":1}')
    fork = ForkPoint(parent.run.path, parent.run.run_key, 7)
    child = await desk.start("child", fork=fork, config_json='{"n":2}')
    assert fork == child.run.fork
    assert child.run.config_json == '{"lr":0.1,"n":2}'
    own, inherited = child.run.history_parts
    assert (child.run.run_key, None) == (own.run_key, own.last_step)
    assert (parent.run.run_key, 7, 1) == (
        inherited.run_key,
        inherited.last_step,
        inherited.writer_max,
    )
    assert await kinds(desk, child) == [RunEventKind.FORKED]
    forks = await desk.runs.transact(lambda tx: tx.list_forks(parent.run.run_key, limit=5))
    assert [run.run_id for run in forks] == ["child"]


async def test_the_same_fork_again_continues_and_another_is_refused() -> None:
    """A job that is started again with its fork_from resumes its run; forking something else into that id is refused."""
    desk = Desk()
    parent = await desk.start("parent")
    fork = ForkPoint(parent.run.path, parent.run.run_key, 7)
    child = await desk.start("child", fork=fork)
    await desk.finish(child)
    again = await desk.start("child", fork=fork)
    assert (again.writer.is_resumed, again.run.attempt_count) == (True, 2)
    for other in (replace(fork, step=8), replace(fork, run_path=child.run.path)):
        with pytest.raises(AlreadyExists, match="choose another id"):
            await desk.start("child", fork=other)
    with pytest.raises(AlreadyExists, match="choose another id"):
        await desk.start("parent", fork=fork)


async def test_a_step_must_have_been_reached() -> None:
    """Rewinding or forking beyond a run's last step is refused, with the last step; a repeat of a start asks no more."""

    class Steps:
        last: int | None = 5

        async def last_step(self, path: str) -> int | None:
            return self.last

    desk = Desk()
    steps = Steps()
    desk.service = MetadataService(
        MetadataConfig(), runs=desk.runs, index=desk.index, clock=desk.clock, steps=steps
    )
    parent = await desk.start("parent")
    for wish in (
        {"run_id": "parent", "rewind_to_step": 6},
        {"run_id": "child", "fork": ForkPoint(parent.run.path, parent.run.run_key, 6)},
    ):
        with pytest.raises(FailedPrecondition, match="ends at step 5") as refused:
            await desk.start(**wish)  # type: ignore[arg-type]  # members of StartRun
        assert refused.value.reason == "STEP_NOT_REACHED"
    request_id = desk.request_id()
    first = await desk.start("parent", rewind_to_step=5, request_id=request_id)
    steps.last = None
    repeated = await desk.start("parent", rewind_to_step=5, request_id=request_id)
    assert first.writer == repeated.writer
    with pytest.raises(FailedPrecondition, match="has no points"):
        await desk.start("parent", rewind_to_step=0)


async def test_the_exception_is_kept_and_gone_with_the_next_attempt() -> None:
    """A failed run holds type, message and traceback of what ended it, and whose it was; a resumed one does not."""
    desk = Desk()
    started = await desk.start("x", writer_label="rank3")
    exception = RunException("ValueError", "bad", "Traceback ...\nValueError: bad")
    ended = await desk.finish(started, TransitionCause.UNHANDLED_EXCEPTION, 1, exception=exception)
    assert RunState.FAILED is ended.state
    assert replace(exception, writer_label="rank3") == ended.exception
    assert None is (await desk.start("x")).run.exception


@pytest.mark.parametrize(
    ("told", "seen", "state"),
    [
        ((SECOND, 0), (SECOND, 3), RunState.FAILED),
        ((SECOND, 0), (TransitionCause.PROCESS_VANISHED, 139), RunState.CRASHED),
        ((SECOND, 0), (SECOND, 0), RunState.FINISHED),
        ((TransitionCause.FINISH_CALLED, 0), (SECOND, 3), RunState.FINISHED),
    ],
)
async def test_the_systems_word_corrects_the_processs_own(
    told: tuple[TransitionCause, int], seen: tuple[TransitionCause, int], state: RunState
) -> None:
    """An end that the process told of by itself gives way to how it really ended; an explicit finish() stands."""
    desk = Desk()
    started = await desk.start("x")
    await desk.finish(started, *told)
    corrected = await desk.finish(started, *seen, is_correction=True)
    assert state is corrected.state
    assert corrected == await desk.finish(started, *seen, is_correction=True)


async def test_a_correction_of_an_earlier_attempt_is_passed_over() -> None:
    """What the system says of a process whose run was resumed since does not touch the run."""
    desk = Desk()
    first = await desk.start("x")
    await desk.finish(first, SECOND, 0)
    second = await desk.start("x")
    await desk.finish(first, SECOND, 3, is_correction=True)
    assert RunState.RUNNING is (await desk.read(second)).state


@pytest.mark.parametrize(
    ("cause", "code", "stage", "state"),
    [
        (TransitionCause.FINISH_CALLED, 0, StopStage.DRAINING, RunState.KILLED),
        (SECOND, 0, StopStage.ACKNOWLEDGED, RunState.KILLED),
        (SECOND, 1, StopStage.ACKNOWLEDGED, RunState.KILLED),
        (TransitionCause.SIGNAL, 130, StopStage.DRAINING, RunState.KILLED),
        (TransitionCause.UNHANDLED_EXCEPTION, 1, StopStage.DRAINING, RunState.FAILED),
        (TransitionCause.PROCESS_VANISHED, None, StopStage.DRAINING, RunState.CRASHED),
        (TransitionCause.PROCESS_VANISHED, 137, StopStage.KILLED, RunState.KILLED),
    ],
)
async def test_an_end_after_a_stop_is_killed(
    cause: TransitionCause, code: int | None, stage: StopStage, state: RunState
) -> None:
    """A run that was told to stop ends as killed, unless it failed or vanished on its own."""
    desk = Desk()
    started = await desk.start("x")
    await acknowledge_stop(desk, started, stage)
    assert state is (await desk.finish(started, cause, code)).state


@pytest.mark.parametrize(
    ("cause", "evidence", "state"),
    [
        (TransitionCause.SIGNAL, "SIGTERM", RunState.PREEMPTED),
        (TransitionCause.SIGNAL, "SIGINT (KeyboardInterrupt)", RunState.KILLED),
        (TransitionCause.PROCESS_VANISHED, "SIGKILL", RunState.PREEMPTED),
        (TransitionCause.FINISH_CALLED, "", RunState.FINISHED),
        (TransitionCause.PREEMPTED, "", RunState.PREEMPTED),
    ],
)
async def test_an_end_after_a_notice_is_a_preemption(
    cause: TransitionCause, evidence: str, state: RunState
) -> None:
    """A process that is ended from outside after its machine announced it was preempted; Ctrl-C is a person's."""
    desk = Desk()
    started = await desk.start("x")
    change = RunChange(sequence=2, preemption_notice="slurm")
    await desk.service.apply_changes(started.run.run_key, 1, [change])
    assert await kinds(desk, started) == [RunEventKind.PREEMPTION_NOTICED]
    assert state is (await desk.finish(started, cause, evidence=evidence)).state


async def test_silence_after_a_notice_is_a_preemption() -> None:
    """A run that falls silent after its machine announced its end is preempted, not crashed."""
    desk = Desk()
    started = await desk.start("x")
    change = RunChange(sequence=2, preemption_notice="spot")
    await desk.service.apply_changes(started.run.run_key, 1, [change])
    assert await desk.crash(await desk.read(started))
    assert RunState.PREEMPTED is (await desk.read(started)).state


async def test_alerts_stand_in_the_history_once() -> None:
    """An alert of the script is an event with title, text, level and writer; the same change again adds none."""
    desk = Desk()
    started = await desk.start("x")
    change = RunChange(sequence=2, alert=Alert("loss is NaN", "at step 7", AlertLevel.ERROR))
    for _ in range(2):
        await desk.service.apply_changes(started.run.run_key, 1, [change])
    events, _ = await desk.service.list_events(started.run.path, page_size=0, page_token="")
    assert [
        (e.title, e.evidence, e.level, e.writer) for e in events if e.kind is RunEventKind.ALERT
    ] == [("loss is NaN", "at step 7", AlertLevel.ERROR, 1)]


async def test_a_stall_is_a_flag_with_since_when() -> None:
    """What the monitor sees is recorded once, does not change the state, and is gone with progress or the end."""
    desk = Desk()
    started = await desk.start("x")
    ask = RecordEvent(started.run.run_key, RunEventKind.STALLED, "no step", "monitor", 1)
    ask = replace(ask, since_unix_ns=77)
    assert [await desk.service.record_run_event(ask) for _ in range(2)] == [True, False]
    stalled = await desk.read(started)
    assert (stalled.state, stalled.stalled_since_unix_ns) == (RunState.RUNNING, 77)
    on = replace(ask, kind=RunEventKind.PROGRESSED)
    assert [await desk.service.record_run_event(on) for _ in range(2)] == [True, False]
    assert None is (await desk.read(started)).stalled_since_unix_ns
    await desk.service.record_run_event(ask)
    assert None is (await desk.finish(started)).stalled_since_unix_ns
    assert not await desk.service.record_run_event(ask)


async def test_a_lost_writer_is_told_of_once_until_it_returns() -> None:
    """Lost, lost again, returned, returned again, lost: three events."""
    desk = Desk()
    started = await desk.start("x")
    lost = RecordEvent(started.run.run_key, RunEventKind.WRITER_LOST, "e", "monitor", 1, writer=1)
    back = replace(lost, kind=RunEventKind.WRITER_RETURNED)
    news = [
        await desk.service.record_run_event(ask) for ask in (back, lost, lost, back, back, lost)
    ]
    assert news == [False, True, False, True, False, True]


async def test_writers_are_listed_with_what_they_are() -> None:
    """Every init() is a writer; one with a rank and no label is called by its rank."""
    desk = Desk()
    identity = WriterIdentity(rank=5, local_rank=1, world_size=8, node="n", source="torchrun")
    first = await desk.start("x", identity=identity, host=Host(hostname="h", pid=42))
    await desk.start("x", writer_label="eval")
    page, token = await desk.service.list_writers(
        path=first.run.path, run_key=None, page_size=1, page_token=""
    )
    assert [("rank5", identity, "h", 42)] == [
        (w.label, w.identity, w.hostname, w.pid) for w in page
    ]
    rest, _ = await desk.service.list_writers(
        path=first.run.path, run_key=None, page_size=1, page_token=token
    )
    assert [writer.label for writer in rest] == ["eval"]


def rank(number: int, launch: str = "L1") -> WriterIdentity:
    return WriterIdentity(rank=number, world_size=3, source="torchrun", launch=launch)


async def test_a_late_rank_of_a_launch_joins_its_attempt() -> None:
    """A rank that comes when all others have ended belongs to their attempt; the run's end weighs all of them."""
    desk = Desk()
    first = await desk.start("x", identity=rank(0))
    await desk.finish(first, TransitionCause.UNHANDLED_EXCEPTION, 1)
    late = await desk.start("x", identity=rank(1))
    assert (late.writer.attempt, late.attempt_first_writer) == (1, 1)
    run = await desk.read(late)
    assert (run.state, run.attempt_count, run.exit_code) == (RunState.RUNNING, 1, None)
    assert run.end_time_unix_ns is None
    assert RunState.FAILED is (await desk.finish(late)).state


@pytest.mark.parametrize("identity", [rank(1, "L2"), rank(1, ""), rank(0)])
async def test_another_launch_or_the_same_rank_is_a_new_attempt(identity: WriterIdentity) -> None:
    """Of another launch, of none, or with a rank that was there: the run is resumed."""
    desk = Desk()
    await desk.finish(await desk.start("x", identity=rank(0)))
    again = await desk.start("x", identity=identity)
    assert (again.writer.attempt, again.attempt_first_writer) == (2, 2)


async def test_no_launch_is_no_launch_in_common() -> None:
    """Two processes of which nothing tells a launch are not of one."""
    desk = Desk()
    await desk.finish(await desk.start("x", identity=rank(0, "")))
    assert (await desk.start("x", identity=rank(1, ""))).writer.attempt == 2


async def test_a_late_rank_of_a_rewind_does_not_rewind_again() -> None:
    """It joins what the first rank of its launch has begun; one of another launch goes back anew."""
    desk = Desk()
    await desk.finish(await desk.start("x", identity=rank(0)))
    back = {"rewind_to_step": 3}
    one = await desk.start("x", identity=rank(0, "L2"), **back)
    await desk.finish(one)
    late = await desk.start("x", identity=rank(1, "L2"), **back)
    assert (one.writer.attempt, late.writer.attempt) == (2, 2)
    assert (await desk.read(late)).state is RunState.RUNNING
    await desk.finish(late)
    other = await desk.start("x", identity=rank(2, "L3"), **back)
    assert other.writer.attempt == 3


async def test_a_job_restarted_while_its_run_is_live_is_one_attempt() -> None:
    """The first rank that is back begins it, whichever that is; the others of the launch join, and one that comes back again does not."""
    desk = Desk()
    for number in (0, 1, 2):
        await desk.start("x", identity=rank(number))
    back = [await desk.start("x", identity=rank(number, "L2")) for number in (2, 0, 1)]
    assert [(one.writer.attempt, one.attempt_first_writer) for one in back] == [(2, 4)] * 3
    assert (await desk.start("x", identity=rank(0, "L2"))).writer.attempt == 3


async def test_a_late_rank_of_a_stopped_launch_is_asked_to_stop() -> None:
    """The user's stop holds for it too."""
    desk = Desk()
    first = await desk.start("x", identity=rank(0))
    await acknowledge_stop(desk, first, StopStage.DRAINING)
    assert RunState.KILLED is (await desk.finish(first, SECOND, 0)).state
    late = await desk.start("x", identity=rank(1))
    run = await desk.read(late)
    assert run.state is RunState.RUNNING
    assert run.stop is not None and run.stop.stage is StopStage.REQUESTED


async def test_never_means_a_new_run() -> None:
    """resume="never" with an id that exists is refused, a fork included."""
    desk = Desk()
    parent = await desk.start("parent")
    fork = ForkPoint(parent.run.path, parent.run.run_key, 7)
    child = await desk.start("child", fork=fork)
    await desk.finish(child)
    with pytest.raises(AlreadyExists):
        await desk.start("child", fork=fork, resume=ResumeMode.NEVER)
