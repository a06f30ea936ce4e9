"""The ArtifactStore over SQL; statements are the same for SQLite and PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, delete, exists, func, or_, select, update

from runyard_server.domain.artifacts import (
    ArtifactName,
    ArtifactSummary,
    ArtifactVersion,
    Deletion,
    Link,
    LinkKind,
    VersionChange,
    VersionName,
    has_aliases,
    merge_tags,
)
from runyard_server.domain.manifests import content_size, packed_contents
from runyard_server.domain.run import RunKey
from runyard_server.storage.ports.artifacts import EntryPage
from runyard_server.storage.sql.artifact_counts import (
    drop_manifest,
    find_project,
    list_chunks,
    lock_project,
    read_objects,
    release_unused,
    slices,
)
from runyard_server.storage.sql.artifact_drafts import forget_draft, link_run, point_aliases
from runyard_server.storage.sql.artifact_entries import read_page
from runyard_server.storage.sql.artifact_rows import (
    draft_rows,
    find_version_row,
    is_artifact,
    make_versions,
    read_aliases,
    version_rows,
)
from runyard_server.storage.sql.artifact_schema import (
    artifact_aliases,
    artifact_links,
    artifact_projects,
    artifact_versions,
    artifacts,
    chunks,
    drafts,
)
from runyard_server.storage.sql.artifact_uploads import UploadTables


@dataclass(slots=True)
class _Remains:
    """What removed versions held that was not removed with them."""

    chunk_keys: set[int] = field(default_factory=set)
    content_ids: set[bytes] = field(default_factory=set)


class SqlArtifactStore(UploadTables):
    """Keeps artifacts in a SQL database; see the port ArtifactStore."""

    async def find_version(self, name: VersionName) -> ArtifactVersion | None:
        """Returns the version, or None."""

        def find(connection: Connection) -> ArtifactVersion | None:
            row = find_version_row(connection, name)
            return None if row is None else make_versions(connection, [row])[0]

        return await self._database.transact(find)

    async def has_artifact(self, artifact: ArtifactName) -> bool:
        """Returns whether the artifact is there or was."""
        statement = (
            select(artifacts.c.artifact_key).join(artifact_projects).where(is_artifact(artifact))
        )
        return await self._database.transact(lambda c: c.execute(statement).first() is not None)

    async def list_artifacts(
        self, project_path: str, *, type: str, name_contains: str, after_name: str, limit: int
    ) -> tuple[list[ArtifactSummary], int]:
        """Returns artifacts that have versions, by the bytes of their names, and how many match in all."""
        matches = [
            artifact_projects.c.project_path == project_path,
            artifact_versions.c.version_key == artifacts.c.latest_version_key,
        ]
        if type:
            matches.append(artifacts.c.type == type)
        if name_contains:
            lowered = func.lower(artifacts.c.name)
            matches.append(lowered.contains(name_contains.lower(), autoescape=True))
        every = version_rows(with_metadata=False).where(*matches)
        page = every.where(artifacts.c.name > after_name).order_by(artifacts.c.name).limit(limit)
        count = select(func.count()).select_from(every.subquery())

        def read(connection: Connection) -> tuple[list[ArtifactSummary], int]:
            rows = connection.execute(page).all()
            found = [
                ArtifactSummary(version, row.version_count)
                for version, row in zip(make_versions(connection, rows), rows, strict=True)
            ]
            return found, int(connection.execute(count).scalar_one())

        return await self._database.transact(read)

    async def list_versions(
        self, artifact: ArtifactName, *, before: int | None, limit: int
    ) -> tuple[list[ArtifactVersion], int]:
        """Returns versions, the newest first; and how many there are in all."""
        page = version_rows().where(is_artifact(artifact))
        if before is not None:
            page = page.where(artifact_versions.c.number < before)
        page = page.order_by(artifact_versions.c.number.desc()).limit(limit)
        count = (
            select(artifacts.c.version_count).join(artifact_projects).where(is_artifact(artifact))
        )

        def read(connection: Connection) -> tuple[list[ArtifactVersion], int]:
            found = make_versions(connection, connection.execute(page).all())
            return found, int(connection.execute(count).scalar() or 0)

        return await self._database.transact(read)

    async def list_entries(
        self,
        artifact: ArtifactName,
        number: int,
        *,
        prefix: str,
        after_path: str,
        limit: int,
        with_objects: bool,
    ) -> EntryPage | None:
        """Returns entries whose paths begin with `prefix`; None if there is no such version."""

        def read(connection: Connection) -> EntryPage | None:
            row = find_version_row(connection, VersionName(artifact, number))
            if row is None:
                return None
            return read_page(
                connection,
                row,
                prefix=prefix,
                after_path=after_path,
                limit=limit,
                with_objects=with_objects,
            )

        return await self._database.transact(read)

    async def update_version(
        self, name: VersionName, change: VersionChange
    ) -> ArtifactVersion | None:
        """Changes a version and returns it, None if there is none."""

        def change_row(connection: Connection) -> ArtifactVersion | None:
            row = _lock_version(connection, name)
            if row is None:
                return None
            _apply(connection, row, change)
            found = find_version_row(connection, VersionName(name.artifact, row.number))
            assert found is not None
            return make_versions(connection, [found])[0]

        return await self._database.transact(change_row)

    async def delete_versions(
        self,
        artifact: ArtifactName,
        numbers: Sequence[int],
        *,
        with_aliases: bool,
        expired_by_unix_ns: int | None = None,
    ) -> Deletion:
        """Removes versions, those that are not there passed over."""
        deletion, remains = Deletion(), _Remains()

        def remove(connection: Connection, number: int) -> tuple[Deletion, _Remains]:
            row = _lock_version(connection, VersionName(artifact, number))
            if row is None:
                return Deletion(), _Remains()
            aliases = read_aliases(connection, [row.version_key]).get(row.version_key, [])
            if expired_by_unix_ns is not None:
                expiry = row.expire_time_unix_ns
                if aliases or expiry is None or expiry > expired_by_unix_ns:
                    return Deletion(), _Remains()
            elif aliases and not with_aliases:
                raise has_aliases(VersionName(artifact, number), aliases)
            return _remove_version(connection, row)

        for number in numbers:
            one, left = await self._database.transact(lambda c, number=number: remove(c, number))  # type: ignore[misc]  # a default argument
            deletion.versions += one.versions
            deletion.entries += one.entries
            deletion.released.extend(one.released)
            remains.chunk_keys |= left.chunk_keys
            remains.content_ids |= left.content_ids
        if deletion.versions:
            path = artifact.project_path
            deletion.shared_bytes = await self._database.transact(
                lambda c: _measure(c, path, remains)
            )
        return deletion

    async def list_expired(
        self, *, expired_by_unix_ns: int, limit: int
    ) -> list[tuple[ArtifactName, int]]:
        """Returns versions that expire until that time and have no aliases but LATEST."""
        has_alias = exists().where(
            artifact_aliases.c.version_key == artifact_versions.c.version_key
        )
        statement = (
            version_rows(with_metadata=False)
            .where(artifact_versions.c.expire_time_unix_ns <= expired_by_unix_ns, ~has_alias)
            .order_by(artifact_versions.c.expire_time_unix_ns, artifact_versions.c.version_key)
            .limit(limit)
        )
        rows = await self._database.transact(lambda c: c.execute(statement).all())
        return [(ArtifactName(row.project_path, row.name), row.number) for row in rows]

    async def link_run(
        self,
        name: VersionName,
        *,
        run_key: RunKey,
        run_path: str,
        kind: LinkKind,
        time_unix_ns: int,
    ) -> ArtifactVersion | None:
        """Links a run to a version, once, and returns the version; None if there is none."""

        def link(connection: Connection) -> ArtifactVersion | None:
            row = find_version_row(connection, name)
            if row is None:
                return None
            # If the version goes meanwhile, its foreign key fails, and the transaction begins anew.
            link_run(
                connection,
                row.version_key,
                run_key=run_key,
                run_path=run_path,
                kind=kind,
                time_unix_ns=time_unix_ns,
            )
            return make_versions(connection, [row])[0]

        return await self._database.transact(link)

    async def list_links(
        self, *, run_keys: Collection[RunKey], version_ids: Collection[int], limit: int
    ) -> list[Link]:
        """Returns links of these runs and of these versions, the oldest first."""
        statement = (
            select(artifact_links)
            .where(
                or_(
                    artifact_links.c.run_key.in_(list(run_keys)),
                    artifact_links.c.version_key.in_(list(version_ids)),
                )
            )
            .order_by(
                artifact_links.c.create_time_unix_ns,
                artifact_links.c.run_key,
                artifact_links.c.version_key,
                artifact_links.c.kind,
            )
            .limit(limit)
        )
        rows = await self._database.transact(lambda c: c.execute(statement).all())
        return [
            Link(
                run_key=RunKey(row.run_key),
                run_path=row.run_path,
                version_id=row.version_key,
                kind=LinkKind(row.kind),
                create_time_unix_ns=row.create_time_unix_ns,
            )
            for row in rows
        ]

    async def read_versions(self, version_ids: Collection[int]) -> dict[int, ArtifactVersion]:
        """Returns those of the versions that are there, without metadata."""

        def read(connection: Connection) -> dict[int, ArtifactVersion]:
            found: dict[int, ArtifactVersion] = {}
            for part in slices(version_ids):
                statement = version_rows(with_metadata=False).where(
                    artifact_versions.c.version_key.in_(part)
                )
                versions = make_versions(connection, connection.execute(statement).all())
                found.update((version.version_id, version) for version in versions)
            return found

        return await self._database.transact(read)

    async def purge_run(self, run_key: RunKey) -> int:
        """Forgets a run: its links, its drafts, and that it logged versions."""

        def forget(connection: Connection) -> int:
            statement = draft_rows().where(drafts.c.run_key == run_key)
            for key in sorted({row.project_key for row in connection.execute(statement)}):
                lock_project(connection, key)
            rows = connection.execute(statement).all()
            for row in rows:
                forget_draft(connection, row)
            links = delete(artifact_links).where(artifact_links.c.run_key == run_key)
            count = connection.execute(links).rowcount
            connection.execute(
                update(artifact_versions)
                .where(artifact_versions.c.run_key == run_key)
                .values(run_key=None, run_path="")
            )
            return len(rows) + count

        return await self._database.transact(forget)


def _lock_version(connection: Connection, name: VersionName) -> Row[Any] | None:
    """Locks the version's project, then returns its row, None if there is none."""
    project_key = find_project(connection, name.artifact.project_path)
    if project_key is None:
        return None
    lock_project(connection, project_key)
    return find_version_row(connection, name)


def _apply(connection: Connection, row: Row[Any], change: VersionChange) -> None:
    tags = merge_tags(json.loads(row.tags_json), add=change.add_tags, remove=change.remove_tags)
    values: dict[str, Any] = {
        "tags_json": json.dumps(tags),
        "update_time_unix_ns": change.time_unix_ns,
    }
    if change.description is not None:
        values["description"] = change.description
    if change.metadata_json is not None:
        values["metadata_json"] = change.metadata_json
    if change.is_expiry_set:
        values["expire_time_unix_ns"] = change.expire_time_unix_ns
    connection.execute(
        update(artifact_versions)
        .where(artifact_versions.c.version_key == row.version_key)
        .values(values)
    )
    if change.remove_aliases:
        connection.execute(
            delete(artifact_aliases).where(
                artifact_aliases.c.version_key == row.version_key,
                artifact_aliases.c.alias.in_(change.remove_aliases),
            )
        )
    point_aliases(connection, row.artifact_key, row.version_key, change.add_aliases)


def _remove_version(connection: Connection, row: Row[Any]) -> tuple[Deletion, _Remains]:
    """Removes a version and what only it referred to; its project is locked."""
    chunk_keys = list_chunks(connection, row.manifest_key)
    for table in (artifact_aliases, artifact_links, artifact_versions):
        connection.execute(delete(table).where(table.c.version_key == row.version_key))
    _count_out(connection, row)
    gone = drop_manifest(connection, row.project_key, row.manifest_key)
    released = release_unused(connection, row.project_key)
    remains = _Remains(chunk_keys=set(chunk_keys))
    for packed in gone:
        remains.content_ids |= packed_contents(packed)
    return Deletion(1, row.entry_count, released), remains


def _count_out(connection: Connection, row: Row[Any]) -> None:
    """Takes a removed version off its artifact; LATEST moves to the highest number that is left."""
    newest = (
        select(artifact_versions.c.version_key)
        .where(artifact_versions.c.artifact_key == row.artifact_key)
        .order_by(artifact_versions.c.number.desc())
        .limit(1)
    )
    values: dict[str, Any] = {"version_count": artifacts.c.version_count - 1}
    if row.latest_version_key == row.version_key:
        values["latest_version_key"] = connection.execute(newest).scalar()
    connection.execute(
        update(artifacts).where(artifacts.c.artifact_key == row.artifact_key).values(values)
    )


def _measure(connection: Connection, project_path: str, remains: _Remains) -> int:
    """Returns the bytes of the contents that removed versions held and that are still there."""
    project_key = find_project(connection, project_path)
    assert project_key is not None
    wanted = set(remains.content_ids)
    for part in slices(remains.chunk_keys):
        statement = select(chunks.c.packed).where(chunks.c.chunk_key.in_(part))
        for packed in connection.execute(statement).scalars():
            wanted |= packed_contents(bytes(packed))
    left = read_objects(connection, project_key, wanted)
    return sum(content_size(content) for content in left)
