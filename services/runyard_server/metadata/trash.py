"""The trash: deletes and restores runs, and lists those that are deleted; each run in a transaction of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from runyard_server.domain.clock import Clock
from runyard_server.domain.page_tokens import clamp_page_size, make_page_token, read_page_token
from runyard_server.domain.purges import Purge
from runyard_server.domain.run import RunKey, split_project_path
from runyard_server.metadata import deletions
from runyard_server.metadata.deletions import Refusal
from runyard_server.metadata.requests import RunLimits
from runyard_server.storage.ports.run_store import RunStore

TRASH_WINDOW_DEFAULT_S = 7 * 86_400.0


class Trash:
    """Answers DeleteRuns, RestoreRuns and ListDeletedRuns in the words of the domain; `on_change` wakes who waits for it."""

    def __init__(
        self,
        *,
        runs: RunStore,
        clock: Clock,
        limits: RunLimits,
        trash_window_s: float,
        on_change: Callable[[], None],
    ) -> None:
        self._runs = runs
        self._clock = clock
        self._limits = limits
        self._trash_window_s = trash_window_s
        self._on_change = on_change

    async def delete_runs(
        self, paths: Sequence[str], *, is_now: bool, requested_by: str
    ) -> list[Purge | Refusal]:
        """Moves runs to the trash, each in a transaction of its own. Safe to repeat."""
        unique = deletions.check_paths(paths, requested_by, self._limits)
        results = []
        for path in unique:
            ask = deletions.Deletion(
                requested_by=requested_by,
                is_now=is_now,
                now_unix_ns=self._clock.now_unix_ns(),
                trash_window_s=self._trash_window_s,
            )
            results.append(
                await self._runs.transact(partial(deletions.delete_run, path=path, ask=ask))
            )
        self._on_change()
        return results

    async def restore_runs(
        self, paths: Sequence[str], *, requested_by: str
    ) -> tuple[list[str], list[Refusal]]:
        """Takes runs out of the trash; returns those that are there again, and the refusals. Safe to repeat."""
        unique = deletions.check_paths(paths, requested_by, self._limits)
        refusals = []
        for path in unique:
            refusal = await self._runs.transact(
                partial(
                    deletions.restore_run,
                    path=path,
                    requested_by=requested_by,
                    now_unix_ns=self._clock.now_unix_ns(),
                )
            )
            if refusal is not None:
                refusals.append(refusal)
        self._on_change()
        refused = {refusal.path for refusal in refusals}
        return [path for path in unique if path not in refused], refusals

    async def list_deleted_runs(
        self, scope: str, *, is_with_purged: bool, page_size: int, page_token: str
    ) -> tuple[list[Purge], str]:
        """Returns a page of deleted runs of a project, an entity, or all, and the token of the next one."""
        entity, _, project = scope.partition("/")
        if project:
            entity, project = split_project_path(scope)
        query = f"deleted {scope} {is_with_purged}"
        position = read_page_token(query, page_token, int, int)
        before = (int(position[0]), RunKey(int(position[1]))) if position else None
        limit = clamp_page_size(page_size, default=100, limit=1000)
        found = await self._runs.transact(
            lambda tx: tx.list_purges(
                entity=entity,
                project=project,
                is_with_purged=is_with_purged,
                before=before,
                limit=limit + 1,
            )
        )
        if len(found) <= limit:
            return found, ""
        last = found[limit - 1]
        return found[:limit], make_page_token(query, last.delete_time_unix_ns, last.run_key)
