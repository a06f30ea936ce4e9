"""Drafts of artifacts over SQL: begun, filled, committed, forgotten; a part of sql/artifacts.py."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from runyard_server.domain.artifacts import (
    ArtifactName,
    ArtifactVersion,
    Draft,
    Labels,
    LinkKind,
    draft_committed,
    later_expiry,
    merge_tags,
    no_artifact,
    no_draft,
    type_taken,
)
from runyard_server.domain.errors import InvalidArgument
from runyard_server.domain.manifests import Manifest, packed_contents
from runyard_server.storage.ports.artifacts import DraftEntries, EntryBatch
from runyard_server.storage.sql.artifact_counts import (
    commit_batches,
    drop_batches,
    drop_manifest,
    insert_manifest,
    keep_batch,
    lock_project,
    make_project,
    read_objects,
    release_unused,
    use_manifest,
)
from runyard_server.storage.sql.artifact_rows import draft_rows, find_version_by_key, make_draft
from runyard_server.storage.sql.artifact_schema import (
    artifact_aliases,
    artifact_links,
    artifact_versions,
    artifacts,
    draft_batches,
    drafts,
    manifests,
)
from runyard_server.storage.sql.database import Database


class DraftTables:
    """The methods of ArtifactStore on drafts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create_draft(self, draft: Draft) -> Draft:
        """Adds a draft and returns it, or the one that this run began with this request_id."""
        return await self._database.transact(lambda c: _create(c, draft))

    async def find_draft(self, draft_id: str) -> Draft | None:
        """Returns the draft, or None."""

        def find(connection: Connection) -> Draft | None:
            row = _find(connection, draft_id)
            return None if row is None else _with_version(connection, row)

        return await self._database.transact(find)

    async def add_entries(
        self, draft_id: str, batch: EntryBatch, *, entries_max: int, time_unix_ns: int
    ) -> set[bytes]:
        """Adds a batch; returns the ids of contents whose bytes have not arrived."""
        content_ids = packed_contents(batch.packed)

        def add(connection: Connection) -> set[bytes]:
            row = _lock(connection, draft_id)
            if row.is_committed:
                raise draft_committed(_with_version(connection, row))
            revision = row.revision + 1
            used = {"revision": revision, "use_time_unix_ns": time_unix_ns}
            connection.execute(update(drafts).where(drafts.c.draft_id == draft_id).values(used))
            if _renew_batch(connection, draft_id, batch, revision):
                known = read_objects(connection, row.project_key, content_ids)
                return {content for content, key in known.items() if key is None}
            _check_room(connection, draft_id, batch.entry_count, entries_max)
            connection.execute(insert(draft_batches), _batch_values(draft_id, batch, revision))
            return keep_batch(connection, row.project_key, content_ids)

        return await self._database.transact(add)

    async def read_entries(self, draft_id: str) -> DraftEntries:
        """Returns what the draft holds."""

        def read(connection: Connection) -> DraftEntries:
            row = _find(connection, draft_id)
            statement = (
                select(draft_batches.c.packed)
                .where(draft_batches.c.draft_id == draft_id)
                .order_by(draft_batches.c.revision)
            )
            packed = tuple(bytes(one) for one in connection.execute(statement).scalars())
            return DraftEntries(packed, 0 if row is None else row.revision)

        return await self._database.transact(read)

    async def commit_draft(
        self,
        draft_id: str,
        labels: Labels,
        *,
        manifest: Manifest | None,
        revision: int,
        time_unix_ns: int,
    ) -> tuple[ArtifactVersion, bool] | None:
        """Makes the draft a version, or finds the artifact's version with its digest."""

        def commit(connection: Connection) -> tuple[ArtifactVersion, bool] | None:
            row = _lock(connection, draft_id)
            if row.is_committed:
                version = _with_version(connection, row).version
                assert version is not None
                return version, bool(row.is_unchanged)
            return _Commit(connection, row, time_unix_ns).run(labels, manifest, revision)

        return await self._database.transact(commit)

    async def list_drafts(self, *, used_before_unix_ns: int, limit: int) -> list[Draft]:
        """Returns drafts that nobody has used since that time, the oldest first."""
        statement = (
            draft_rows()
            .where(drafts.c.use_time_unix_ns < used_before_unix_ns)
            .order_by(drafts.c.use_time_unix_ns, drafts.c.draft_id)
            .limit(limit)
        )
        rows = await self._database.transact(lambda c: c.execute(statement).all())
        return [make_draft(row) for row in rows]

    async def delete_draft(self, draft_id: str, *, used_before_unix_ns: int | None) -> bool:
        """Forgets a draft and what it refers to, unless it was used since; returns whether it did."""

        def forget(connection: Connection) -> bool:
            if _find(connection, draft_id) is None:
                return False
            row = _lock(connection, draft_id)
            if used_before_unix_ns is not None and row.use_time_unix_ns >= used_before_unix_ns:
                return False
            forget_draft(connection, row)
            return True

        return await self._database.transact(forget)


def forget_draft(connection: Connection, row: Row[Any]) -> None:
    """Removes a draft and what only it referred to; its project is locked."""
    drop_batches(connection, row.project_key, row.draft_id)
    connection.execute(delete(drafts).where(drafts.c.draft_id == row.draft_id))
    if row.manifest_key is not None:
        drop_manifest(connection, row.project_key, row.manifest_key)
        release_unused(connection, row.project_key)


def _find(connection: Connection, draft_id: str) -> Row[Any] | None:
    return connection.execute(draft_rows().where(drafts.c.draft_id == draft_id)).first()


def _lock(connection: Connection, draft_id: str) -> Row[Any]:
    """Locks the draft's project, then returns the draft; raises NotFound DRAFT_NOT_FOUND."""
    row = _find(connection, draft_id)
    if row is None:
        raise no_draft(draft_id)
    lock_project(connection, row.project_key)
    row = _find(connection, draft_id)
    if row is None:
        raise no_draft(draft_id)
    return row


def _with_version(connection: Connection, row: Row[Any]) -> Draft:
    if not row.is_committed:
        return make_draft(row)
    version = find_version_by_key(connection, row.version_key)
    if version is None:
        raise no_artifact(f"{row.project_path}/{row.name}")
    return make_draft(row, version)


def _create(connection: Connection, draft: Draft) -> Draft:
    is_same = (drafts.c.run_key == draft.run_key) & (drafts.c.request_id == draft.request_id)
    row = connection.execute(draft_rows().where(is_same)).first()
    if row is not None:
        return _with_version(connection, row)
    project_key = make_project(connection, draft.artifact.project_path)
    found = _find_artifact(connection, project_key, draft.artifact.name)
    if found is not None and found.version_count and found.type != draft.type:
        raise type_taken(draft.artifact, asked=draft.type, found=found.type)
    values = {
        "draft_id": draft.draft_id,
        "project_key": project_key,
        "name": draft.artifact.name,
        "type": draft.type,
        "run_key": draft.run_key,
        "run_path": draft.run_path,
        "request_id": draft.request_id,
        "digest": draft.digest,
        "entry_count": draft.entry_count,
        "description": draft.description,
        "metadata_json": draft.metadata_json,
        "create_time_unix_ns": draft.create_time_unix_ns,
        "use_time_unix_ns": draft.create_time_unix_ns,
        "revision": 0,
        "manifest_key": use_manifest(connection, project_key, draft.digest),
        "is_committed": False,
        "is_unchanged": False,
        "version_key": None,
    }
    # A repeat that came between is met by the unique request_id: the transaction begins anew and finds it.
    connection.execute(insert(drafts), values)
    row = _find(connection, draft.draft_id)
    assert row is not None
    return make_draft(row)


def _find_artifact(connection: Connection, project_key: int, name: str) -> Row[Any] | None:
    statement = select(artifacts).where(
        artifacts.c.project_key == project_key, artifacts.c.name == name
    )
    return connection.execute(statement).first()


def _renew_batch(connection: Connection, draft_id: str, batch: EntryBatch, revision: int) -> bool:
    """Makes a batch that is there already the newest; False if it is not there."""
    statement = (
        update(draft_batches)
        .where(
            draft_batches.c.draft_id == draft_id,
            draft_batches.c.sha256 == hashlib.sha256(batch.packed).digest(),
        )
        .values(revision=revision)
    )
    return connection.execute(statement).rowcount > 0


def _check_room(connection: Connection, draft_id: str, entry_count: int, entries_max: int) -> None:
    statement = select(func.coalesce(func.sum(draft_batches.c.entry_count), 0)).where(
        draft_batches.c.draft_id == draft_id
    )
    count = int(connection.execute(statement).scalar_one()) + entry_count
    if count > entries_max:
        raise InvalidArgument(
            "FIELD_TOO_LARGE",
            f"draft {draft_id[:64]!r} would have been given {count} entries, at most {entries_max} are taken for the count "
            "that it was begun with; begin another",
            metadata={"field": "entries", "value": count, "limit": entries_max},
        )


def _batch_values(draft_id: str, batch: EntryBatch, revision: int) -> dict[str, Any]:
    return {
        "draft_id": draft_id,
        "sha256": hashlib.sha256(batch.packed).digest(),
        "revision": revision,
        "entry_count": batch.entry_count,
        "packed": batch.packed,
    }


class _Commit:
    """Makes one draft a version; its project is locked."""

    def __init__(self, connection: Connection, draft: Row[Any], time_unix_ns: int) -> None:
        self._connection = connection
        self._draft = draft
        self._time_unix_ns = time_unix_ns

    def run(
        self, labels: Labels, manifest: Manifest | None, revision: int
    ) -> tuple[ArtifactVersion, bool] | None:
        """Returns the version, and whether it was there; None if entries were added since `revision`."""
        artifact_key = self._make_artifact()
        version_key = self._find_version(artifact_key)
        is_unchanged = version_key is not None
        if version_key is not None:
            self._touch_version(version_key, labels)
        elif self._draft.manifest_key is None and self._draft.revision != revision:
            return None
        else:
            version_key = self._insert_version(artifact_key, labels, manifest)
        self._point(artifact_key, version_key, labels)
        self._link(version_key)
        self._close(version_key, is_unchanged=is_unchanged)
        version = find_version_by_key(self._connection, version_key)
        assert version is not None
        return version, is_unchanged

    def _make_artifact(self) -> int:
        draft = self._draft
        found = _find_artifact(self._connection, draft.project_key, draft.name)
        if found is None:
            values = {
                "project_key": draft.project_key,
                "name": draft.name,
                "type": draft.type,
                "next_number": 0,
                "version_count": 0,
                "latest_version_key": None,
            }
            statement = insert(artifacts).returning(artifacts.c.artifact_key)
            return int(self._connection.execute(statement, values).scalar_one())
        if found.type != draft.type:
            if found.version_count:
                name = ArtifactName(draft.project_path, draft.name)
                raise type_taken(name, asked=draft.type, found=found.type)
            # All its versions were deleted: the name is free for another type.
            self._change_artifact(found.artifact_key, type=draft.type)
        return int(found.artifact_key)

    def _find_version(self, artifact_key: int) -> int | None:
        statement = (
            select(artifact_versions.c.version_key)
            .join(manifests, manifests.c.manifest_key == artifact_versions.c.manifest_key)
            .where(
                artifact_versions.c.artifact_key == artifact_key,
                manifests.c.project_key == self._draft.project_key,
                manifests.c.digest == self._draft.digest,
            )
        )
        return self._connection.execute(statement).scalar()

    def _touch_version(self, version_key: int, labels: Labels) -> None:
        where = artifact_versions.c.version_key == version_key
        row = self._connection.execute(select(artifact_versions).where(where)).one()
        values = {
            "tags_json": json.dumps(merge_tags(json.loads(row.tags_json), add=labels.tags)),
            "expire_time_unix_ns": later_expiry(
                row.expire_time_unix_ns, labels.expire_time_unix_ns
            ),
            "update_time_unix_ns": self._time_unix_ns,
        }
        self._connection.execute(update(artifact_versions).where(where).values(values))

    def _insert_version(self, artifact_key: int, labels: Labels, manifest: Manifest | None) -> int:
        draft, added_bytes = self._draft, 0
        manifest_key = use_manifest(self._connection, draft.project_key, draft.digest)
        if manifest_key is None:
            assert manifest is not None, "a draft that refers to no manifest needs one"
            manifest_key, new = insert_manifest(self._connection, draft.project_key, manifest)
            added_bytes = commit_batches(self._connection, draft.project_key, draft.draft_id, new)
        number = self._connection.execute(
            update(artifacts)
            .where(artifacts.c.artifact_key == artifact_key)
            .values(
                next_number=artifacts.c.next_number + 1,
                version_count=artifacts.c.version_count + 1,
            )
            .returning(artifacts.c.next_number)
        ).scalar_one()
        values = {
            "artifact_key": artifact_key,
            "number": number - 1,
            "manifest_key": manifest_key,
            "added_bytes": added_bytes,
            "description": draft.description,
            "metadata_json": draft.metadata_json,
            "tags_json": json.dumps(merge_tags((), add=labels.tags)),
            "run_key": draft.run_key,
            "run_path": draft.run_path,
            "create_time_unix_ns": self._time_unix_ns,
            "update_time_unix_ns": self._time_unix_ns,
            "expire_time_unix_ns": labels.expire_time_unix_ns,
        }
        statement = insert(artifact_versions).returning(artifact_versions.c.version_key)
        return int(self._connection.execute(statement, values).scalar_one())

    def _point(self, artifact_key: int, version_key: int, labels: Labels) -> None:
        self._change_artifact(artifact_key, latest_version_key=version_key)
        point_aliases(self._connection, artifact_key, version_key, labels.aliases)

    def _link(self, version_key: int) -> None:
        link_run(
            self._connection,
            version_key,
            run_key=self._draft.run_key,
            run_path=self._draft.run_path,
            kind=LinkKind.LOGGED,
            time_unix_ns=self._time_unix_ns,
        )

    def _close(self, version_key: int, *, is_unchanged: bool) -> None:
        """Lets go of what the draft referred to: the version does now."""
        draft = self._draft
        drop_batches(self._connection, draft.project_key, draft.draft_id)
        values = {
            "is_committed": True,
            "is_unchanged": is_unchanged,
            "version_key": version_key,
            "manifest_key": None,
            "use_time_unix_ns": self._time_unix_ns,
        }
        self._connection.execute(
            update(drafts).where(drafts.c.draft_id == draft.draft_id).values(values)
        )
        if draft.manifest_key is not None:
            drop_manifest(self._connection, draft.project_key, draft.manifest_key)
            release_unused(self._connection, draft.project_key)

    def _change_artifact(self, artifact_key: int, **values: Any) -> None:
        self._connection.execute(
            update(artifacts).where(artifacts.c.artifact_key == artifact_key).values(values)
        )


def point_aliases(
    connection: Connection, artifact_key: int, version_key: int, aliases: tuple[str, ...]
) -> None:
    """Moves aliases of an artifact to a version."""
    if not aliases:
        return
    connection.execute(
        delete(artifact_aliases).where(
            artifact_aliases.c.artifact_key == artifact_key, artifact_aliases.c.alias.in_(aliases)
        )
    )
    connection.execute(
        insert(artifact_aliases),
        [
            {"artifact_key": artifact_key, "alias": alias, "version_key": version_key}
            for alias in sorted(set(aliases))
        ],
    )


def link_run(
    connection: Connection,
    version_key: int,
    *,
    run_key: int,
    run_path: str,
    kind: LinkKind,
    time_unix_ns: int,
) -> None:
    """Links a run to a version; a link that is there stays as it is."""
    where = (
        (artifact_links.c.run_key == run_key)
        & (artifact_links.c.version_key == version_key)
        & (artifact_links.c.kind == kind.value)
    )
    if connection.execute(select(artifact_links.c.run_key).where(where)).first() is not None:
        return
    values = {
        "run_key": run_key,
        "version_key": version_key,
        "kind": kind.value,
        "run_path": run_path,
        "create_time_unix_ns": time_unix_ns,
    }
    connection.execute(insert(artifact_links), values)
