"""RunStore, what tells of a run's life: memory, SQLite and PostgreSQL keep the same promises."""

from __future__ import annotations

from dataclasses import replace

from runyard_server.domain.attempts import AttemptKind, RunAttempt
from runyard_server.domain.beats import MonitorReplica
from runyard_server.domain.events import AlertLevel, RunEvent, RunEventKind
from runyard_server.domain.notifications import (
    Notification,
    NotificationReport,
    NotificationState,
)
from runyard_server.domain.projects import (
    EndRule,
    NotificationFormat,
    NotificationTarget,
    Project,
    ProjectSettings,
)
from runyard_server.domain.run import (
    Cut,
    ForkPoint,
    HistoryPart,
    RunDocument,
    RunException,
    RunKey,
    RunState,
    RunTransition,
    StopStage,
    StopStatus,
    TransitionCause,
)
from runyard_server.domain.writers import WriterEnd, WriterIdentity
from runyard_server.storage.ports.run_store import (
    RunStore,
    RunTransaction,
)
from tests.contract.run_store import add_run, make_document, make_writer, store

__all__ = ["store"]


async def test_events_come_back_in_order(store: RunStore) -> None:
    """Returns events with rising numbers, oldest first, those above after_number, and only the kinds asked for."""
    document = await add_run(store, make_document())
    other = await add_run(store, make_document("r2"))
    started = RunEvent.of(
        RunTransition(None, RunState.RUNNING, TransitionCause.STARTED, "", "w", 1, 1)
    )
    alert = RunEvent(
        RunEventKind.ALERT, "text", "writer 2", 2, 1, writer=2, title="t", level=AlertLevel.WARN
    )
    ended = RunEvent.of(
        RunTransition(
            RunState.RUNNING, RunState.FINISHED, TransitionCause.FINISH_CALLED, "e", "w", 3, 1
        )
    )

    def act(tx: RunTransaction) -> list[int]:
        tx.append_event(other.run_key, started)
        return [tx.append_event(document.run_key, event) for event in (started, alert, ended)]

    numbers = await store.transact(act)
    assert sorted(set(numbers)) == numbers
    expected = [
        replace(event, number=number)
        for event, number in zip((started, alert, ended), numbers, strict=True)
    ]
    found = await store.transact(
        lambda tx: tx.list_events(document.run_key, after_number=0, limit=10)
    )
    assert expected == found
    rest = await store.transact(
        lambda tx: tx.list_events(document.run_key, after_number=numbers[0], limit=1)
    )
    assert expected[1:2] == rest
    transitions = frozenset({RunEventKind.TRANSITION})
    of_a_kind = await store.transact(
        lambda tx: tx.list_events(document.run_key, after_number=0, limit=10, kinds=transitions)
    )
    assert [expected[0], expected[2]] == of_a_kind


async def test_the_last_event_of_a_kind_is_found_by_writer(store: RunStore) -> None:
    """Returns the latest event of the kinds that is about the writer, or None."""
    document = await add_run(store, make_document())
    lost, back = (
        RunEvent(kind, "", "monitor", 1, 1, writer=3)
        for kind in (RunEventKind.WRITER_LOST, RunEventKind.WRITER_RETURNED)
    )
    kinds = frozenset({RunEventKind.WRITER_LOST, RunEventKind.WRITER_RETURNED})

    def act(tx: RunTransaction) -> list[RunEvent | None]:
        tx.append_event(document.run_key, lost)
        last = tx.append_event(document.run_key, back)
        tx.append_event(document.run_key, replace(lost, writer=4))
        found = tx.find_last_event(document.run_key, kinds, writer=3)
        assert found == replace(back, number=last)
        return [tx.find_last_event(document.run_key, kinds, writer=5)]

    assert await store.transact(act) == [None]


async def test_attempts_are_kept_by_number(store: RunStore) -> None:
    """Returns the attempts of a run, oldest first, each as it was last saved."""
    document = await add_run(store, make_document())
    first = RunAttempt(1, AttemptKind.START, 5, 1, "node1")
    second = RunAttempt(2, AttemptKind.REWIND, 9, 3, "node2", rewound_to_step=-4)
    ended = replace(first, state=RunState.CRASHED, end_time_unix_ns=8)

    def act(tx: RunTransaction) -> None:
        tx.save_attempt(document.run_key, second)
        tx.save_attempt(document.run_key, first)
        tx.save_attempt(document.run_key, ended)

    await store.transact(act)
    found = await store.transact(lambda tx: tx.list_attempts(document.run_key))
    assert [ended, second] == found
    assert second == await store.transact(lambda tx: tx.find_attempt(document.run_key, 2))
    assert None is await store.transact(lambda tx: tx.find_attempt(document.run_key, 3))


async def test_forks_are_found_by_ancestor(store: RunStore) -> None:
    """Returns the runs that read points of an ancestor, by key; deleted ones are left out."""
    parent = await add_run(store, make_document("parent"))
    child = await add_run(store, make_document("child"))
    gone = await add_run(store, replace(make_document("gone")))

    def act(tx: RunTransaction) -> None:
        tx.insert_ancestors(child.run_key, [parent.run_key])
        tx.insert_ancestors(gone.run_key, [parent.run_key, child.run_key])
        tx.save_run(replace(gone, is_deleted=True, delete_time_unix_ns=77, version=2))

    await store.transact(act)
    forks = await store.transact(lambda tx: tx.list_forks(parent.run_key, limit=10))
    assert [child] == forks
    assert await store.transact(lambda tx: tx.list_forks(child.run_key, limit=10)) == []


async def test_open_stops_are_those_of_live_runs(store: RunStore) -> None:
    """Returns live runs that have a stop, by key, those above after_key."""
    stop = StopStatus(StopStage.REQUESTED, "ann", "why", 7, 60.0, may_kill=True)
    asked = await add_run(store, replace(make_document("asked"), stop=stop))
    await add_run(store, make_document("other"))
    await add_run(store, replace(make_document("ended"), stop=stop, state=RunState.KILLED))
    found = await store.transact(lambda tx: tx.list_open_stops(after_key=None, limit=10))
    assert [asked] == found
    later = await store.transact(lambda tx: tx.list_open_stops(after_key=asked.run_key, limit=10))
    assert later == []


async def test_the_life_of_a_run_comes_back(store: RunStore) -> None:
    """Returns every field that tells of a run's life as it was saved."""
    parent = RunKey(12345)
    document = replace(
        make_document(),
        exception=RunException("ValueError", "bad \u00e9", "Traceback ...", "rank3"),
        stop=StopStatus(
            StopStage.DRAINING, "ann", "", 7, 0.5, may_kill=False, acknowledge_time_unix_ns=9
        ),
        stalled_since_unix_ns=11,
        fork=ForkPoint("local/p/parent", parent, -3),
        history_parts=(
            HistoryPart(RunKey(1), cuts=(Cut(2, 5),)),
            HistoryPart(parent, last_step=-3, writer_max=4),
        ),
        preemption_notice="slurm",
        past_active_ns=13,
        attempt_start_unix_ns=14,
    )
    saved = await add_run(store, document)
    key = saved.run_key
    assert saved == await store.transact(lambda tx: tx.find_run_by_key(key, will_change=False))


async def test_a_writer_keeps_what_it_is(store: RunStore) -> None:
    """Returns the writer's place in a distributed run, and the exception that ended it."""
    document = await add_run(store, make_document())
    identity = WriterIdentity(0, 1, 8, "node1", ("0", "GPU-1"), "torchrun", is_primary=True)
    end = WriterEnd(
        RunState.FAILED,
        TransitionCause.UNHANDLED_EXCEPTION,
        1,
        "e",
        9,
        5,
        exception=RunException("KeyError", "'x'", "Traceback ..."),
        records_refused=3,
    )
    writer = replace(
        make_writer(document), identity=identity, hostname="h", pid=42, is_counted=False, end=end
    )
    await store.transact(lambda tx: tx.insert_writer(writer))
    found = await store.transact(
        lambda tx: tx.list_writers(document.run_key, after_writer=0, limit=10)
    )
    assert [writer] == found


async def test_settings_of_a_project_reach_its_live_runs(store: RunStore) -> None:
    """Replaces description and settings; the timeouts are those of the project's live runs."""
    document = await add_run(store, make_document())
    target = NotificationTarget(
        "ops", "https://x.example/hook", NotificationFormat.SLACK, "secret", ("failed",)
    )
    settings = ProjectSettings(12.5, 0.0, 7, EndRule.PRIMARY, 3600.0, (target,))
    project = Project("ann", "p", "other words", settings=settings)
    await store.transact(lambda tx: tx.save_project(project))
    found = await store.transact(lambda tx: tx.find_project("ann", "p"))
    assert found is not None
    assert (settings, "other words") == (found.settings, found.description)
    live = await store.transact(lambda tx: tx.list_live_runs(after_key=None, limit=10))
    assert [(document.run_key, 12.5, 0.0, 7)] == [
        (run.run_key, run.crash_timeout_s, run.stall_timeout_s, run.straggler_steps) for run in live
    ]


def make_notification(document: RunDocument, time: int, **changes: object) -> Notification:
    made = Notification(
        "ann", "p", document.run_key, 1, "failed", "ops", time, next_try_time_unix_ns=time
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # members of Notification


async def test_a_notification_is_leased_to_one_at_a_time(store: RunStore) -> None:
    """Returns what is due and not leased, earliest first; until the lease ends nobody else gets it."""
    document = await add_run(store, make_document())
    made = [make_notification(document, time) for time in (30, 10, 90)]
    suppressed = make_notification(
        document, 5, state=NotificationState.SUPPRESSED, next_try_time_unix_ns=None
    )
    await store.transact(lambda tx: tx.insert_notifications([*made, suppressed]))

    async def lease(now: int) -> list[int]:
        found = await store.transact(
            lambda tx: tx.lease_notifications(
                now_unix_ns=now, lease_end_unix_ns=now + 100, limit=10
            )
        )
        return [one.create_time_unix_ns for one in found]

    assert await lease(40) == [10, 30]
    assert await lease(95) == [90]
    assert await lease(140) == [10, 30]


async def test_what_a_try_gave_is_kept(store: RunStore) -> None:
    """Counts the try and ends the lease; one that is settled stays as it is."""
    document = await add_run(store, make_document())
    await store.transact(lambda tx: tx.insert_notifications([make_notification(document, 10)]))

    async def lease(now: int) -> list[Notification]:
        return await store.transact(
            lambda tx: tx.lease_notifications(now_unix_ns=now, lease_end_unix_ns=99, limit=10)
        )

    async def report(
        state: NotificationState, error: str = "", next_try: int | None = None
    ) -> None:
        told = NotificationReport(number, state, error, next_try)
        await store.transact(lambda tx: tx.report_notification(told))

    (leased,) = await lease(10)
    number = leased.number
    await report(NotificationState.PENDING, "HTTP 500", 20)
    assert await lease(19) == []
    (again,) = await lease(20)
    assert (again.try_count, again.last_error) == (1, "HTTP 500")
    await report(NotificationState.SENT)
    await report(NotificationState.DEAD, "late")
    listed = await store.transact(
        lambda tx: tx.list_notifications(
            "ann", "p", states=frozenset(), before_number=None, limit=5
        )
    )
    assert [(n.state, n.try_count, n.last_error, n.next_try_time_unix_ns) for n in listed] == [
        (NotificationState.SENT, 2, "", None)
    ]


async def test_notifications_are_counted_and_listed(store: RunStore) -> None:
    """Counts those made since then, suppressed ones left out; lists the newest first, by state."""
    document = await add_run(store, make_document())
    other = await add_run(store, make_document("r2"))
    made = [
        make_notification(document, 10, title="a"),
        make_notification(document, 20, title="b"),
        make_notification(document, 30, title="a", state=NotificationState.SUPPRESSED),
        make_notification(other, 30, title="a"),
    ]
    await store.transact(lambda tx: tx.insert_notifications(made))
    count = await store.transact(
        lambda tx: [
            tx.count_notifications(document.run_key, since_unix_ns=since, title=title)
            for since, title in ((0, None), (20, None), (0, "a"), (11, "a"))
        ]
    )
    assert count == [2, 1, 1, 0]
    pending = frozenset({NotificationState.PENDING})
    newest = await store.transact(
        lambda tx: tx.list_notifications("ann", "p", states=pending, before_number=None, limit=2)
    )
    assert [(30, other.run_key), (20, document.run_key)] == [
        (n.create_time_unix_ns, n.run_key) for n in newest
    ]
    older = await store.transact(
        lambda tx: tx.list_notifications(
            "ann", "p", states=pending, before_number=newest[-1].number, limit=2
        )
    )
    assert [n.create_time_unix_ns for n in older] == [10]


async def test_replicas_live_as_long_as_their_lease(store: RunStore) -> None:
    """Returns replicas by id until their lease ends or they leave, and none whose lease ends later than any can."""
    one, two = MonitorReplica("b", "h:1"), MonitorReplica("a", "h:2")

    def act(tx: RunTransaction) -> list[list[MonitorReplica]]:
        tx.renew_replica(one, lease_end_unix_ns=10)
        tx.renew_replica(two, lease_end_unix_ns=20)
        first = tx.list_replicas(now_unix_ns=9, end_unix_ns=50)
        second = tx.list_replicas(now_unix_ns=10, end_unix_ns=50)
        tx.renew_replica(replace(one, address="h:3"), lease_end_unix_ns=30)
        tx.remove_replica("a")
        tx.remove_replica("a")
        third = tx.list_replicas(now_unix_ns=11, end_unix_ns=50)
        return [first, second, third, tx.list_replicas(now_unix_ns=11, end_unix_ns=29)]

    assert [[two, one], [two], [replace(one, address="h:3")], []] == await store.transact(act)
