"""Deleted runs: trash, restore, purge; and a purge that is broken off anywhere still tells the truth."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from runyard_server.domain.errors import (
    DomainError,
    FailedPrecondition,
    InvalidArgument,
    Unavailable,
)
from runyard_server.domain.events import RunEventKind
from runyard_server.domain.projects import ProjectSettings
from runyard_server.domain.purges import Purge, PurgeStep, StoreFreed, TablePurge
from runyard_server.domain.run import ForkPoint, RunKey, RunState
from runyard_server.metadata.deletions import Refusal
from runyard_server.metadata.project_settings import ProjectEdit
from runyard_server.metadata.purger import Purger, PurgerConfig
from runyard_server.metadata.starts import StartedRun
from runyard_server.metadata.trash import TRASH_WINDOW_DEFAULT_S
from runyard_server.storage.ports.run_store import RunStore
from tests.simulation import loop as virtual
from tests.unit.metadata.desk import Desk

NS = 10**9


async def ended(desk: Desk, run_id: str, **wishes: object) -> StartedRun:
    started = await desk.start(run_id, **wishes)
    await desk.finish(started)
    return started


async def delete(desk: Desk, *paths: str, is_now: bool = False) -> list[Purge | Refusal]:
    return await desk.service.trash.delete_runs(paths, is_now=is_now, requested_by="ann")


async def run_count(desk: Desk) -> int:
    return (await desk.service.get_project("local/p")).run_count


async def test_a_deleted_run_is_gone_and_can_be_had_back() -> None:
    """Deleted, its path answers RUN_DELETED and the project counts one less; restored, it is as it was, with both events."""
    desk = Desk()
    run = await ended(desk, "x", config_json='{"a":1}', tags=("t",))
    before = await desk.read(run)
    (purge,) = await delete(desk, before.path)
    assert isinstance(purge, Purge)
    assert (purge.step, purge.deleted_by) == (PurgeStep.IN_TRASH, "ann")
    assert purge.due_time_unix_ns - purge.delete_time_unix_ns == TRASH_WINDOW_DEFAULT_S * NS
    for call in (desk.read(run), desk.start("x")):
        with pytest.raises(FailedPrecondition) as refused:
            await call
        assert refused.value.reason == "RUN_DELETED"
    assert await run_count(desk) == 0
    again, refusals = await desk.service.trash.restore_runs([before.path], requested_by="bob")
    assert ([before.path], []) == (again, refusals)
    after = await desk.read(run)
    kept = (before.config_json, before.tags, before.state, before.attempt_count)
    assert kept == (after.config_json, after.tags, after.state, after.attempt_count)
    assert await run_count(desk) == 1
    events, _ = await desk.service.list_events(before.path, page_size=0, page_token="")
    assert [(event.kind, event.actor) for event in events[-2:]] == [
        (RunEventKind.DELETED, "ann"),
        (RunEventKind.RESTORED, "bob"),
    ]


async def test_what_cannot_be_deleted_is_named_and_the_rest_is_deleted() -> None:
    """Live runs, runs with forks and unknown ones are refused one by one, with what to do; others go."""
    desk = Desk()
    live = await desk.start("live")
    parent = await ended(desk, "parent")
    fork = ForkPoint(parent.run.path, parent.run.run_key, 3)
    await ended(desk, "child", fork=fork)
    fine = await ended(desk, "fine")
    results = await delete(desk, live.run.path, parent.run.path, "local/p/none", fine.run.path)
    assert [one.reason for one in results if isinstance(one, Refusal)] == [
        "RUN_IS_LIVE",
        "RUN_HAS_FORKS",
        "RUN_NOT_FOUND",
    ]
    assert "local/p/child" in next(
        one.message for one in results if isinstance(one, Refusal) and "FORKS" in one.reason
    )
    assert [fine.run.path] == [one.path for one in results if isinstance(one, Purge)]
    for paths in ((), tuple(f"local/p/r{n}" for n in range(1_001))):
        with pytest.raises(InvalidArgument):
            await delete(desk, *paths)


async def test_a_fork_comes_back_after_its_parent_only() -> None:
    """With parent and fork in the trash, the fork cannot be restored before its parent."""
    desk = Desk()
    parent = await ended(desk, "parent")
    fork = ForkPoint(parent.run.path, parent.run.run_key, 3)
    child = await ended(desk, "child", fork=fork)
    await delete(desk, child.run.path)
    await delete(desk, parent.run.path)
    trash = desk.service.trash
    _, refusals = await trash.restore_runs([child.run.path], requested_by="")
    assert "restore that one first" in refusals[0].message
    _, refusals = await trash.restore_runs([parent.run.path, child.run.path], requested_by="")
    assert refusals == []


async def test_a_second_delete_changes_nothing_unless_it_is_for_now() -> None:
    """The purge keeps its time and author; `is_now` brings it forward."""
    desk = Desk()
    run = await ended(desk, "x")
    (first,) = await delete(desk, run.run.path)
    desk.clock.advance(60.0)
    assert [first] == await delete(desk, run.run.path)
    (hurried,) = await delete(desk, run.run.path, is_now=True)
    assert isinstance(hurried, Purge)
    assert desk.clock.now_unix_ns() == hurried.due_time_unix_ns


async def test_the_project_says_how_long_the_trash_keeps() -> None:
    """A project's own trash window holds for its runs."""
    desk = Desk()
    run = await ended(desk, "x")
    edit = ProjectEdit(
        "local/p", frozenset({"settings"}), "", ProjectSettings(trash_window_s=3600.0)
    )
    await desk.service.update_project(edit)
    (purge,) = await delete(desk, run.run.path)
    assert isinstance(purge, Purge)
    assert purge.due_time_unix_ns - purge.delete_time_unix_ns == 3600 * NS


async def test_deleted_runs_are_listed_page_by_page() -> None:
    """Latest deletion first, by project, entity, or all."""
    desk = Desk()
    for name in ("a", "b", "c"):
        await ended(desk, name)
        await delete(desk, f"local/p/{name}")
        desk.clock.advance(1.0)
    seen, token = [], ""
    while True:
        page, token = await desk.service.trash.list_deleted_runs(
            "local/p", is_with_purged=False, page_size=1, page_token=token
        )
        seen += [purge.path for purge in page]
        if not token:
            break
    assert seen == ["local/p/c", "local/p/b", "local/p/a"]
    for scope, count in (("local", 3), ("", 3), ("local/other", 0), ("ann", 0)):
        page, _ = await desk.service.trash.list_deleted_runs(
            scope, is_with_purged=True, page_size=0, page_token=""
        )
        assert count == len(page)


class Stores:
    """Stands for ingest, files and the index: each run has so many rows and files, told the same however often it is asked."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fail_at = -1
        self.removed: set[tuple[str, RunKey]] = set()

    async def purge_points(self, run_keys: Sequence[RunKey]) -> list[TablePurge]:
        self._note("points", run_keys)
        return [TablePurge("points", tuple(10 for _ in run_keys), 100 * len(run_keys))]

    async def purge_files(self, run_keys: Sequence[RunKey]) -> list[StoreFreed]:
        self._note("files", run_keys)
        return [StoreFreed("objects", rows=2, objects=1, bytes=1_000) for _ in run_keys]

    async def purge_runs(self, run_keys: Sequence[RunKey]) -> list[TablePurge]:
        self._note("index", run_keys)
        return [TablePurge("runs", tuple(1 for _ in run_keys), 5 * len(run_keys))]

    def _note(self, what: str, run_keys: Sequence[RunKey]) -> None:
        self.calls.append(what)
        if len(self.calls) - 1 == self.fail_at:
            raise Unavailable("STORE_UNAVAILABLE", f"{what} does not answer")
        self.removed.update((what, key) for key in run_keys)


class Dying:
    """A run store that dies at one of its transactions: before it, or after it but before its answer."""

    def __init__(self, store: RunStore, *, at: int, after: bool) -> None:
        self._store = store
        self._count = 0
        self._at = at
        self._after = after

    async def transact(self, action):  # type: ignore[no-untyped-def]  # as RunStore
        self._count += 1
        if self._count == self._at and not self._after:
            raise KilledHere
        result = await self._store.transact(action)
        if self._count == self._at:
            raise KilledHere
        return result


class KilledHere(BaseException):
    """The process is gone at this point."""


def purger(desk: Desk, stores: Stores, store: RunStore | None = None) -> Purger:
    return Purger(
        PurgerConfig(),
        runs=store or desk.runs,
        index=stores,
        data=stores,
        clock=desk.clock,
    )


async def receipts(desk: Desk) -> list[Purge]:
    page, _ = await desk.service.trash.list_deleted_runs(
        "", is_with_purged=True, page_size=0, page_token=""
    )
    return page


async def test_a_purge_goes_over_all_stores_and_leaves_a_receipt_and_a_tombstone() -> None:
    """Files, points, index and SQL in this order; the receipt adds up by store; the id stays taken, and nothing is restored."""
    desk = Desk()
    run = await ended(desk, "x", config_json='{"secret":"word"}', notes="long notes")
    await ended(desk, "other")
    await delete(desk, run.run.path, is_now=True)
    stores = Stores()
    assert await purger(desk, stores).purge_due() == 1
    assert stores.calls == ["files", "points", "index"]
    (done,) = await receipts(desk)
    assert (done.step, done.trouble) == (PurgeStep.PURGED, "")
    by_store = {one.store: one for one in done.stores}
    assert StoreFreed("objects", 2, 1, 1_000) == by_store["objects"]
    assert StoreFreed("clickhouse", 11, 0, 105) == by_store["clickhouse"]
    assert by_store["sql"].rows >= 3
    assert by_store["sql"].bytes > 10
    with pytest.raises(FailedPrecondition, match="can never be used again"):
        await desk.start("x")
    _, refusals = await desk.service.trash.restore_runs([run.run.path], requested_by="")
    assert [one.reason for one in refusals] == ["RUN_PURGED"]
    kept = await desk.runs.transact(
        lambda tx: tx.find_run_by_key(run.run.run_key, will_change=False)
    )
    assert kept is not None
    assert (kept.config_json, kept.notes, kept.state) == ("{}", "", RunState.FINISHED)


async def test_what_is_not_due_is_not_touched() -> None:
    """A run in the trash is purged when its window is over, not before."""
    desk = Desk()
    run = await ended(desk, "x")
    await delete(desk, run.run.path)
    stores = Stores()
    assert await purger(desk, stores).purge_due() == 0
    desk.clock.advance(TRASH_WINDOW_DEFAULT_S)
    assert await purger(desk, stores).purge_due() == 1


@pytest.mark.parametrize("fail_at", [0, 1, 2])
async def test_a_store_that_is_away_holds_the_purge_up_and_is_named(fail_at: int) -> None:
    """The receipt says what holds it up; it goes on later where it stopped, and counts nothing twice."""
    desk = Desk()
    run = await ended(desk, "x")
    await delete(desk, run.run.path, is_now=True)
    stores = Stores()
    stores.fail_at = fail_at
    with pytest.raises(DomainError):
        await purger(desk, stores).purge_due()
    (held,) = await receipts(desk)
    assert "does not answer" in held.trouble
    _, refusals = await desk.service.trash.restore_runs([run.run.path], requested_by="")
    assert [one.reason for one in refusals] == ["RUN_PURGED"]
    assert await purger(desk, stores).purge_due() == 0
    desk.clock.advance(PurgerConfig().retry_pause_s)
    assert await purger(desk, stores).purge_due() == 1
    (done,) = await receipts(desk)
    assert {
        one.store: (one.rows, one.objects, one.bytes) for one in done.stores if one.store != "sql"
    } == {"objects": (2, 1, 1_000), "clickhouse": (11, 0, 105)}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", [1, 2, 3, 4, 5, 6])
async def test_a_purge_that_is_killed_anywhere_completes_with_a_true_receipt(
    at: int, after: bool
) -> None:
    """Killed before or after any of its transactions: the next purger ends it, each store is emptied, nothing counts twice."""
    desk = Desk()
    runs = [await ended(desk, name) for name in ("x", "y")]
    await delete(desk, *(run.run.path for run in runs), is_now=True)
    stores = Stores()
    try:
        await purger(desk, stores, Dying(desk.runs, at=at, after=after)).purge_due()
    except KilledHere:
        pass
    desk.clock.advance(PurgerConfig().lease_s)
    while await purger(desk, stores).purge_due():
        pass
    for done in await receipts(desk):
        assert PurgeStep.PURGED is done.step
        assert {
            one.store: (one.rows, one.objects, one.bytes)
            for one in done.stores
            if one.store != "sql"
        } == {"objects": (2, 1, 1_000), "clickhouse": (11, 0, 105)}
    keys = [run.run.run_key for run in runs]
    assert stores.removed == {(w, key) for w in ("files", "points", "index") for key in keys}


def test_a_step_longer_than_the_lease_is_left_alone() -> None:
    """While a process lives it keeps its batch, however long a step takes; its death frees it within one lease."""

    async def main() -> None:
        desk = Desk()
        run = await ended(desk, "x")
        await delete(desk, run.run.path, is_now=True)
        lease_s = PurgerConfig().lease_s
        others = purger(desk, Stores())

        class Slow(Stores):
            async def purge_points(self, run_keys: Sequence[RunKey]) -> list[TablePurge]:
                for _ in range(12):
                    desk.clock.advance(lease_s / 3)
                    await asyncio.sleep(lease_s / 3 + 0.01)
                    assert await others.purge_due() == 0
                return await super().purge_points(run_keys)

        assert await purger(desk, Slow()).purge_due() == 1
        assert await others.purge_due() == 0
        (done,) = await receipts(desk)
        assert done.step is PurgeStep.PURGED

    virtual.run(main())


async def test_a_purged_run_is_looked_at_once_more() -> None:
    """What was on its way at the deletion is removed a while later, once."""
    desk = Desk()
    run = await ended(desk, "x")
    await delete(desk, run.run.path, is_now=True)
    stores = Stores()
    one = purger(desk, stores)
    await one.purge_due()
    await one.sweep_due()
    assert len(stores.calls) == 3
    desk.clock.advance(PurgerConfig().sweep_delay_s + 1.0)
    await one.sweep_due()
    await one.sweep_due()
    assert stores.calls[3:] == ["points", "files", "index"]
