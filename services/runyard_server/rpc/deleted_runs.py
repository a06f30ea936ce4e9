"""What every service asks before it removes a run for good: whether metadata has it as deleted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from runyard_server.domain.errors import FailedPrecondition, InvalidArgument
from runyard_server.domain.run import RunDocument, RunKey

PURGE_COUNT_MAX = 1_000


class RunSource(Protocol):
    """Gives run documents; rpc.siblings.Siblings does."""

    async def get_run(
        self, *, path: str | None = None, run_key: RunKey | None = None
    ) -> RunDocument:
        """Returns the run; raises NotFound, FailedPrecondition RUN_DELETED, Unavailable."""
        ...


def check_purge_count(run_keys: Sequence[RunKey]) -> None:
    """Raises InvalidArgument if more runs are named than one purge takes."""
    if len(run_keys) > PURGE_COUNT_MAX:
        raise InvalidArgument(
            "FIELD_TOO_LARGE",
            f"run_keys has {len(run_keys)} entries, at most {PURGE_COUNT_MAX} fit one request",
            metadata={"field": "run_keys", "value": len(run_keys), "limit": PURGE_COUNT_MAX},
        )


async def check_run_is_deleted(source: RunSource, run_key: RunKey) -> None:
    """Returns if the run is deleted; raises FailedPrecondition RUN_NOT_DELETED if it is there, NotFound, Unavailable."""
    try:
        document = await source.get_run(run_key=run_key)
    except FailedPrecondition as error:
        if error.reason == "RUN_DELETED":
            return
        raise
    raise FailedPrecondition(
        "RUN_NOT_DELETED",
        f"run {document.path} is not deleted: it cannot be purged",
        metadata={"run": document.path},
    )
