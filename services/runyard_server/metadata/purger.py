"""Purges deleted runs that are due, step by step over all stores, in the background; can be broken off anywhere."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from prometheus_client import Counter

from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import DomainError
from runyard_server.domain.purges import Purge, PurgeStep, StoreFreed, TablePurge
from runyard_server.domain.run import RunKey
from runyard_server.metadata import deletions
from runyard_server.storage.ports.points import RunPurger
from runyard_server.storage.ports.run_store import RunStore, RunTransaction

RUNS_PURGED = Counter("runyard_runs_purged_total", "Deleted runs whose purge is complete.")

log = logging.getLogger("runyard.metadata")


@dataclass(frozen=True, slots=True)
class PurgerConfig:
    """How deleted runs are purged."""

    poll_interval_s: float = 1.0
    """How often to look for purges that are due."""
    lease_s: float = 30.0
    """How long others leave alone what a process took that was killed; one that lives renews it."""
    batch_count_max: int = 200
    """Runs purged together: one rewrite of the tables serves them all."""
    retry_pause_s: float = 10.0
    """Pause before a step that failed is tried again."""
    sweep_delay_s: float = 90.0
    """How long after the deletion to look for data that was on its way; longer than ingest believes that a run is there."""


class DataPurger(Protocol):
    """What is asked of the other services; rpc.siblings.Siblings has it."""

    async def purge_points(self, run_keys: Sequence[RunKey]) -> list[TablePurge]:
        """Has ingest remove what the runs streamed. Safe to repeat."""
        ...

    async def purge_files(self, run_keys: Sequence[RunKey]) -> list[StoreFreed]:
        """Has files remove the runs' files; one entry per run, in the order asked. Safe to repeat."""
        ...


class Purger:
    """Takes due purges and carries each batch from step to step."""

    def __init__(
        self,
        config: PurgerConfig,
        *,
        runs: RunStore,
        index: RunPurger,
        data: DataPurger,
        clock: Clock,
    ) -> None:
        self._config = config
        self._runs = runs
        self._index = index
        self._data = data
        self._clock = clock
        self._woken = asyncio.Event()
        self._held: dict[RunKey, Purge] = {}
        """The batch in work, as it was saved last."""
        self._writing = asyncio.Lock()

    def wake(self) -> None:
        """Has it look for due purges now."""
        self._woken.set()

    async def run(self) -> None:
        """Purges until cancelled; what fails is told in its receipt and tried again."""
        while True:
            self._woken.clear()
            try:
                while await self.purge_due():
                    pass
                await self.sweep_due()
                pause_s = self._config.poll_interval_s
            except DomainError as error:
                log.warning("purge_waits", extra={"fields": {"message": error.message}})
                pause_s = self._config.retry_pause_s
            try:
                async with asyncio.timeout(pause_s):
                    await self._woken.wait()
            except TimeoutError:
                pass

    async def purge_due(self) -> int:
        """Purges one batch of what is due; returns how many runs it held. Raises DomainError where a step cannot go on."""
        config = self._config
        purges = await self._runs.transact(
            lambda tx: deletions.begin_purges(
                tx,
                now_unix_ns=self._clock.now_unix_ns(),
                lease_ns=round(config.lease_s * 1e9),
                limit=config.batch_count_max,
            )
        )
        if not purges:
            return 0
        self._held = {purge.run_key: purge for purge in purges}
        renewing = asyncio.create_task(self._renew_lease())
        try:
            for step in (self._purge_files, self._purge_points, self._purge_index):
                purges = await step(purges)
            for purge in purges:
                await self._leave_tombstone(purge)
        except DomainError as error:
            await self._tell_trouble(list(self._held.values()), error.message)
            raise
        finally:
            self._held = {}
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
        return len(purges)

    async def _renew_lease(self) -> None:
        """Keeps what is held from other processes until cancelled; a database that is away now is asked again."""
        lease_s = self._config.lease_s
        while True:
            await asyncio.sleep(lease_s / 3)
            try:
                await self._write([], lease_s=lease_s)
            except DomainError as error:
                log.warning("purge_lease_not_renewed", extra={"fields": {"message": error.message}})

    async def sweep_due(self) -> None:
        """Looks once more at runs purged a while ago: a batch, or a document for the index, that was on its way may have come after."""
        before = self._clock.now_unix_ns() - round(self._config.sweep_delay_s * 1e9)
        limit = self._config.batch_count_max
        purges = await self._runs.transact(
            lambda tx: tx.list_unswept_purges(deleted_before_unix_ns=before, limit=limit)
        )
        if not purges:
            return
        keys = [purge.run_key for purge in purges]
        await self._data.purge_points(keys)
        await self._data.purge_files(keys)
        await self._index.purge_runs(keys)
        await self._save([replace(purge, step=PurgeStep.SWEPT) for purge in purges])

    async def _purge_files(self, purges: list[Purge]) -> list[Purge]:
        todo = [purge for purge in purges if purge.step < PurgeStep.FILES_GONE]
        if not todo:
            return purges
        freed = await self._data.purge_files([purge.run_key for purge in todo])
        done = {
            purge.run_key: _with(purge, PurgeStep.FILES_GONE, one)
            for purge, one in zip(todo, freed, strict=True)
        }
        return await self._save([done.get(purge.run_key, purge) for purge in purges])

    async def _purge_points(self, purges: list[Purge]) -> list[Purge]:
        todo = [purge for purge in purges if purge.step < PurgeStep.POINTS_GONE]
        if not todo:
            return purges
        tables = await self._data.purge_points([purge.run_key for purge in todo])
        done = {
            purge.run_key: _with(
                purge, PurgeStep.POINTS_GONE, _share(tables, position, store="clickhouse")
            )
            for position, purge in enumerate(todo)
        }
        return await self._save([done.get(purge.run_key, purge) for purge in purges])

    async def _purge_index(self, purges: list[Purge]) -> list[Purge]:
        todo = [purge for purge in purges if purge.step < PurgeStep.INDEX_GONE]
        if not todo:
            return purges
        tables = await self._index.purge_runs([purge.run_key for purge in todo])
        done = {
            purge.run_key: _with(
                purge, PurgeStep.INDEX_GONE, _share(tables, position, store="clickhouse")
            )
            for position, purge in enumerate(todo)
        }
        return await self._save([done.get(purge.run_key, purge) for purge in purges])

    async def _leave_tombstone(self, purge: Purge) -> None:
        now = self._clock.now_unix_ns()
        async with self._writing:
            done = await self._runs.transact(
                lambda tx: deletions.leave_tombstone(tx, purge, now_unix_ns=now)
            )
            self._held.pop(purge.run_key, None)
        RUNS_PURGED.inc()
        fields = {
            "run": done.path,
            "rows": sum(store.rows for store in done.stores),
            "objects": sum(store.objects for store in done.stores),
            "bytes": sum(store.bytes for store in done.stores),
        }
        log.info("run_purged", extra={"fields": fields})

    async def _tell_trouble(self, purges: list[Purge], message: str) -> None:
        """Shows what holds the purges up, and gives them free for another try."""
        told = [replace(purge, trouble=message[:500]) for purge in purges]
        await self._write(told, lease_s=self._config.retry_pause_s)
        self._held = {}

    async def _save(self, purges: list[Purge]) -> list[Purge]:
        await self._write(purges)
        return purges

    async def _write(self, purges: Sequence[Purge], *, lease_s: float | None = None) -> None:
        """Saves purges, and with `lease_s` keeps them, or all that are held, for so long; one write at a time."""
        async with self._writing:
            saved = list(purges) or list(self._held.values())
            lease_end = None
            if lease_s is not None:
                lease_end = self._clock.now_unix_ns() + round(lease_s * 1e9)

            def act(tx: RunTransaction) -> None:
                for purge in saved:
                    tx.save_purge(purge, lease_end_unix_ns=lease_end)

            await self._runs.transact(act)
            for purge in saved:
                if purge.run_key in self._held:
                    self._held[purge.run_key] = purge


def _with(purge: Purge, step: PurgeStep, freed: StoreFreed) -> Purge:
    """Returns the purge one step on; what was freed is added to what its receipt says of that store."""
    stores = {store.store: store for store in purge.stores}
    before = stores.get(freed.store, StoreFreed(freed.store))
    stores[freed.store] = StoreFreed(
        freed.store,
        rows=before.rows + freed.rows,
        objects=before.objects + freed.objects,
        bytes=before.bytes + freed.bytes,
    )
    return replace(purge, step=step, stores=tuple(stores.values()), trouble="")


def _share(tables: Sequence[TablePurge], position: int, *, store: str) -> StoreFreed:
    """Returns one run's part of what was freed: its rows, and of the bytes of each table as much as of its rows."""
    rows = sum(table.rows[position] for table in tables)
    bytes_ = sum(
        table.bytes * table.rows[position] // total
        for table in tables
        if (total := sum(table.rows))
    )
    return StoreFreed(store, rows=rows, bytes=bytes_)
