"""Deletes runs, takes them back, lists what was deleted: the calls of `runyard runs delete`, `runs restore` and `trash`."""

from __future__ import annotations

import dataclasses
import getpass
import socket
from collections.abc import Iterator, Sequence
from typing import Any

from runyard.errors import error_of
from runyard.rpc import METADATA, Connection
from runyard_protos.metadata.v1 import metadata_pb2

PATHS_PER_CALL = 1000
PAGE_SIZE = 1000
_CODES = {"RUN_NOT_FOUND": "not_found", "FIELD_INVALID": "invalid_argument"}


@dataclasses.dataclass(frozen=True)
class StoreFreed:
    """What a purge freed in one store."""

    store: str
    """clickhouse, objects or sql."""
    rows: int
    objects: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class DeletedRun:
    """A run in the trash, or what is left of one that was purged."""

    path: str
    name: str
    state: str
    """The state that it had."""
    deleted_by: str
    delete_time_s: float
    purge_due_time_s: float
    """When it is purged; until then it can be restored."""
    purge_time_s: float | None
    """When its purge was complete; None: not yet."""
    stores: tuple[StoreFreed, ...]
    """What the purge has freed so far."""
    trouble: str
    """What holds the purge up."""

    @property
    def is_purged(self) -> bool:
        """Returns whether nothing of it is left but its path, which stays taken."""
        return self.purge_time_s is not None

    @property
    def bytes_freed(self) -> int:
        """Returns the bytes freed over all stores."""
        return sum(one.bytes for one in self.stores)

    def fields(self) -> dict[str, Any]:
        """Returns it as JSON can say it."""
        return {**dataclasses.asdict(self), "is_purged": self.is_purged}


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A run that could not be deleted or restored."""

    path: str
    reason: str
    message: str


def delete_runs(
    connection: Connection, paths: Sequence[str], *, is_now: bool = False
) -> tuple[list[DeletedRun], list[Refusal]]:
    """Deletes runs; returns those that are deleted now, and those that are not, with the reasons."""
    deleted: list[DeletedRun] = []
    refusals: list[Refusal] = []
    for start in range(0, len(paths), PATHS_PER_CALL):
        request = metadata_pb2.DeleteRunsRequest(
            run_paths=paths[start : start + PATHS_PER_CALL], is_now=is_now, requested_by=who()
        )
        reply = connection.call(METADATA + "DeleteRuns", request, metadata_pb2.DeleteRunsResponse)
        deleted += map(_deleted_run, reply.deleted_runs)
        refusals += [Refusal(one.run_path, one.reason, one.message) for one in reply.refusals]
    return deleted, refusals


def restore_runs(connection: Connection, paths: Sequence[str]) -> tuple[list[str], list[Refusal]]:
    """Takes runs out of the trash; returns the paths of those that are there again, and those that are not."""
    restored: list[str] = []
    refusals: list[Refusal] = []
    for start in range(0, len(paths), PATHS_PER_CALL):
        request = metadata_pb2.RestoreRunsRequest(
            run_paths=paths[start : start + PATHS_PER_CALL], requested_by=who()
        )
        reply = connection.call(METADATA + "RestoreRuns", request, metadata_pb2.RestoreRunsResponse)
        restored += reply.run_paths
        refusals += [Refusal(one.run_path, one.reason, one.message) for one in reply.refusals]
    return restored, refusals


def list_deleted_runs(
    connection: Connection, project_path: str = "", *, is_with_purged: bool = False
) -> Iterator[DeletedRun]:
    """Yields deleted runs, the latest deletion first; purged ones only where they are asked for."""
    token = ""
    while True:
        request = metadata_pb2.ListDeletedRunsRequest(
            project_path=project_path,
            is_with_purged=is_with_purged,
            page_size=PAGE_SIZE,
            page_token=token,
        )
        reply = connection.call(
            METADATA + "ListDeletedRuns", request, metadata_pb2.ListDeletedRunsResponse
        )
        yield from map(_deleted_run, reply.deleted_runs)
        token = reply.next_page_token
        if not token:
            return


def raise_refusal(refusals: Sequence[Refusal]) -> None:
    """Raises the first of the refusals, if there is any."""
    for one in refusals:
        code = _CODES.get(one.reason, "failed_precondition")
        raise error_of(code, one.message, reason=one.reason)


def who() -> str:
    """Returns this user and machine, as shown to all."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # nobody of that number
        user = "somebody"
    return f"{user}@{socket.gethostname()}"[:256]


def _deleted_run(run: metadata_pb2.DeletedRun) -> DeletedRun:
    state = metadata_pb2.RunState.Name(run.state).removeprefix("RUN_STATE_").lower()
    return DeletedRun(
        path=run.run_path,
        name=run.display_name,
        state=state,
        deleted_by=run.deleted_by,
        delete_time_s=run.delete_time.ToNanoseconds() / 1e9,
        purge_due_time_s=run.purge_due_time.ToNanoseconds() / 1e9,
        purge_time_s=(run.purge_time.ToNanoseconds() / 1e9 if run.HasField("purge_time") else None),
        stores=tuple(
            StoreFreed(one.store, one.rows, one.objects, one.bytes) for one in run.receipt.stores
        ),
        trouble=run.receipt.trouble,
    )
