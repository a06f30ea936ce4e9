"""Who is told of what: turns events of runs into notifications for the targets of their projects; actions on one transaction."""

from __future__ import annotations

from dataclasses import dataclass

from runyard_server.domain.events import RunEvent
from runyard_server.domain.notifications import (
    Notification,
    NotificationState,
    event_name_of,
    wants,
)
from runyard_server.domain.projects import NotificationTarget
from runyard_server.domain.run import RunDocument
from runyard_server.storage.ports.run_store import RunTransaction

RATE_COUNT_MAX = 20
RATE_WINDOW_NS = 600 * 1_000_000_000
"""A run sends at most so many notifications in so long; further ones are kept as suppressed, not sent."""
TITLE_LENGTH_MAX = 256


@dataclass(frozen=True, slots=True)
class Notice:
    """A notification with all that its message needs; target None: the project has it no more."""

    notification: Notification
    event: RunEvent
    run: RunDocument
    target: NotificationTarget | None


def queue_notifications(
    tx: RunTransaction, document: RunDocument, event: RunEvent, number: int
) -> None:
    """Queues the event, stored under `number`, for each target that wants it; with the event, or not at all."""
    event_name = event_name_of(event)
    if not event_name:
        return
    project = tx.find_project(document.entity, document.project)
    targets = project.settings.notification_targets if project is not None else ()
    wanted = [target for target in targets if wants(target, event_name)]
    if not wanted:
        return
    now = event.record_time_unix_ns
    sent = tx.count_notifications(document.run_key, since_unix_ns=now - RATE_WINDOW_NS)
    is_held = event.wait_s > 0 and _is_repeated(tx, document, event)
    made = []
    for position, target in enumerate(wanted):
        is_suppressed = is_held or sent + position >= RATE_COUNT_MAX
        made.append(
            Notification(
                entity=document.entity,
                project=document.project,
                run_key=document.run_key,
                event_number=number,
                event_name=event_name,
                target_name=target.name,
                create_time_unix_ns=now,
                state=NotificationState.SUPPRESSED if is_suppressed else NotificationState.PENDING,
                next_try_time_unix_ns=None if is_suppressed else now,
                title=event.title[:TITLE_LENGTH_MAX],
                last_error=_why(is_held=is_held) if is_suppressed else "",
            )
        )
    tx.insert_notifications(made)


def lease_notices(
    tx: RunTransaction, *, now_unix_ns: int, lease_ns: int, limit: int
) -> list[Notice]:
    """Hands out what is due; what lost its run or event meanwhile is left out, and its lease runs out."""
    leased = tx.lease_notifications(
        now_unix_ns=now_unix_ns, lease_end_unix_ns=now_unix_ns + lease_ns, limit=limit
    )
    return with_events(tx, leased)


def with_events(tx: RunTransaction, notifications: list[Notification]) -> list[Notice]:
    """Returns the notifications that still have a run and an event, with these."""
    notices = []
    for one in notifications:
        event = tx.find_event(one.event_number)
        document = tx.find_run_by_key(one.run_key, will_change=False)
        if event is None or document is None:
            continue
        project = tx.find_project(one.entity, one.project)
        targets = project.settings.notification_targets if project is not None else ()
        target = next((t for t in targets if t.name == one.target_name), None)
        notices.append(Notice(one, event, document, target))
    return notices


def _is_repeated(tx: RunTransaction, document: RunDocument, event: RunEvent) -> bool:
    since = event.record_time_unix_ns - round(event.wait_s * 1e9)
    title = event.title[:TITLE_LENGTH_MAX]
    return tx.count_notifications(document.run_key, since_unix_ns=since, title=title) > 0


def _why(*, is_held: bool) -> str:
    if is_held:
        return "an alert of this title was sent within its wait_duration"
    return f"the run had sent {RATE_COUNT_MAX} notifications in {RATE_WINDOW_NS // 10**9} s"
