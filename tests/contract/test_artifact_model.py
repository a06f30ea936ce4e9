"""ArtifactStore: drawn stories are told to memory and to SQL at once, and both answer the same to every step."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from runyard_server.domain.artifacts import (
    ArtifactVersion,
    Deletion,
    Draft,
    Labels,
    LinkKind,
    VersionChange,
    VersionName,
)
from runyard_server.domain.errors import DomainError
from runyard_server.domain.manifests import cut_manifest, merge_lines
from runyard_server.domain.run import RunKey
from runyard_server.storage.memory.artifacts import MemoryArtifactStore
from runyard_server.storage.ports.artifacts import ArtifactStore
from runyard_server.storage.sql.artifacts import SqlArtifactStore
from runyard_server.storage.sql.database import Database
from tests.contract.artifact_store import (
    audit,
    batch_of,
    content_of,
    draft_of,
    name_of,
    upload_of,
)

SEEDS = range(6)
STEP_COUNT = 80
PROJECTS = ("local/p", "local/q")
NAMES = ("net", "data")
ALIASES = ("best", "prod", "old")
TAGS = ("s", "t", "u")


class Story:
    """One drawn story."""

    def __init__(self, seed: int, database: Database) -> None:
        self.chance = random.Random(seed)
        self.stores: list[ArtifactStore] = [MemoryArtifactStore(), SqlArtifactStore(database)]
        self.drafts: dict[str, tuple[Draft, dict[str, str]]] = {}
        self.uploads: list[str] = []
        self.time = 1_000

    async def both(self, call: Callable[[ArtifactStore], Awaitable[Any]]) -> Any:
        """Returns what both stores answer; raises AssertionError if they differ."""
        memory, sql = [await outcome(call(store)) for store in self.stores]
        assert plain(memory) == plain(sql)
        return memory

    async def step(self) -> None:
        self.time += self.chance.randrange(1, 20)
        steps: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (4, self.begin),
            (6, self.add),
            (6, self.send),
            (6, self.commit),
            (3, self.delete),
            (2, self.change),
            (1, self.expire),
            (1, self.forget_drafts),
            (1, self.forget_uploads),
            (1, self.use),
            (1, self.purge_run),
            (1, self.confirm),
        ]
        weights, actions = zip(*steps, strict=True)
        await self.chance.choices(actions, weights)[0]()
        await self.compare()

    def files(self) -> dict[str, str]:
        """Draws a set of a few entries out of few contents."""
        count = self.chance.randrange(0, 5)
        folders = self.chance.choices(("a", "b", "c/d"), k=count)
        return {
            f"{folder}/{self.chance.randrange(3)}": self.chance.choice(
                ("one", "two", "three", "four", "s3://b/k")
            )
            for folder in folders
        }

    def draft(self) -> tuple[Draft, dict[str, str]] | None:
        return self.chance.choice(list(self.drafts.values())) if self.drafts else None

    async def begin(self) -> None:
        files = self.files()
        draft = draft_of(
            f"d{len(self.drafts)}",
            self.chance.choice(NAMES),
            files,
            run_key=RunKey(self.chance.randrange(1, 4)),
            time=self.time,
            type=self.chance.choice(("model", "model", "dataset")),
            project=self.chance.choice(PROJECTS),
        )
        found = await self.both(lambda store: store.create_draft(draft))
        if isinstance(found, Draft):
            self.drafts[found.draft_id] = (draft, files)

    async def add(self) -> None:
        if (drawn := self.draft()) is None:
            return
        draft, files = drawn
        part = dict(self.chance.sample(sorted(files.items()), self.chance.randint(0, len(files))))
        if self.chance.random() < 0.1:
            part["a/1"] = "wrong"
        batch = batch_of(part)
        await self.both(
            lambda s: s.add_entries(draft.draft_id, batch, entries_max=12, time_unix_ns=self.time)
        )

    async def send(self) -> None:
        if (drawn := self.draft()) is None:
            return
        draft, files = drawn
        ids = [content_of(text) for text in files.values()]
        project = draft.artifact.project_path
        known = await self.both(lambda s: s.find_contents(project, ids))
        await self.both(lambda s: s.find_open_uploads(draft.draft_id, ids))
        texts = {text for text in files.values() if content_of(text) in known}
        if not texts:
            return
        uploads = []
        for text in sorted(texts):
            upload = upload_of(draft, text, number=len(self.uploads), time=self.time)
            self.uploads.append(upload.upload_id)
            uploads.append(upload)
        await self.both(lambda s: s.insert_uploads(uploads))
        chosen = self.chance.sample(self.uploads, min(3, len(self.uploads)))
        chosen += [upload.upload_id for upload in uploads if self.chance.random() < 0.8]
        await self.both(lambda s: s.complete_uploads(chosen, time_unix_ns=self.time))

    async def commit(self) -> None:
        if (drawn := self.draft()) is None:
            return
        draft, _ = drawn
        labels = Labels(
            tuple(self.chance.sample(ALIASES, self.chance.randrange(3))),
            tuple(self.chance.sample(TAGS, self.chance.randrange(3))),
            self.chance.choice((None, self.time + 100)),
        )

        async def commit(store: ArtifactStore) -> Any:
            held = await store.read_entries(draft.draft_id)
            manifest = cut_manifest(merge_lines(held.batches))
            found = await store.find_draft(draft.draft_id)
            is_needed = found is not None and not found.is_present and found.version is None
            if is_needed and manifest.digest != draft.digest:
                return "other entries"
            return await store.commit_draft(
                draft.draft_id,
                labels,
                manifest=manifest if is_needed else None,
                revision=held.revision,
                time_unix_ns=self.time,
            )

        await self.both(commit)

    async def delete(self) -> None:
        artifact = name_of(self.chance.choice(NAMES), self.chance.choice(PROJECTS))
        numbers = self.chance.sample(range(6), self.chance.randrange(1, 4))
        with_aliases = self.chance.random() < 0.5
        await self.both(lambda s: s.delete_versions(artifact, numbers, with_aliases=with_aliases))

    async def change(self) -> None:
        artifact = name_of(self.chance.choice(NAMES), self.chance.choice(PROJECTS))
        name = VersionName(artifact, self.chance.choice((None, 0, 1, 2)))
        change = VersionChange(
            self.time,
            add_aliases=tuple(self.chance.sample(ALIASES, 1)),
            remove_aliases=tuple(self.chance.sample(ALIASES, 1)),
            add_tags=tuple(self.chance.sample(TAGS, 1)),
            remove_tags=tuple(self.chance.sample(TAGS, 1)),
            is_expiry_set=self.chance.random() < 0.5,
            expire_time_unix_ns=self.time + 50,
        )
        await self.both(lambda s: s.update_version(name, change))

    async def expire(self) -> None:
        found = await self.both(lambda s: s.list_expired(expired_by_unix_ns=self.time, limit=9))
        for artifact, number in found:
            await self.both(
                lambda s, a=artifact, n=number: s.delete_versions(  # type: ignore[misc]  # default arguments
                    a, [n], with_aliases=False, expired_by_unix_ns=self.time
                )
            )

    async def forget_drafts(self) -> None:
        before = self.time - 300
        for draft in await self.both(lambda s: s.list_drafts(used_before_unix_ns=before, limit=9)):
            await self.both(
                lambda s, d=draft.draft_id: s.delete_draft(d, used_before_unix_ns=before)  # type: ignore[misc]  # a default argument
            )

    async def forget_uploads(self) -> None:
        for upload_id in self.chance.sample(self.uploads, min(2, len(self.uploads))):
            await self.both(lambda s, u=upload_id: s.delete_upload(u))  # type: ignore[misc]  # a default argument

    async def use(self) -> None:
        artifact = name_of(self.chance.choice(NAMES), self.chance.choice(PROJECTS))
        run_key = RunKey(self.chance.randrange(1, 4))
        alias = self.chance.choice(("latest", *ALIASES))
        await self.both(
            lambda s: s.link_run(
                VersionName(artifact, alias=alias),
                run_key=run_key,
                run_path="p",
                kind=LinkKind.USED,
                time_unix_ns=self.time,
            )
        )

    async def purge_run(self) -> None:
        if self.chance.random() < 0.3:
            run_key = RunKey(self.chance.randrange(1, 4))
            await self.both(lambda s: s.purge_run(run_key))

    async def confirm(self) -> None:
        released = await self.both(all_released)
        await self.both(lambda s: s.confirm_released([key for key, _ in released[:2]]))

    async def compare(self) -> None:
        """Raises AssertionError unless both stores show the same."""
        await self.both(all_released)
        for project in PROJECTS:
            await self.both(
                lambda s, p=project: s.list_artifacts(  # type: ignore[misc]  # a default argument
                    p, type="", name_contains="", after_name="", limit=9
                )
            )
            for name in NAMES:
                await self.both(lambda s, p=project, n=name: read_artifact(s, n, p))  # type: ignore[misc]  # default arguments


async def all_released(store: ArtifactStore) -> list[tuple[str, int]]:
    released = await store.list_released(limit=1_000)
    return sorted((item.object_key, item.size_bytes) for item in released)


async def read_artifact(store: ArtifactStore, name: str, project: str) -> list[Any]:
    """Returns everything of an artifact, links by the paths of their versions."""
    artifact = name_of(name, project)
    versions, count = await store.list_versions(artifact, before=None, limit=99)
    read: list[Any] = [count]
    for version in versions:
        page = await store.list_entries(
            artifact, version.number, prefix="", after_path="", limit=99, with_objects=True
        )
        assert page is not None
        assert all(one.object_key or one.entry.reference for one in page.entries)
        links = await store.list_links(run_keys=[], version_ids=[version.version_id], limit=99)
        read.append((version, page, [(one.run_key, one.kind.value) for one in links]))
    return read


async def outcome(call: Awaitable[Any]) -> Any:
    try:
        return await call
    except DomainError as error:
        return error.reason, error.message


def plain(value: Any) -> Any:
    """Returns the outcome without the order that means nothing."""
    if isinstance(value, Deletion):
        return replace(value, released=sorted(value.released))
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], ArtifactVersion):
        return list(value)
    return value


@pytest.mark.parametrize("seed", SEEDS)
async def test_memory_and_sql_tell_the_same(seed: int, database: Database) -> None:
    """Every step of a drawn story has the same outcome, and leaves the same behind."""
    story = Story(seed, database)
    for _ in range(STEP_COUNT):
        await story.step()
        await audit(database)
