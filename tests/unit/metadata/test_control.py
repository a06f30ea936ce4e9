"""Stops, settings of projects, and who is told of what, as metadata decides them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runyard_server.domain.errors import FailedPrecondition, InvalidArgument
from runyard_server.domain.events import AlertLevel, RunEventKind
from runyard_server.domain.notifications import NotificationReport, NotificationState
from runyard_server.domain.projects import (
    SECRET_MASK,
    EndRule,
    NotificationTarget,
    ProjectSettings,
)
from runyard_server.domain.run import RunState, StopStage, TransitionCause
from runyard_server.domain.writers import WriterIdentity
from runyard_server.metadata.notices import RATE_COUNT_MAX, Notice
from runyard_server.metadata.project_settings import ProjectEdit
from runyard_server.metadata.requests import Alert, RecordEvent, RunChange
from runyard_server.metadata.starts import StartedRun
from runyard_server.metadata.stops import GRACE_DEFAULT_S, StopWish
from tests.unit.metadata.desk import Desk

HOOK = NotificationTarget("ops", "https://ops.example/hook", secret="s")
PATH = "local/p"


async def set_up(desk: Desk, settings: ProjectSettings, *paths: str) -> None:
    edit = ProjectEdit(PATH, frozenset(paths or ("settings",)), "", settings)
    await desk.service.update_project(edit)


async def stage(desk: Desk, started: StartedRun, stage: StopStage) -> RunState:
    document = await desk.service.record_stop_stage(
        started.run.run_key, started.writer.writer, stage, "agent says so"
    )
    return document.state


async def due(desk: Desk) -> list[Notice]:
    return await desk.service.lease_notices(limit=100, lease_s=30.0)


async def test_a_stop_goes_from_request_to_killed() -> None:
    """Requested, acknowledged (stopping), draining, ended: each step is an event with who; the run is killed."""
    desk = Desk()
    started = await desk.start("x")
    asked = await desk.service.request_stop(StopWish(started.run.path, requested_by="ann"))
    assert (asked.state, asked.stop and asked.stop.stage) == (RunState.RUNNING, StopStage.REQUESTED)
    open_stops, _ = await desk.service.list_open_stops(page_size=0, page_token="")
    assert [(started.run.run_key, GRACE_DEFAULT_S)] == [
        (d.run_key, d.stop and d.stop.grace_s) for d in open_stops
    ]
    assert RunState.STOPPING is await stage(desk, started, StopStage.ACKNOWLEDGED)
    assert RunState.STOPPING is await stage(desk, started, StopStage.DRAINING)
    assert RunState.STOPPING is await stage(desk, started, StopStage.ACKNOWLEDGED)
    ended = await desk.finish(started, TransitionCause.SIGNAL, 130)
    assert (ended.state, ended.exit_code) == (RunState.KILLED, 130)
    events, _ = await desk.service.list_events(started.run.path, page_size=0, page_token="")
    assert [(event.kind, event.actor) for event in events] == [
        (RunEventKind.TRANSITION, "writer 1 (main)"),
        (RunEventKind.STOP_REQUESTED, "ann"),
        (RunEventKind.TRANSITION, "ann"),
        (RunEventKind.STOP_ACKNOWLEDGED, "writer 1 (main)"),
        (RunEventKind.STOP_DRAINING, "writer 1 (main)"),
        (RunEventKind.TRANSITION, "writer 1 (main)"),
    ]
    assert await desk.service.list_open_stops(page_size=0, page_token="") == ([], "")


async def test_a_further_request_changes_the_wishes_and_not_the_stage() -> None:
    """Of several requests the latest one's grace and permission to kill hold; how far the stop is stays."""
    desk = Desk()
    started = await desk.start("x")
    await desk.service.request_stop(StopWish(started.run.path))
    await stage(desk, started, StopStage.DRAINING)
    again = await desk.service.request_stop(StopWish(started.run.path, grace_s=1.0, may_kill=True))
    assert again.stop is not None
    assert (
        again.stop.stage,
        again.stop.grace_s,
        again.stop.may_kill,
    ) == (StopStage.DRAINING, 1.0, True)


async def test_what_is_not_live_cannot_be_stopped() -> None:
    """A finished run is refused with its state; a grace beyond a day, and a reason beyond measure, too."""
    desk = Desk()
    started = await desk.start("x")
    for wish in (
        StopWish(started.run.path, grace_s=86_401.0),
        StopWish(started.run.path, grace_s=-1.0),
        StopWish(started.run.path, reason="x" * 1_025),
        StopWish(started.run.path, requested_by="a\nb"),
    ):
        with pytest.raises(InvalidArgument):
            await desk.service.request_stop(wish)
    await desk.finish(started)
    with pytest.raises(
        FailedPrecondition, match="is finished: there is nothing to stop"
    ) as refused:
        await desk.service.request_stop(StopWish(started.run.path))
    assert refused.value.reason == "RUN_NOT_LIVE"


async def test_a_new_attempt_is_not_to_be_stopped() -> None:
    """A run that was stopped and is resumed runs."""
    desk = Desk()
    started = await desk.start("x")
    await desk.service.request_stop(StopWish(started.run.path))
    await stage(desk, started, StopStage.ACKNOWLEDGED)
    await desk.finish(started)
    again = await desk.start("x")
    assert (again.run.state, again.run.stop) == (RunState.RUNNING, None)


async def test_settings_are_taken_by_name() -> None:
    """Only the fields that the mask names change; a masked secret is the one that was there."""
    desk = Desk()
    await desk.start("x")
    await set_up(desk, ProjectSettings(crash_timeout_s=30.0, notification_targets=(HOOK,)))
    masked = replace(HOOK, secret=SECRET_MASK, url="https://other.example/")
    changed = ProjectSettings(end_rule=EndRule.PRIMARY, notification_targets=(masked,))
    await set_up(desk, changed, "settings.end_rule", "settings.notification_targets")
    settings = (await desk.service.get_project(PATH)).settings
    assert (settings.crash_timeout_s, settings.end_rule) == (30.0, EndRule.PRIMARY)
    assert (replace(masked, secret="s"),) == settings.notification_targets


@pytest.mark.parametrize(
    "settings",
    [
        ProjectSettings(crash_timeout_s=9.9),
        ProjectSettings(crash_timeout_s=8 * 86_400.0),
        ProjectSettings(stall_timeout_s=1.0),
        ProjectSettings(trash_window_s=-1.0),
        ProjectSettings(notification_targets=(HOOK, HOOK)),
        ProjectSettings(notification_targets=(replace(HOOK, url="ftp://x/"),)),
        ProjectSettings(notification_targets=(replace(HOOK, url="http://"),)),
        ProjectSettings(notification_targets=(replace(HOOK, url="http://x:port/"),)),
        ProjectSettings(notification_targets=(replace(HOOK, events=("done",)),)),
        ProjectSettings(notification_targets=(replace(HOOK, name=""),)),
    ],
)
async def test_settings_that_cannot_be_are_refused(settings: ProjectSettings) -> None:
    """Each is refused by name, and nothing of the change is kept."""
    desk = Desk()
    await desk.start("x")
    with pytest.raises(InvalidArgument):
        await set_up(desk, settings)
    assert ProjectSettings() == (await desk.service.get_project(PATH)).settings


async def test_the_primary_writer_ends_the_run_where_the_project_says_so() -> None:
    """With END_RULE_PRIMARY the run ends with rank 0, whatever the others do before and after."""
    desk = Desk()
    rank0 = await desk.start("x", identity=WriterIdentity(rank=0))
    rank1 = await desk.start("x", identity=WriterIdentity(rank=1))
    await set_up(desk, ProjectSettings(end_rule=EndRule.PRIMARY))
    failed = await desk.finish(rank1, TransitionCause.UNHANDLED_EXCEPTION, 1)
    assert RunState.RUNNING is failed.state
    assert RunState.FINISHED is (await desk.finish(rank0)).state


async def test_targets_are_told_of_what_they_asked_for() -> None:
    """A failure, a stall and an alert make one notification for each target that wants it; finishing none by default."""
    desk = Desk()
    picky = replace(HOOK, name="picky", events=("finished",))
    off = replace(HOOK, name="off", is_disabled=True)
    first = await desk.start("x")
    await set_up(desk, ProjectSettings(notification_targets=(HOOK, picky, off)))
    alert = Alert("NaN", "at 7", AlertLevel.ERROR)
    await desk.service.apply_changes(first.run.run_key, 1, [RunChange(sequence=2, alert=alert)])
    ask = RecordEvent(first.run.run_key, RunEventKind.STALLED, "no step", "monitor", 1)
    await desk.service.record_run_event(ask)
    await desk.finish(first, TransitionCause.UNHANDLED_EXCEPTION, 1)
    await desk.finish(await desk.start("y"))
    assert [(n.notification.event_name, n.notification.target_name) for n in await due(desk)] == [
        ("alert", "ops"),
        ("stalled", "ops"),
        ("failed", "ops"),
        ("finished", "picky"),
    ]


async def test_a_run_cannot_flood_its_targets() -> None:
    """Beyond the rate, and within an alert's wait, notifications are kept as suppressed and not sent."""
    desk = Desk()
    started = await desk.start("x")
    await set_up(desk, ProjectSettings(notification_targets=(HOOK,)))
    waiting = Alert("slow", "", AlertLevel.WARN, wait_s=60.0)
    changes = [RunChange(sequence=n, alert=waiting) for n in (2, 3)]
    changes += [
        RunChange(sequence=n + 10, alert=Alert(f"a{n}", "", AlertLevel.INFO))
        for n in range(RATE_COUNT_MAX + 5)
    ]
    await desk.service.apply_changes(started.run.run_key, 1, changes)
    assert len(await due(desk)) == RATE_COUNT_MAX
    kept, _ = await desk.service.list_notifications(
        PATH, frozenset({NotificationState.SUPPRESSED}), page_size=0, page_token=""
    )
    assert len(kept) == 1 + 6
    assert {"slow"} == {
        n.notification.title for n in kept if "wait_duration" in n.notification.last_error
    }


async def test_a_report_settles_a_notification() -> None:
    """Sent is sent; what is to be tried again comes back when it is due; a target that is gone is told of."""
    desk = Desk()
    started = await desk.start("x")
    await set_up(desk, ProjectSettings(notification_targets=(HOOK,)))
    await desk.finish(started, TransitionCause.UNHANDLED_EXCEPTION, 1)
    (notice,) = await due(desk)
    assert notice.target == HOOK
    later = desk.clock.now_unix_ns() + 5 * 10**9
    report = NotificationReport(
        notice.notification.number, NotificationState.PENDING, "HTTP 500", later
    )
    await desk.service.report_notifications([report])
    assert await due(desk) == []
    desk.clock.advance(5.0)
    await set_up(desk, ProjectSettings())
    (again,) = await due(desk)
    assert (again.target, again.notification.try_count) == (None, 1)
