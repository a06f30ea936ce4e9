"""Many writers and deleters of artifacts at once on a real database: no version ever lacks its bytes, nothing is left over."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable

import pytest
from sqlalchemy import event

from runyard_server.domain.artifacts import Labels
from runyard_server.domain.errors import DomainError
from runyard_server.domain.manifests import cut_manifest, merge_lines
from runyard_server.domain.run import RunKey
from runyard_server.files.service import FilesConfig
from runyard_server.storage.sql.artifacts import SqlArtifactStore
from runyard_server.storage.sql.database import Database
from tests.contract.artifact_store import PROJECT, audit, draft_of, name_of, send
from tests.unit.files.artifact_desk import ArtifactDesk, Logged, make_entries
from tests.unit.files.desk import PATH

WRITER_COUNT = 6
STEP_COUNT = 12
SEEDS = range(3)
NAMES = ("net", "data")
CONTENTS = [f"content {n}".encode() * (n + 1) for n in range(6)]
# What a writer may meet while others delete: each is an answer, none is a loss.
MET = {"CONTENT_MISSING", "UPLOAD_NOT_FOUND", "ARTIFACT_NOT_FOUND", "ARTIFACT_HAS_ALIASES"}


class Crowd:
    """Writers, deleters and a purge over one store."""

    def __init__(self, database: Database, seed: int) -> None:
        self.desk = ArtifactDesk(
            FilesConfig(upload_age_max_s=500, draft_age_max_s=500),
            artifacts=SqlArtifactStore(database),
        )
        self.database = database
        self.chance = random.Random(seed)
        self.made: list[tuple[str, int]] = []

    async def work(self) -> None:
        for _ in range(STEP_COUNT):
            step = self.chance.choices(
                (self.log, self.abandon, self.delete, self.purge, self.wait), (6, 1, 3, 1, 1)
            )[0]
            try:
                await step()
            except DomainError as error:
                assert error.reason in MET, error.message

    def files(self) -> dict[str, bytes]:
        count = self.chance.randrange(0, 4)
        return {f"f{self.chance.randrange(5)}": self.chance.choice(CONTENTS) for _ in range(count)}

    async def log(self) -> None:
        name = self.chance.choice(NAMES)
        logged: Logged = await self.desk.log(
            name,
            self.files(),
            aliases=self.chance.choice(((), ("best",))),
            ttl_s=self.chance.choice((0, 50)),
        )
        if not logged.is_unchanged:
            self.made.append((name, logged.version.number))

    async def abandon(self) -> None:
        """Begins, adds, and sends in part; as a process does that is killed."""
        entries = make_entries(self.files())
        draft = await self.desk.begin(self.chance.choice(NAMES), entries)
        await self.desk.add(draft.draft_id, entries)
        contents = [
            one
            for one in CONTENTS
            if hashlib.sha256(one).digest() in {entry.sha256 for entry in entries}
        ]
        await self.desk.upload(draft.draft_id, contents[:1])

    async def delete(self) -> None:
        paths = [
            f"local/p/{self.chance.choice(NAMES)}:v{n}" for n in self.chance.sample(range(25), 5)
        ]
        await self.desk.service.artifacts.delete(paths, "", with_aliases=self.chance.random() < 0.8)

    async def purge(self) -> None:
        await self.desk.service.artifact_purge.purge()

    async def wait(self) -> None:
        self.desk.clock.advance(self.chance.randrange(1, 60))

    async def check(self) -> None:
        """Raises AssertionError unless every version has all its bytes and the counts are right."""
        await audit(self.database)
        for name in NAMES:
            found, _ = await self.desk.artifacts.list_versions(name_of(name), before=None, limit=99)
            for version in found:
                await self.desk.load_artifact(version.path)


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_crowd_loses_nothing_and_leaves_nothing(seed: int, database: Database) -> None:
    """Versions that are there have their bytes, numbers are given once, and what is deleted is freed to the last byte."""
    crowd = Crowd(database, seed)
    async with asyncio.timeout(120):
        await asyncio.gather(*(crowd.work() for _ in range(WRITER_COUNT)))
    await crowd.check()
    assert len(crowd.made) == len(set(crowd.made)), "a number was given twice"
    for name in NAMES:
        if await crowd.desk.artifacts.has_artifact(name_of(name)):
            await crowd.desk.service.artifacts.delete([], f"local/p/{name}", with_aliases=True)
    crowd.desk.clock.advance(1_000)
    await crowd.purge()
    await audit(database)
    assert await crowd.desk.stored_bytes() == []
    assert await crowd.desk.artifacts.list_drafts(used_before_unix_ns=2**62, limit=9) == []


async def test_writers_of_one_name_get_numbers_of_their_own(database: Database) -> None:
    """Two writers that commit the same name at once get different versions, or the same one for the same entries."""
    desk = ArtifactDesk(artifacts=SqlArtifactStore(database))
    asks = [{"a": CONTENTS[n % 3], "b": b"shared"} for n in range(9)]
    async with asyncio.timeout(60):
        logged = await asyncio.gather(*(desk.log("net", files) for files in asks))
    numbers = {one.version.digest: one.version.number for one in logged}
    assert sorted(numbers.values()) == [0, 1, 2]
    assert all(one.version.number == numbers[one.version.digest] for one in logged)
    assert sum(not one.is_unchanged for one in logged) == 3
    await desk.service.artifact_purge.purge()
    assert await desk.stored_bytes() == sorted([*CONTENTS[:3], b"shared"])
    latest = await desk.service.artifacts.get("local/p/net")
    versions = await desk.service.artifacts.list_versions("local/p/net", page_size=0, page_token="")
    assert sum("latest" in version.aliases for version in versions.rows) == 1
    assert latest in versions.rows


async def test_repeats_at_once_commit_once(database: Database) -> None:
    """A commit that is sent again while the first one runs gets the same version."""
    desk = ArtifactDesk(artifacts=SqlArtifactStore(database))
    entries = make_entries({"a": b"1"})
    drafts = await asyncio.gather(
        *(desk.begin("net", entries, request_id="same") for _ in range(6))
    )
    assert len({draft.draft_id for draft in drafts}) == 1
    await asyncio.gather(*(desk.add(draft.draft_id, entries) for draft in drafts))
    await desk.upload(drafts[0].draft_id, [b"1"])
    commit = desk.service.drafts.commit
    async with asyncio.timeout(60):
        done = await asyncio.gather(
            *(commit(draft.draft_id, aliases=["x"], tags=[], ttl_s=0) for draft in drafts)
        )
    assert {(version.number, is_unchanged) for version, is_unchanged in done} == {(0, False)}
    await audit(database)


async def test_a_claim_holds_against_a_deletion(database: Database) -> None:
    """A draft that was told that a content is there keeps it, whenever the version that held it is deleted."""
    desk = ArtifactDesk(artifacts=SqlArtifactStore(database))
    for round in range(8):
        old = await desk.log("old", {"a": b"kept", "b": b"%d" % round})
        entries = make_entries({"a": b"kept", "c": b"new %d" % round})
        draft = await desk.begin("net", entries)

        async def claim() -> set[str]:
            return {entry.path for entry in await desk.add(draft.draft_id, entries)}  # noqa: B023  # awaited in this round

        missing, _ = await asyncio.gather(
            claim(), desk.service.artifacts.delete([old.version.path], "", with_aliases=True)
        )
        sizes = {"a": b"kept", "c": b"new %d" % round}
        await desk.upload(draft.draft_id, [sizes[path] for path in sorted(missing)])
        version, _ = await desk.service.drafts.commit(draft.draft_id, aliases=[], tags=[], ttl_s=0)
        assert await desk.load_artifact(version.path) == sizes
        await desk.service.artifacts.delete([version.path], "", with_aliases=True)
    await audit(database)
    assert await desk.stored_bytes() == []


async def test_an_alias_is_always_somewhere(database: Database) -> None:
    """Whoever reads while an alias moves finds it at the one or the other version."""
    desk = ArtifactDesk(artifacts=SqlArtifactStore(database))
    for number in range(2):
        await desk.log("net", {"a": b"%d" % number}, aliases=["best"])
    stopped = asyncio.Event()

    async def read() -> set[int]:
        found = set()
        while not stopped.is_set():
            found.add((await desk.service.artifacts.get("local/p/net:best")).number)
        return found

    async def move() -> None:
        for number in range(30):
            await desk.log("net", {"a": b"%d" % (number % 2)}, aliases=["best"])
        stopped.set()

    async with asyncio.timeout(60):
        found, _ = await asyncio.gather(read(), move())
    assert found == {0, 1}


async def test_a_used_version_is_linked_or_gone(database: Database) -> None:
    """A link that is made while its version is deleted goes with it, or tells that it is gone."""
    desk = ArtifactDesk(artifacts=SqlArtifactStore(database))
    for round in range(6):
        made = await desk.log("net", {"a": b"%d" % round})
        _, *used = await asyncio.gather(
            desk.service.artifacts.delete([made.version.path], "", with_aliases=True),
            *(desk.service.artifacts.use(PATH, made.version.path) for _ in range(3)),
            return_exceptions=True,
        )
        for one in used:
            if isinstance(one, BaseException):
                assert isinstance(one, DomainError) and one.reason == "ARTIFACT_NOT_FOUND"
    assert await desk.artifacts.list_links(run_keys=[RunKey(5)], version_ids=[], limit=9) == []
    await audit(database)


class Killed(Exception):
    """Stands for the death of the process."""


async def test_a_commit_that_dies_leaves_the_draft(database: Database) -> None:
    """Killed at any statement of a commit, nothing is visible and nothing is counted; the repeat commits."""
    store = SqlArtifactStore(database)
    files = {f"f{n}": f"content {n % 3}" for n in range(200)}
    draft = await store.create_draft(draft_of("d1", "net", files))
    await send(store, draft, files)
    held = await store.read_entries("d1")
    manifest = cut_manifest(merge_lines(held.batches))
    statement_count = 0
    while True:
        live = _die_after(database, statement_count)
        try:
            done = await store.commit_draft(
                "d1", Labels(("x",)), manifest=manifest, revision=held.revision, time_unix_ns=9
            )
            break
        except Killed:
            statement_count += 1
        finally:
            live()
        found = await store.list_artifacts(
            PROJECT, type="", name_contains="", after_name="", limit=9
        )
        assert found == ([], 0)
        await audit(database)
    assert statement_count > 10
    assert done is not None
    assert (done[0].number, done[0].entry_count) == (0, 200)
    await audit(database)


def _die_after(database: Database, statement_count: int) -> Callable[[], None]:
    """Lets the next transaction die after that many statements; returns what ends that."""
    executed = 0

    def count(*_: object) -> None:
        nonlocal executed
        executed += 1
        if executed > statement_count:
            raise Killed

    event.listen(database.engine, "before_cursor_execute", count)
    return lambda: event.remove(database.engine, "before_cursor_execute", count)
