"""Artifacts as `Api` reads them back; what an `Artifact` asks the server through."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from runyard import rpc_artifacts
from runyard.artifacts.artifact import Artifact
from runyard.artifacts.entries import Entry
from runyard.artifacts.records import DeletionReceipt, Lineage, VersionRecord
from runyard.errors import InvalidArgument, NotFound
from runyard.paths import artifact_path, project_path, run_path
from runyard.rpc import Client, Connection
from runyard.settings import ResolvedSettings, Settings, resolve

if TYPE_CHECKING:
    from runyard.api_run import Run

TIMEOUT_S = 60.0


class ApiArtifacts:
    """What `Api` offers for artifacts; `Api` sets the attributes."""

    settings: ResolvedSettings
    _connection: Connection

    def artifact(self, name: str, type: str | None = None) -> Artifact:
        """Returns the version at `entity/project/name:alias`, `:vN`, or without either the latest. Raises NotFound."""
        path = artifact_path(name, self.settings)
        record = rpc_artifacts.read_version(self._connection, path)
        return Artifact.of_version(_checked_type(record, type), self.settings)

    def artifact_exists(self, name: str, type: str | None = None) -> bool:
        """Returns whether there is such a version."""
        try:
            self.artifact(name, type)
        except (NotFound, InvalidArgument):
            return False
        return True

    def artifacts(
        self,
        project: str | None = None,
        type: str | None = None,
        *,
        name: str | None = None,
        type_name: str | None = None,
        name_contains: str = "",
        per_page: int = 50,
    ) -> list[Artifact]:
        """Returns the artifacts of `entity/project` by name, each as its latest version.

        As in wandb, `artifacts("model", "entity/project/name")`, or with `type_name=` and `name=`, gives the versions
        of one.
        """
        if name is None and type is not None and "/" in type:
            project, type, name = None, project, type
        if name is not None:
            return self.artifact_versions(name, type=type_name or type)
        found = rpc_artifacts.list_artifacts(
            self._connection,
            project_path(project, self.settings),
            kind=type_name or type or "",
            name_contains=name_contains,
        )
        return [Artifact.of_version(row.latest, self.settings) for row in found]

    def artifact_versions(
        self, name: str, per_page: int = 50, *, type: str | None = None
    ) -> list[Artifact]:
        """Returns the versions of `entity/project/name`, newest first. Raises NotFound."""
        path = artifact_path(name, self.settings).partition(":")[0]
        found = rpc_artifacts.list_versions(self._connection, path)
        return [Artifact.of_version(_checked_type(one, type), self.settings) for one in found]

    def delete_artifact(self, name: str, *, delete_aliases: bool = False) -> DeletionReceipt:
        """Deletes all versions of `entity/project/name`, or the one of `:vN` or an alias; returns what that freed."""
        path = artifact_path(name, self.settings)
        if ":" not in path:
            return rpc_artifacts.delete_artifact(
                self._connection, path, is_with_aliases=delete_aliases
            )
        return rpc_artifacts.delete_versions(
            self._connection, [path], is_with_aliases=delete_aliases
        )

    def lineage(self, path: str, depth: int = 1) -> Lineage:
        """Returns which runs logged and used which versions, so many links far around `name:alias` or a run's path."""
        if ":" in path:
            full = artifact_path(path, self.settings)
            return rpc_artifacts.read_lineage(self._connection, artifact_path=full, depth=depth)
        full = run_path(path, self.settings)
        return rpc_artifacts.read_lineage(self._connection, run_path=full, depth=depth)


class RemoteVersion:
    """Asks the server about one version."""

    def __init__(
        self, record: VersionRecord, connection: Connection, settings: ResolvedSettings
    ) -> None:
        self.record = record
        self._connection = connection
        self._settings = settings

    @classmethod
    def of(cls, record: VersionRecord, settings: ResolvedSettings | None) -> RemoteVersion:
        """Returns what asks the server of the settings."""
        settings = settings or resolve({}, Settings())
        return cls(record, _connection_of(settings), settings)

    def entries(self, prefix: str = "", count_max: int | None = None) -> list[Entry]:
        """Returns the entries whose paths begin so, by path."""
        found = rpc_artifacts.list_entries(
            self._connection, self.record.path, prefix=prefix, count_max=count_max
        )
        return list(found)

    def located(self, prefix: str = "") -> Iterator[tuple[Entry, str]]:
        """Yields entries with the addresses of their bytes."""
        return rpc_artifacts.list_located(self._connection, self.record.path, prefix=prefix)

    def url_of(self, path: str) -> str:
        """Returns an address of an entry's bytes that is good for an hour; raises NotFound."""
        found = rpc_artifacts.list_located(
            self._connection, self.record.path, prefix=path, count_max=1
        )
        for entry, url in found:
            if entry.path == path:
                return url
        raise NotFound(f"{self.record.path} has no {path!r} any more", reason="FILE_NOT_FOUND")

    def metadata_json(self) -> str:
        """Returns the metadata, which lists leave out."""
        return rpc_artifacts.read_version(self._connection, self.record.path).metadata_json

    def update(self, fields: Mapping[str, Any]) -> VersionRecord:
        """Changes the version; returns it as it is then."""
        return rpc_artifacts.update_version(self._connection, self.record.path, fields)

    def delete(self, *, is_with_aliases: bool) -> DeletionReceipt:
        """Deletes the version."""
        return rpc_artifacts.delete_versions(
            self._connection, [self.record.path], is_with_aliases=is_with_aliases
        )

    def lineage(self, depth: int) -> Lineage:
        """Returns what it is linked to."""
        return rpc_artifacts.read_lineage(
            self._connection, artifact_path=self.record.path, depth=depth
        )

    def logged_by(self) -> Run | None:
        """Returns the run that logged it first; None if that is gone."""
        runs = self._runs([self.record.logged_by] if self.record.logged_by else [])
        return runs[0] if runs else None

    def used_by(self) -> list[Run]:
        """Returns the runs that used it."""
        links = self.lineage(1).links
        path = self.record.path
        return self._runs(
            [link.run_path for link in links if link.kind == "used" and link.version_path == path]
        )

    def _runs(self, paths: Sequence[str]) -> list[Run]:
        from runyard.api_run import Run

        client = Client(self._connection)
        found = []
        for path in paths:
            try:
                record = client.get_run(path)
            except NotFound:  # deleted meanwhile
                continue
            found.append(Run(client, record, self._settings.base_url))
        return found


def read_version(path: str, settings: ResolvedSettings, *, kind: str | None = None) -> Artifact:
    """Returns a version without recording a use."""
    connection = _connection_of(settings)
    record = rpc_artifacts.read_version(connection, artifact_path(path, settings))
    return Artifact.of_version(_checked_type(record, kind), settings)


def use_version(
    used_by: str, path: str, settings: ResolvedSettings, *, kind: str | None = None
) -> Artifact:
    """Records that a run uses a version, and returns that; a wrong type is told before anything is recorded."""
    connection = _connection_of(settings)
    project = used_by.rpartition("/")[0]
    full = artifact_path(path, settings, project=project)
    if kind:
        record = _checked_type(rpc_artifacts.read_version(connection, full), kind)
        full = record.path
    return Artifact.of_version(rpc_artifacts.use_version(connection, used_by, full), settings)


def linked_versions(
    connection: Connection, run: str, kind: str, settings: ResolvedSettings | None = None
) -> list[Artifact]:
    """Returns the versions that a run "logged" or "used", oldest link first."""
    settings = settings or settings_of(connection)
    lineage = rpc_artifacts.read_lineage(connection, run_path=run, depth=1)
    versions = {version.path: version for version in lineage.versions}
    found = [
        link
        for link in lineage.links
        if link.kind == kind and link.run_path == run and link.version_path in versions
    ]
    found.sort(key=lambda link: link.create_time_s or 0.0)
    return [Artifact.of_version(versions[link.version_path], settings) for link in found]


def settings_of(connection: Connection) -> ResolvedSettings:
    """Returns the settings with which the server of a connection is asked."""
    return dataclasses.replace(
        resolve({}, Settings()), base_url=connection.base_url, api_key=connection.api_key
    )


def _checked_type(record: VersionRecord, kind: str | None) -> VersionRecord:
    if kind and record.type != kind:
        raise InvalidArgument(
            f"artifact {record.path} is of type {record.type!r}, not {kind!r}",
            reason="ARTIFACT_TYPE_MISMATCH",
        )
    return record


def _connection_of(settings: ResolvedSettings) -> Connection:
    return Connection(settings.base_url, settings.api_key, timeout_s=TIMEOUT_S)
