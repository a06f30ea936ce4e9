"""Deleting runs: into the trash, out of it again, and what a purge leaves; actions on one transaction.

```
 there ──delete──► in the trash ──due, or "now"──► being purged ──► purged: a tombstone, and a receipt
   ▲                    │                              files → points → index → SQL; each step is recorded before the next
   └──────restore───────┘
```
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from runyard_server.domain.errors import DomainError, FailedPrecondition, InvalidArgument
from runyard_server.domain.events import RunEvent, RunEventKind
from runyard_server.domain.purges import Purge, PurgeStep, StoreFreed
from runyard_server.domain.run import LIVE_STATES, Host, RunDocument, split_run_path
from runyard_server.metadata.requests import RunLimits, check_label
from runyard_server.metadata.runs import Change, record_event, run_not_found, save
from runyard_server.storage.ports.run_store import RunTransaction

PATH_COUNT_MAX = 1_000
FORKS_NAMED = 3
ANONYMOUS = "a user"


@dataclass(frozen=True, slots=True)
class Deletion:
    """Who deletes, when, and whether the trash is left out."""

    requested_by: str
    is_now: bool
    now_unix_ns: int
    trash_window_s: float
    """For projects without a window of their own."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A run for which something could not be done."""

    path: str
    reason: str
    message: str


def check_paths(paths: Sequence[str], requested_by: str, limits: RunLimits) -> tuple[str, ...]:
    """Returns the paths, each once; raises InvalidArgument if there are none or too many."""
    unique = tuple(dict.fromkeys(paths))
    if not 0 < len(unique) <= PATH_COUNT_MAX:
        raise InvalidArgument(
            "FIELD_INVALID" if not unique else "FIELD_TOO_LARGE",
            f"run_paths names {len(unique)} runs; name 1 to {PATH_COUNT_MAX}",
            metadata={"field": "run_paths", "value": len(unique), "limit": PATH_COUNT_MAX},
        )
    check_label(requested_by, field="requested_by", limits=limits)
    return unique


def delete_run(tx: RunTransaction, path: str, ask: Deletion) -> Purge | Refusal:
    """Moves the run to the trash; one that is there already stays, and `is_now` makes its purge due."""
    try:
        document = _find(tx, path)
        if document.is_deleted:
            return _hurry(tx, document, ask)
        _check_deletable(tx, document)
    except DomainError as error:
        return Refusal(path, error.reason, error.message)
    changed = replace(document, is_deleted=True, delete_time_unix_ns=ask.now_unix_ns)
    saved = save(tx, document, Change(changed), now_unix_ns=ask.now_unix_ns)
    tx.change_project(
        saved.entity, saved.project, run_count_change=-1, activity_time_unix_ns=ask.now_unix_ns
    )
    purge = Purge(
        run_key=saved.run_key,
        path=saved.path,
        display_name=saved.display_name,
        state=saved.state,
        deleted_by=ask.requested_by or ANONYMOUS,
        delete_time_unix_ns=ask.now_unix_ns,
        due_time_unix_ns=ask.now_unix_ns + _window_ns(tx, saved, ask),
    )
    tx.insert_purge(purge)
    _record(tx, saved, RunEventKind.DELETED, ask.requested_by, ask.now_unix_ns)
    return purge


def restore_run(
    tx: RunTransaction, path: str, requested_by: str, *, now_unix_ns: int
) -> Refusal | None:
    """Takes the run out of the trash, as it was; one that is not in it is left as it is."""
    try:
        document = _find(tx, path)
        if not document.is_deleted:
            return None
        purge = tx.find_purge(document.run_key)
        _check_restorable(tx, document, purge)
    except DomainError as error:
        return Refusal(path, error.reason, error.message)
    changed = replace(document, is_deleted=False, delete_time_unix_ns=None)
    saved = save(tx, document, Change(changed), now_unix_ns=now_unix_ns)
    tx.change_project(
        saved.entity, saved.project, run_count_change=1, activity_time_unix_ns=now_unix_ns
    )
    tx.remove_purge(document.run_key)
    _record(tx, saved, RunEventKind.RESTORED, requested_by, now_unix_ns)
    return None


def begin_purges(tx: RunTransaction, *, now_unix_ns: int, lease_ns: int, limit: int) -> list[Purge]:
    """Hands out purges that are due, each to one caller until its lease ends; from now on they cannot be taken back."""
    leased = tx.lease_purges(
        now_unix_ns=now_unix_ns, lease_end_unix_ns=now_unix_ns + lease_ns, limit=limit
    )
    begun = []
    for purge in leased:
        if purge.step is PurgeStep.IN_TRASH:
            purge = replace(purge, step=PurgeStep.BEGUN)
            tx.save_purge(purge)
        begun.append(purge)
    return begun


def leave_tombstone(tx: RunTransaction, purge: Purge, *, now_unix_ns: int) -> Purge:
    """Removes what SQL holds of the run but its path and key, and completes the receipt, in one transaction."""
    document = tx.find_run_by_key(purge.run_key, will_change=True)
    known = tx.find_purge(purge.run_key)
    if known is not None and known.step >= PurgeStep.PURGED:
        return known  # by another process, which took this one for dead
    assert document is not None, f"run {purge.path} has no row, though a path stays taken for ever"
    rows = tx.purge_run(purge.run_key)
    bare = RunDocument(
        run_key=document.run_key,
        entity=document.entity,
        project=document.project,
        run_id=document.run_id,
        display_name="",
        state=document.state,
        create_time_unix_ns=document.create_time_unix_ns,
        update_time_unix_ns=now_unix_ns,
        host=Host(),
        attempt_count=document.attempt_count,
        writer_count=document.writer_count,
        is_deleted=True,
        delete_time_unix_ns=document.delete_time_unix_ns,
        version=document.version + 1,
    )
    freed_bytes = len(_texts(document).encode()) - len(_texts(bare).encode())
    tx.save_tombstone(bare)
    stores = (*purge.stores, StoreFreed("sql", rows=rows, bytes=max(0, freed_bytes)))
    done = replace(
        purge, step=PurgeStep.PURGED, stores=stores, purge_time_unix_ns=now_unix_ns, trouble=""
    )
    tx.save_purge(done)
    return done


def _find(tx: RunTransaction, path: str) -> RunDocument:
    entity, project, run_id = split_run_path(path)
    document = tx.find_run(entity, project, run_id, will_change=True)
    if document is None:
        raise run_not_found(path[:512], path[:512])
    return document


def _check_deletable(tx: RunTransaction, document: RunDocument) -> None:
    if document.state in LIVE_STATES:
        raise FailedPrecondition(
            "RUN_IS_LIVE",
            f"run {document.path} is {document.state.value}; stop it, or wait for its end, before it is deleted",
            metadata={"run": document.path, "state": document.state.value},
        )
    forks = tx.list_forks(document.run_key, limit=FORKS_NAMED + 1)
    if forks:
        named = ", ".join(fork.path for fork in forks[:FORKS_NAMED])
        more = " and others" if len(forks) > FORKS_NAMED else ""
        raise FailedPrecondition(
            "RUN_HAS_FORKS",
            f"{named}{more} read points of run {document.path} as their own; delete these first",
            metadata={"run": document.path, "forks": named},
        )


def _check_restorable(tx: RunTransaction, document: RunDocument, purge: Purge | None) -> None:
    if purge is None or purge.step is not PurgeStep.IN_TRASH:
        raise FailedPrecondition(
            "RUN_PURGED",
            f"run {document.path} was purged: nothing of it is left to restore",
            metadata={"run": document.path},
        )
    for part in document.history_parts[1:]:
        ancestor = tx.find_run_by_key(part.run_key, will_change=False)
        if ancestor is None or ancestor.is_deleted:
            name = ancestor.path if ancestor is not None else f"with key {part.run_key}"
            raise FailedPrecondition(
                "RUN_PURGED",
                f"run {document.path} was forked from {name}, which is deleted; restore that one first, if it can be",
                metadata={"run": document.path},
            )


def _hurry(tx: RunTransaction, document: RunDocument, ask: Deletion) -> Purge:
    purge = tx.find_purge(document.run_key)
    assert purge is not None, f"run {document.path} is deleted and has no purge"
    if ask.is_now and purge.step is PurgeStep.IN_TRASH:
        purge = replace(purge, due_time_unix_ns=min(purge.due_time_unix_ns, ask.now_unix_ns))
        tx.save_purge(purge)
    return purge


def _window_ns(tx: RunTransaction, document: RunDocument, ask: Deletion) -> int:
    if ask.is_now:
        return 0
    project = tx.find_project(document.entity, document.project)
    own_s = project.settings.trash_window_s if project is not None else None
    return round((ask.trash_window_s if own_s is None else own_s) * 1e9)


def _record(
    tx: RunTransaction, document: RunDocument, kind: RunEventKind, by: str, now_unix_ns: int
) -> None:
    event = RunEvent(kind, "", by or ANONYMOUS, now_unix_ns, document.attempt_count)
    record_event(tx, document, event)


def _texts(document: RunDocument) -> str:
    """Returns what of a document takes room."""
    host = [document.host.command, document.host.extra_json, document.host.working_directory]
    return "".join([document.config_json, document.notes, json.dumps(document.tags), *host])
