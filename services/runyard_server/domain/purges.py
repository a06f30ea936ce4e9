"""Purges: deleted runs, from the trash to what is left of them, a receipt."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from runyard_server.domain.run import RunKey, RunState


class PurgeStep(enum.IntEnum):
    """What is done; later steps are greater. Each is recorded before the next begins, so that a purge can be broken off anywhere."""

    IN_TRASH = 0
    BEGUN = 1
    """It cannot be restored any more."""
    FILES_GONE = 2
    POINTS_GONE = 3
    INDEX_GONE = 4
    PURGED = 5
    """All is gone, and the receipt is complete."""
    SWEPT = 6
    """Looked once more, for data that was on its way when the run was deleted."""


@dataclass(frozen=True, slots=True)
class StoreFreed:
    """What was freed in one store; see metadata.v1.StoreReceipt."""

    store: str
    rows: int = 0
    objects: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class TablePurge:
    """What a purge removed from one table: rows by run, in the order asked, and bytes of all runs together."""

    table: str
    rows: tuple[int, ...]
    bytes: int


@dataclass(frozen=True, slots=True)
class Purge:
    """A deleted run; times in Unix nanoseconds."""

    run_key: RunKey
    path: str
    display_name: str
    state: RunState
    deleted_by: str
    delete_time_unix_ns: int
    due_time_unix_ns: int
    step: PurgeStep = PurgeStep.IN_TRASH
    purge_time_unix_ns: int | None = None
    stores: tuple[StoreFreed, ...] = ()
    trouble: str = ""
    """What holds it up; empty: nothing."""
