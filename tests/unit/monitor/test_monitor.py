"""The monitor: silence becomes a verdict, beats reverse it, its own absence never does harm."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runyard_server.domain.beats import Beat
from runyard_server.domain.errors import InvalidArgument, Unavailable
from runyard_server.domain.run import RunKey, RunState, TransitionCause
from runyard_server.monitor.config import MonitorConfig
from tests.unit.monitor.ward import Ward

RUNNING, CRASHED = RunState.RUNNING, RunState.CRASHED


async def test_a_beating_run_lives() -> None:
    """I6: a run whose writer beats is never called crashed."""
    ward = Ward()
    run = await ward.desk.start()
    for _ in range(30):
        answer = await ward.beat(run)
        await ward.pass_time(answer.next_beat_s)
    assert await ward.states([run]) == [RUNNING]


async def test_a_silent_run_crashes_once_in_time() -> None:
    """I6: a run that stopped beating is crashed within the timeout and a sweep, once, with evidence and the last beat as end."""
    ward = Ward()
    run = await ward.desk.start()
    await ward.pass_time(20)
    await ward.beat(run)
    last_beat = ward.clock.unix_ns
    await ward.pass_time(60)
    assert await ward.states([run]) == [RUNNING]
    await ward.pass_time(1.5)
    document = await ward.desk.read(run)
    assert (CRASHED, last_beat) == (document.state, document.end_time_unix_ns)
    await ward.pass_time(300)
    assert await ward.crash_count(run) == 1
    step = (await ward.desk.history(run))[-1]
    assert step.actor == "monitor"
    assert step.evidence == (
        "no heartbeat for 61.0 s from agent agent-1, which had seen the process alive; 0 records written, 0 durable, "
        "no step yet; the timeout is 60 s"
    )


async def test_a_run_that_never_beat_crashes_too() -> None:
    """A run whose agent died at once is learned from metadata, gets a full timeout, then crashes."""
    ward = Ward()
    run = await ward.desk.start()
    await ward.pass_time(60)
    assert await ward.states([run]) == [RUNNING]
    await ward.pass_time(20)
    assert await ward.states([run]) == [CRASHED]


async def test_a_late_beat_reverses_the_verdict() -> None:
    """A heartbeat after the verdict brings the run back, with a cause; then it is watched again."""
    ward = Ward()
    run = await ward.desk.start()
    await ward.pass_time(80)
    assert await ward.states([run]) == [CRASHED]
    assert (await ward.beat(run)).unknown_run_keys == ()
    assert await ward.states([run]) == [RUNNING]
    assert TransitionCause.HEARTBEAT_RETURNED is (await ward.desk.history(run))[-1].cause
    await ward.pass_time(59)
    assert await ward.states([run]) == [RUNNING]
    await ward.pass_time(20)
    assert await ward.crash_count(run) == 2


async def test_an_agent_without_its_process_reverses_nothing() -> None:
    """A beat that says the process is gone keeps a live run alive (its data is on the way), but wakes no crashed one."""
    ward = Ward()
    run = await ward.desk.start()
    await ward.pass_time(50)
    await ward.beat(run, is_process_alive=False)
    await ward.pass_time(50)
    assert await ward.states([run]) == [RUNNING]
    await ward.pass_time(20)
    await ward.beat(run, is_process_alive=False)
    assert await ward.states([run]) == [CRASHED]


async def test_one_rank_keeps_a_run_alive() -> None:
    """A run with many writers lives while one of them beats."""
    ward = Ward()
    first = await ward.desk.start("x", writer_label="rank0")
    second = await ward.desk.start("x", writer_label="rank1")
    await ward.beat(first, second)
    for _ in range(20):
        await ward.pass_time(10)
        await ward.beat(second)
    assert await ward.states([first]) == [RUNNING]


async def test_a_restarted_monitor_gives_everyone_a_full_timeout() -> None:
    """Memory is rebuilt from metadata; a restart after a long absence crashes nobody who then beats."""
    ward = Ward()
    runs = [await ward.desk.start() for _ in range(5)]
    await ward.beat(*runs)
    ward.clock.advance(3600)
    ward.start_monitor()
    await ward.pass_time(59)
    assert await ward.states(runs) == [RUNNING] * 5
    await ward.beat(*runs[:2])
    # A lease more, for another replica that may live on unlisted.
    await ward.pass_time(ward.config.lease_s + 3)
    assert await ward.states(runs) == [RUNNING] * 2 + [CRASHED] * 3


async def test_a_stalled_monitor_gives_everyone_a_full_timeout() -> None:
    """A monitor that was frozen (swap, suspend) starts counting anew when it wakes."""
    ward = Ward()
    run = await ward.desk.start()
    await ward.pass_time(10)
    ward.clock.advance(500)
    await ward.pass_time(59)
    assert await ward.states([run]) == [RUNNING]
    await ward.pass_time(3)
    assert await ward.states([run]) == [CRASHED]


async def test_jumps_of_the_wall_clock_change_nothing() -> None:
    """Verdicts rest on the monotonic clock."""
    ward = Ward()
    run = await ward.desk.start()
    for jump_s in (10**6, -(10**6), 3600):
        await ward.beat(run)
        ward.clock.unix_ns += jump_s * 10**9
        await ward.pass_time(30)
    assert await ward.states([run]) == [RUNNING]


async def test_no_verdict_is_lost_while_metadata_is_away() -> None:
    """What cannot be recorded is recorded when metadata is back; a beat in between withdraws it."""
    ward = Ward()
    silent, beating = await ward.desk.start(), await ward.desk.start()
    await ward.pass_time(20)
    ward.directory.is_away = True
    await ward.pass_time(100)
    # It counts, though the agent is told to repeat: another replica may have taken the runs over.
    with pytest.raises(Unavailable):
        await ward.beat(beating)
    ward.directory.is_away = False
    # Agents that had turned to another monitor meanwhile would be heard within this time.
    await ward.pass_time(1.5 * ward.config.beat_interval_max_s + 2)
    assert await ward.states([silent, beating]) == [CRASHED, RUNNING]
    assert await ward.crash_count(beating) == 0


async def test_a_resumed_run_is_not_judged_by_the_silence_before() -> None:
    """A new attempt is a sign of life, also when the monitor hears of it late."""
    ward = Ward()
    run = await ward.desk.start("x")
    await ward.pass_time(58)
    await ward.desk.finish(run, exit_code=1)
    resumed = await ward.desk.start("x")
    await ward.pass_time(58)
    assert await ward.states([resumed]) == [RUNNING]
    await ward.pass_time(30)
    assert await ward.states([resumed]) == [CRASHED]


async def test_an_ended_run_is_forgotten() -> None:
    """A run that finished gets no verdict and is not in the liveness."""
    ward = Ward()
    run = await ward.desk.start()
    await ward.pass_time(1)
    assert len(await ward.monitor.get_liveness([run.run.path, "local/p/none"])) == 1
    await ward.desk.finish(run, exit_code=0)
    await ward.pass_time(20)
    assert await ward.monitor.get_liveness([run.run.path]) == []
    await ward.pass_time(100)
    assert await ward.states([run]) == [RunState.FINISHED]


async def test_unknown_and_deleted_runs_come_back() -> None:
    """Runs that metadata does not know, or that are deleted, are named in the answer; ended ones are not."""
    ward = Ward()
    gone, ended = await ward.desk.start(), await ward.desk.start()
    await ward.desk.finish(ended, exit_code=0)
    deleted = replace(gone.run, is_deleted=True, version=2)
    await ward.desk.runs.transact(lambda tx: tx.save_run(deleted))
    beats = [Beat(RunKey(7), 1), Beat(gone.run.run_key, 1), Beat(ended.run.run_key, 1)]
    answer = await ward.monitor.heartbeat("a", beats)
    assert (7, gone.run.run_key) == answer.unknown_run_keys
    assert answer.next_beat_s == 2.0
    before = ward.directory.lookup_count
    assert answer == await ward.monitor.heartbeat("a", beats)
    assert before == ward.directory.lookup_count


async def test_a_new_run_is_known_from_its_first_beat() -> None:
    """A beat of a run that the monitor has not heard of is looked up, and counts."""
    ward = Ward()
    await ward.tick()
    run = await ward.desk.start()
    await ward.monitor.heartbeat(
        "a", [Beat(run.run.run_key, 1, records_written=9, records_durable=4)]
    )
    [liveness] = await ward.monitor.get_liveness([run.run.path])
    assert (
        liveness.records_written,
        liveness.records_durable,
        liveness.crash_timeout_s,
    ) == (9, 4, 60.0)
    assert ward.clock.unix_ns == liveness.last_beat_unix_ns


async def test_a_heartbeat_is_answered_while_metadata_is_away() -> None:
    """Beats of known runs count, unknown ones are not called unknown."""
    ward = Ward()
    run = await ward.desk.start()
    await ward.tick()
    ward.directory.is_away = True
    answer = await ward.monitor.heartbeat("a", [Beat(run.run.run_key, 1), Beat(RunKey(3), 1)])
    assert answer.unknown_run_keys == ()


async def test_the_end_of_a_run_survives_an_outage_of_everything() -> None:
    """After a day without any server the end of a run that died meanwhile is its last recorded beat, not the discovery."""
    ward = Ward()
    beaten, never_beaten = await ward.desk.start(), await ward.desk.start()
    started = ward.clock.unix_ns
    await ward.pass_time(40)
    await ward.beat(beaten)
    last_beat = ward.clock.unix_ns
    await ward.monitor.stop()
    ward.clock.advance(24 * 3600)
    ward.start_monitor()
    await ward.pass_time(85)
    documents = [await ward.desk.read(run) for run in (beaten, never_beaten)]
    assert [(CRASHED, last_beat), (CRASHED, started)] == [
        (document.state, document.end_time_unix_ns) for document in documents
    ]


@pytest.mark.parametrize("is_orderly", [True, False])
async def test_metadata_that_goes_with_the_monitor_is_no_news(
    is_orderly: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Forewarned, the monitor has beats noted while it can, and does not warn that metadata closed first."""
    ward = Ward()
    run = await ward.desk.start()
    await ward.pass_time(40)
    await ward.beat(run)
    last_beat = ward.clock.unix_ns
    if is_orderly:
        await ward.monitor.begin_stop()
        assert (await ward.desk.read(run)).heartbeat_time_unix_ns == last_beat
    ward.directory.is_away = True
    ward.clock.advance(1)
    await ward.beat(run)
    await ward.monitor.sweeper.refresh()
    await ward.monitor.stop()
    warned = [one for one in caplog.records if one.levelname == "WARNING"]
    assert len(warned) == (0 if is_orderly else 1)


async def test_beats_are_recorded_apart_from_the_document() -> None:
    """Metadata hears of beats in bulk; the time is in GetRun, and the document keeps its version."""
    ward = Ward()
    run = await ward.desk.start()
    await ward.pass_time(10)
    await ward.beat(run)
    await ward.monitor.sweeper.record_beats()
    found = await ward.desk.read(run)
    assert (ward.clock.unix_ns, run.run.version) == (found.heartbeat_time_unix_ns, found.version)
    ward.directory.is_away = True
    ward.clock.advance(1)
    await ward.beat(run)
    await ward.monitor.sweeper.record_beats()
    ward.directory.is_away = False
    await ward.monitor.sweeper.record_beats()
    assert ward.clock.unix_ns == (await ward.desk.read(run)).heartbeat_time_unix_ns


@pytest.mark.parametrize(("agent_id", "count"), [("", 1), ("ä" * 65, 1), ("a", 10_001)])
async def test_bad_heartbeats_are_refused(agent_id: str, count: int) -> None:
    """Agent ids have 1 to 128 bytes, a message at most 10,000 beats."""
    with pytest.raises(InvalidArgument):
        await Ward().monitor.heartbeat(agent_id, [Beat(RunKey(1), 1)] * count)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"crash_timeout_s": 1.0}, "crash_timeout"),
        ({"beat_interval_min_s": 11.0}, "beat_interval_min"),
        ({"stall_limit_s": 1.0}, "sweep_interval"),
        ({"lease_s": 4.0}, "lease"),
        ({"beats_per_s": 0}, "beats_per_s"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], named: str) -> None:
    """Settings that would make a verdict of every lost beat, or of none, are refused."""
    with pytest.raises(ValueError, match=named):
        MonitorConfig(**settings)
