"""Rows of artifacts as the domain's words: versions with their aliases, drafts."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, select

from runyard_server.domain.artifacts import (
    LATEST,
    ArtifactName,
    ArtifactVersion,
    Draft,
    VersionName,
)
from runyard_server.domain.run import RunKey
from runyard_server.storage.sql.artifact_counts import slices
from runyard_server.storage.sql.artifact_schema import (
    artifact_aliases,
    artifact_projects,
    artifact_versions,
    artifacts,
    drafts,
    manifests,
)

_COLUMNS = (
    artifact_versions.c.version_key,
    artifact_versions.c.artifact_key,
    artifact_versions.c.number,
    artifact_versions.c.manifest_key,
    artifact_versions.c.added_bytes,
    artifact_versions.c.description,
    artifact_versions.c.tags_json,
    artifact_versions.c.run_path,
    artifact_versions.c.create_time_unix_ns,
    artifact_versions.c.update_time_unix_ns,
    artifact_versions.c.expire_time_unix_ns,
    artifacts.c.name,
    artifacts.c.type,
    artifacts.c.version_count,
    artifacts.c.latest_version_key,
    artifact_projects.c.project_key,
    artifact_projects.c.project_path,
    manifests.c.digest,
    manifests.c.entry_count,
    manifests.c.size_bytes,
)


def version_rows(*, with_metadata: bool = True) -> Select[Any]:
    """Returns the statement that reads versions, to be narrowed."""
    extra = (artifact_versions.c.metadata_json,) if with_metadata else ()
    return select(*_COLUMNS, *extra).select_from(
        artifact_versions.join(
            artifacts, artifacts.c.artifact_key == artifact_versions.c.artifact_key
        )
        .join(artifact_projects, artifact_projects.c.project_key == artifacts.c.project_key)
        .join(manifests, manifests.c.manifest_key == artifact_versions.c.manifest_key)
    )


def is_artifact(artifact: ArtifactName) -> Any:
    """Returns the condition that a row of version_rows is of this artifact."""
    return (artifact_projects.c.project_path == artifact.project_path) & (
        artifacts.c.name == artifact.name
    )


def find_version_row(connection: Connection, name: VersionName) -> Row[Any] | None:
    """Returns the row of a version, None if there is none."""
    statement = version_rows().where(is_artifact(name.artifact))
    if name.number is not None:
        statement = statement.where(artifact_versions.c.number == name.number)
    elif name.alias == LATEST:
        statement = statement.where(
            artifact_versions.c.version_key == artifacts.c.latest_version_key
        )
    else:
        statement = statement.join(
            artifact_aliases, artifact_aliases.c.version_key == artifact_versions.c.version_key
        ).where(artifact_aliases.c.alias == name.alias)
    return connection.execute(statement).first()


def find_version_by_key(connection: Connection, version_key: int) -> ArtifactVersion | None:
    """Returns the version, None if it is gone."""
    statement = version_rows().where(artifact_versions.c.version_key == version_key)
    found = make_versions(connection, connection.execute(statement).all())
    return found[0] if found else None


def make_versions(connection: Connection, rows: Sequence[Row[Any]]) -> list[ArtifactVersion]:
    """Returns the versions of rows, with their aliases, in their order."""
    aliases = read_aliases(connection, [row.version_key for row in rows])
    return [_version(row, aliases.get(row.version_key, [])) for row in rows]


def read_aliases(connection: Connection, version_keys: Collection[int]) -> dict[int, list[str]]:
    """Returns the aliases of versions but LATEST, by name."""
    found: dict[int, list[str]] = {}
    for part in slices(version_keys):
        statement = (
            select(artifact_aliases.c.version_key, artifact_aliases.c.alias)
            .where(artifact_aliases.c.version_key.in_(part))
            .order_by(artifact_aliases.c.alias)
        )
        for version_key, alias in connection.execute(statement):
            found.setdefault(version_key, []).append(alias)
    return found


def _version(row: Row[Any], aliases: Sequence[str]) -> ArtifactVersion:
    is_latest = row.latest_version_key == row.version_key
    return ArtifactVersion(
        artifact=ArtifactName(row.project_path, row.name),
        type=row.type,
        number=row.number,
        digest=bytes(row.digest),
        entry_count=row.entry_count,
        size_bytes=row.size_bytes,
        added_bytes=row.added_bytes,
        create_time_unix_ns=row.create_time_unix_ns,
        update_time_unix_ns=row.update_time_unix_ns,
        logged_by=row.run_path,
        description=row.description,
        metadata_json=getattr(row, "metadata_json", ""),
        aliases=((LATEST,) if is_latest else ()) + tuple(aliases),
        tags=tuple(json.loads(row.tags_json)),
        expire_time_unix_ns=row.expire_time_unix_ns,
        version_id=row.version_key,
    )


def draft_rows() -> Select[Any]:
    """Returns the statement that reads drafts, to be narrowed."""
    return select(drafts, artifact_projects.c.project_path).join(
        artifact_projects, artifact_projects.c.project_key == drafts.c.project_key
    )


def make_draft(row: Row[Any], version: ArtifactVersion | None = None) -> Draft:
    """Returns the draft of a row."""
    return Draft(
        draft_id=row.draft_id,
        artifact=ArtifactName(row.project_path, row.name),
        type=row.type,
        run_key=RunKey(row.run_key),
        run_path=row.run_path,
        request_id=row.request_id,
        digest=bytes(row.digest),
        entry_count=row.entry_count,
        create_time_unix_ns=row.create_time_unix_ns,
        description=row.description,
        metadata_json=row.metadata_json,
        is_present=row.manifest_key is not None,
        version=version,
    )
