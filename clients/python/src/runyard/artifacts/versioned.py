"""The part of an artifact that is about its versions on a server: download, verify, change, delete, who made and used it."""

from __future__ import annotations

import importlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runyard.artifacts.entries import LATEST, Entry, checked_aliases
from runyard.artifacts.records import DeletionReceipt, Lineage, VersionRecord
from runyard.errors import InvalidArgument
from runyard.settings import ResolvedSettings
from runyard.text_format import iso_time

if TYPE_CHECKING:
    from runyard.artifacts.artifact import Artifact


class Versioned:
    """What `Artifact` offers of a version; `Artifact` sets the attributes. Raises UsageError while it is none."""

    _settings: ResolvedSettings | None
    _remote_kept: Any = None

    @property
    def qualified_name(self) -> str:
        """Returns entity/project/name:vN."""
        return self._version_record().path

    @property
    def path(self) -> str:
        """Returns `qualified_name`."""
        return self.qualified_name

    @property
    def id(self) -> str:
        """Returns `qualified_name`: it names the version for good."""
        return self.qualified_name

    @property
    def entity(self) -> str:
        """Returns the owner."""
        return self._version_record().project_path.partition("/")[0]

    @property
    def project(self) -> str:
        """Returns the project."""
        return self._version_record().project_path.partition("/")[2]

    @property
    def collection(self) -> str:
        """Returns the name without the version."""
        return self._version_record().name

    @property
    def created_at(self) -> str | None:
        """Returns when it became a version, ISO 8601, UTC."""
        return iso_time(self._version_record().create_time_s)

    @property
    def updated_at(self) -> str | None:
        """Returns when it was changed last, ISO 8601, UTC."""
        return iso_time(self._version_record().update_time_s)

    def download(
        self,
        root: str | Path | None = None,
        allow_missing_references: bool = False,
        skip_cache: bool | None = None,
        path_prefix: str | None = None,
        multipart: bool | None = None,
    ) -> str:
        """Writes the files under `root` (default: artifacts/NAME:vN) and returns it; each is checked by its SHA-256.

        Files that are there and right are left alone; others there stay too. `path_prefix`: only paths that begin so.
        Contents come from the cache where they are in it; `skip_cache` goes past it. `multipart` is taken and has no
        effect. Raises ContentMismatch (a ValueError) for what comes otherwise than stored, Unavailable, NotFound.
        """
        from runyard.artifacts.download import fetch

        return fetch(
            self._itself(),
            root,
            prefix=path_prefix or "",
            is_cached=not skip_cache,
            is_reference_optional=allow_missing_references,
        )

    def checkout(self, root: str | Path | None = None) -> str:
        """Writes the files under `root`, and removes all else there; returns it."""
        from runyard.artifacts.download import check_out

        return check_out(self._itself(), root)

    def verify(self, root: str | Path | None = None) -> None:
        """Raises ContentMismatch (a ValueError) that names files under `root` that are missing, changed or not of the artifact."""
        from runyard.artifacts.download import verify

        verify(self._itself(), root)

    def file(self, root: str | Path | None = None) -> str:
        """Downloads the only file of an artifact of one, and returns its path; raises InvalidArgument (a ValueError) else."""
        from runyard.artifacts.download import fetch_one

        artifact = self._itself()
        if artifact.file_count != 1:
            raise InvalidArgument(
                f"{artifact.name} holds {artifact.file_count} files, not one: download() fetches them all"
            )
        return fetch_one(artifact, next(iter(artifact)), root)

    def files(self, names: Sequence[str] | None = None, per_page: int = 50) -> list[Entry]:
        """Returns the entries by path, or those of the names."""
        if names is None:
            return list(self._itself())
        return [self._itself().get_entry(name) for name in names]

    def save(self, project: str | None = None, settings: Any = None) -> None:
        """Sends what was changed of description, metadata, aliases, tags and ttl."""
        artifact, record = self._itself(), self._version_record()
        fields: dict[str, Any] = {}
        if artifact.description != record.description:
            fields["description"] = artifact.description
        if artifact._metadata is not None and artifact.metadata_json() != record.metadata_json:
            fields["metadata_json"] = artifact.metadata_json()
        before, now = set(record.aliases) - {LATEST}, checked_aliases(artifact.aliases)
        fields["add_aliases"] = [alias for alias in now if alias not in before]
        fields["remove_aliases"] = sorted(before.difference(now))
        tags = list(dict.fromkeys(artifact.tags))
        fields["add_tags"] = [tag for tag in tags if tag not in record.tags]
        fields["remove_tags"] = [tag for tag in record.tags if tag not in tags]
        ttl_s = _ttl_s(artifact, record)
        if ttl_s is not None:
            fields["ttl_s"] = ttl_s
        if any(value or name in ("description", "ttl_s") for name, value in fields.items()):
            artifact._take(self._remote().update(fields), self._settings)

    def delete(self, delete_aliases: bool = False) -> DeletionReceipt:
        """Deletes the version and returns what that freed.

        Raises FailedPrecondition if it has aliases other than `latest` and `delete_aliases` is not set.
        """
        return self._remote().delete(is_with_aliases=delete_aliases)  # type: ignore[no-any-return]  # loaded by name

    def logged_by(self) -> Any:
        """Returns the run that logged it first, as `Api().run()` does; None if that is gone."""
        return self._remote().logged_by()

    def used_by(self) -> list[Any]:
        """Returns the runs that used it, as `Api().run()` does."""
        return list(self._remote().used_by())

    def lineage(self, depth: int = 1) -> Lineage:
        """Returns the runs and versions that it is linked to, that many links far, both ways."""
        return self._remote().lineage(depth)  # type: ignore[no-any-return]  # loaded by name

    def _itself(self) -> Artifact:
        """Returns this artifact; raises UsageError while it is no version."""
        self._version_record()
        return self  # type: ignore[return-value]  # the only class that this is a part of

    def _version_record(self) -> VersionRecord:
        raise NotImplementedError

    def _remote(self) -> Any:
        """Returns what asks the server; loaded now, so that a script which only logs loads no transport."""
        record = self._version_record()
        if self._remote_kept is None or self._remote_kept.record is not record:
            module = importlib.import_module("runyard.api_artifacts")
            self._remote_kept = module.RemoteVersion.of(record, self._settings)
        return self._remote_kept


def _ttl_s(artifact: Artifact, record: VersionRecord) -> int | None:
    """Returns the seconds from now to the end that was set; 0: no end; None: it was not changed."""
    told = record.expire_time_s
    if artifact.ttl is None:
        return 0 if told is not None else None
    end_s = (record.create_time_s or time.time()) + artifact.ttl.total_seconds()
    if told is not None and abs(end_s - told) < 1.0:
        return None
    return max(1, round(end_s - time.time()))
