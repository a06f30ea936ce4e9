"""What the monitor does besides verdicts: events of live runs, orders to stop, the pace of beats, the view of writers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runyard_server.domain.beats import Beat
from runyard_server.domain.errors import NotFound
from runyard_server.domain.events import RunEventKind
from runyard_server.domain.run import LiveRun, RunKey, RunState, StopStage, StopStatus
from runyard_server.metadata.starts import StartedRun
from runyard_server.monitor.config import MonitorConfig
from tests.unit.monitor.ward import Ward

STOP = StopStatus(StopStage.REQUESTED, "ann", "too slow", 5, grace_s=30.0, may_kill=True)


def live(run: StartedRun) -> LiveRun:
    return LiveRun(run.run.run_key, run.run.path, RunState.RUNNING, 1)


async def beat_on(ward: Ward, seconds: float, *beats: Beat) -> None:
    for _ in range(round(seconds / 10)):
        await ward.monitor.heartbeat("agent-1", beats)
        await ward.pass_time(10)


async def test_a_stall_and_its_end_are_events() -> None:
    """The flag with its since-when is in the run's document, its coming and going in its events."""
    ward = Ward(MonitorConfig(stall_timeout_s=100.0))
    run = await ward.desk.start()
    key = run.run.run_key
    await ward.monitor.heartbeat("agent-1", [Beat(key, 1, last_step=1)])
    since = ward.clock.unix_ns
    await beat_on(ward, 150, Beat(key, 1, last_step=1))
    assert (await ward.desk.read(run)).stalled_since_unix_ns == since
    await beat_on(ward, 20, Beat(key, 1, last_step=2))
    assert (await ward.desk.read(run)).stalled_since_unix_ns is None
    events = await ward.events(run)
    assert [event.kind for event in events] == [RunEventKind.STALLED, RunEventKind.PROGRESSED]
    assert {event.actor for event in events} == {"monitor"}


async def test_events_wait_until_metadata_takes_them() -> None:
    """What was seen while metadata took no event is recorded when it does, once, in order."""
    ward = Ward(MonitorConfig(stall_timeout_s=40.0))
    run = await ward.desk.start()
    await ward.tick()
    ward.directory.is_event_lost = True
    await beat_on(ward, 80, Beat(run.run.run_key, 1, last_step=1))
    await beat_on(ward, 20, Beat(run.run.run_key, 1, last_step=2))
    ward.directory.is_event_lost = False
    await beat_on(ward, 30, Beat(run.run.run_key, 1, last_step=2))
    kinds = [event.kind for event in await ward.events(run)]
    assert kinds == [RunEventKind.STALLED, RunEventKind.PROGRESSED]


async def test_a_lost_rank_is_an_event_and_an_ended_one_is_not() -> None:
    """A silent writer is told of only if it has not ended by metadata's word, nor was replaced by a later process."""
    ward = Ward()
    first, lost, ended, replaced = [
        await ward.desk.start("x", writer_label=f"rank{n}") for n in range(4)
    ]
    heir = await ward.desk.start("x", writer_label="rank3")
    await ward.beat(first, lost, ended, replaced, heir)
    await ward.desk.finish(ended, exit_code=0)
    for _ in range(12):
        await ward.pass_time(10)
        await ward.beat(first, heir)
    events = await ward.events(first)
    assert [(event.kind, event.writer) for event in events] == [
        (RunEventKind.WRITER_LOST, lost.writer.writer)
    ]
    await ward.beat(lost)
    await ward.pass_time(2)
    assert (await ward.events(first))[-1].kind is RunEventKind.WRITER_RETURNED
    assert await ward.states([first]) == [RunState.RUNNING]


async def test_a_stop_is_ordered_until_metadata_lists_it_no_more() -> None:
    """An order is in the answer to each beat of its run, and of no other; it stays known while metadata is away."""
    ward = Ward()
    run, other = await ward.desk.start(), await ward.desk.start()
    assert (await ward.beat(run, other)).stop_orders == ()
    ward.directory.stops = {run.run.run_key: STOP}
    await ward.monitor.stops.poll()
    assert (await ward.beat(other)).stop_orders == ()
    for _ in range(2):
        assert (await ward.beat(run, other)).stop_orders == ((run.run.run_key, STOP),)
    ward.directory.is_away = True
    await ward.monitor.stops.poll()
    assert len((await ward.beat(run)).stop_orders) == 1
    ward.directory.is_away, ward.directory.stops = False, {}
    await ward.monitor.stops.poll()
    assert (await ward.beat(run)).stop_orders == ()


async def test_stops_are_not_read_while_nobody_beats() -> None:
    """A server without live agents asks nothing each second."""
    ward = Ward()
    ward.directory.is_away = True
    await ward.monitor.stops.poll()
    ward.directory.is_away, ward.directory.stops = False, {RunKey(1): STOP}
    run = await ward.desk.start()
    await ward.beat(run)
    ward.clock.advance(61)
    await ward.tick()
    await ward.monitor.stops.poll()
    assert (await ward.monitor.heartbeat("a", [Beat(RunKey(1), 1)])).stop_orders == ()


@pytest.mark.parametrize(("count", "pause_s"), [(1, 2.0), (900, 3.0), (9000, 10.0)])
async def test_the_pace_follows_the_number_of_runs(count: int, pause_s: float) -> None:
    """Few runs beat every 2 s, thousands every 10 s."""
    ward = Ward()
    beats = [Beat(RunKey(number), 1) for number in range(1, count + 1)]
    ward.directory.is_away = False
    await ward.tick()
    for number in range(1, count + 1):
        run = LiveRun(RunKey(number), f"e/p/{number}", RunState.RUNNING, 1)
        ward.monitor.table.learn(run, now_s=0.0, now_unix_ns=0)
    assert (await ward.monitor.heartbeat("a", beats)).next_beat_s == pytest.approx(pause_s)


async def test_a_short_timeout_is_beaten_several_times() -> None:
    """Whatever the number of runs, an agent beats four times within the shortest timeout of its runs."""
    ward = Ward(MonitorConfig(beat_interval_min_s=8.0))
    run, other = await ward.desk.start(), await ward.desk.start()
    ward.directory.settings = {run.run.run_key: replace(live(run), crash_timeout_s=12.0)}
    await ward.tick()
    assert (await ward.beat(run, other)).next_beat_s == 3.0
    assert (await ward.beat(other)).next_beat_s == 8.0
    await ward.pass_time(13 + ward.config.lease_s)
    assert await ward.states([run, other]) == [RunState.CRASHED, RunState.RUNNING]


async def test_writers_that_never_beat_are_listed() -> None:
    """A writer that metadata knows and that has not beaten is there, without a last beat; ended runs have none."""
    ward = Ward()
    first = await ward.desk.start("x", writer_label="rank0")
    second = await ward.desk.start("x", writer_label="rank1")
    await ward.beat(first)
    found = await ward.monitor.list_writers(first.run.path)
    assert [(one.writer, one.last_beat_unix_ns is None) for one in found.writers] == [
        (first.writer.writer, False),
        (second.writer.writer, True),
    ]
    for run in (first, second):
        await ward.desk.finish(run, exit_code=0)
    assert (await ward.monitor.list_writers(first.run.path)).writers == ()
    with pytest.raises(NotFound):
        await ward.monitor.list_writers("local/p/none")
