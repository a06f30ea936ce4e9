"""Artifacts as users see them: versions by name and alias, their entries, changes, deletions, uses and lineage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from prometheus_client import Counter

from runyard_server.domain.artifacts import (
    LATEST,
    ArtifactName,
    ArtifactSummary,
    ArtifactVersion,
    LinkKind,
    VersionChange,
    VersionName,
    has_aliases,
    no_artifact,
)
from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import Unavailable
from runyard_server.domain.extended_json import read_object
from runyard_server.domain.manifests import Entry
from runyard_server.domain.page_tokens import clamp_page_size, make_page_token, read_page_token
from runyard_server.domain.projects import Project
from runyard_server.domain.run import RunDocument, RunKey, split_project_path
from runyard_server.files import artifact_names as names
from runyard_server.files.artifact_purge import ArtifactPurge
from runyard_server.files.lineage import DEPTH_MAX, Lineage, trace
from runyard_server.files.names import choose_content_type, download_headers
from runyard_server.storage.ports.artifacts import ArtifactStore, StoredEntry
from runyard_server.storage.ports.blobs import BlobStore

DELETE_COUNT_MAX = 1_000
METADATA_PAGE_BYTES = 8 * 1024**2
"""Metadata of one page of versions."""
_VERSIONS_AT_ONCE = 32
_REMOVED_AT_ONCE = 500
_REMOVE_TIME_MAX_S = 15.0
_NS_PER_S = 1_000_000_000

Row = TypeVar("Row")

DELETED = Counter("runyard_artifact_versions_deleted_total", "Versions that users deleted.")


class Metadata(Protocol):
    """What artifacts ask of metadata; rpc.siblings.Siblings has it."""

    async def get_run(
        self, *, path: str | None = None, run_key: RunKey | None = None
    ) -> RunDocument:
        """Returns the run; raises NotFound RUN_NOT_FOUND, FailedPrecondition RUN_DELETED, Unavailable."""
        ...

    async def get_project(self, path: str) -> Project:
        """Returns the project; raises NotFound PROJECT_NOT_FOUND, Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """A page of a list."""

    rows: list[Row]
    next_page_token: str
    total_count: int
    urls: list[str] | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a deletion freed."""

    versions: int
    entries: int
    freed_objects: int
    freed_bytes: int
    shared_bytes: int


class Artifacts:
    """Reads and changes versions."""

    def __init__(
        self,
        *,
        store: ArtifactStore,
        blobs: BlobStore,
        purge: ArtifactPurge,
        siblings: Metadata,
        clock: Clock,
        url_expiry_s: float,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._purge = purge
        self._siblings = siblings
        self._clock = clock
        self._url_expiry_s = url_expiry_s

    async def get(self, artifact_path: str) -> ArtifactVersion:
        """Returns a version; raises NotFound ARTIFACT_NOT_FOUND."""
        return await self._find(names.read_version_path(artifact_path))

    async def list_artifacts(
        self, project_path: str, *, type: str, name_contains: str, page_size: int, page_token: str
    ) -> Page[ArtifactSummary]:
        """Returns a page of a project's artifacts, by name."""
        split_project_path(project_path)
        query = f"artifacts {project_path} {type} {name_contains}"
        position = read_page_token(query, page_token, str)
        limit = clamp_page_size(page_size, default=100, limit=1_000)
        found, total_count = await self._store.list_artifacts(
            project_path,
            type=type,
            name_contains=name_contains,
            after_name=str(position[0]) if position else "",
            limit=limit + 1,
        )
        if not total_count:
            await self._siblings.get_project(project_path)
        is_last = len(found) <= limit
        token = "" if is_last else make_page_token(query, found[limit - 1].latest.artifact.name)
        return Page(found[:limit], token, total_count)

    async def list_versions(
        self, artifact_path: str, *, page_size: int, page_token: str
    ) -> Page[ArtifactVersion]:
        """Returns a page of versions, the newest first; raises NotFound ARTIFACT_NOT_FOUND if there is none."""
        artifact = names.read_artifact_path(artifact_path)
        query = f"versions {artifact_path}"
        position = read_page_token(query, page_token, int)
        before = int(position[0]) if position else None
        limit = clamp_page_size(page_size, default=100, limit=1_000)
        rows: list[ArtifactVersion] = []
        metadata_bytes = 0
        while True:
            wanted = min(_VERSIONS_AT_ONCE, limit - len(rows)) + 1
            found, total_count = await self._store.list_versions(
                artifact, before=before, limit=wanted
            )
            for version in found[: wanted - 1]:
                metadata_bytes += len(version.metadata_json)
                if rows and metadata_bytes > METADATA_PAGE_BYTES:
                    break
                rows.append(version)
                before = version.number
            is_last = len(found) < wanted and (not found or before == found[-1].number)
            if is_last or len(rows) == limit or metadata_bytes > METADATA_PAGE_BYTES:
                break
        if not total_count:
            raise no_artifact(artifact_path)
        token = "" if is_last or before is None else make_page_token(query, before)
        return Page(rows, token, total_count)

    async def list_entries(
        self,
        artifact_path: str,
        *,
        prefix: str,
        page_size: int,
        page_token: str,
        with_urls: bool,
        as_attachment: bool,
    ) -> Page[Entry]:
        """Returns a page of a version's entries, by path; all pages are of the version that the first one was of."""
        name = names.read_version_path(artifact_path)
        query = f"entries {artifact_path} {prefix}"
        position = read_page_token(query, page_token, int, str)
        if position:
            name = replace(name, number=int(position[0]))
        limit = clamp_page_size(page_size, default=1_000, limit=1_000 if with_urls else 5_000)
        version = await self._find(name)
        page = await self._store.list_entries(
            version.artifact,
            version.number,
            prefix=prefix,
            after_path=str(position[1]) if position else "",
            limit=limit + 1,
            with_objects=with_urls,
        )
        if page is None:
            raise no_artifact(name.path)
        shown, is_last = page.entries[:limit], len(page.entries) <= limit
        token = "" if is_last else make_page_token(query, version.number, shown[-1].entry.path)
        urls = None
        if with_urls:
            urls = [await self._sign(one, as_attachment=as_attachment) for one in shown]
        return Page([one.entry for one in shown], token, page.total_count, urls)

    async def _sign(self, stored: StoredEntry, *, as_attachment: bool) -> str:
        if not stored.object_key:
            return ""
        path = stored.entry.path
        content_type, disposition = download_headers(
            path, choose_content_type(path, ""), as_attachment=as_attachment
        )
        return await self._blobs.sign_get(
            stored.object_key,
            expiry_s=round(self._url_expiry_s),
            content_type=content_type,
            disposition=disposition,
        )

    async def update(
        self, artifact_path: str, change: VersionChange, *, ttl_s: int | None
    ) -> ArtifactVersion:
        """Changes a version; raises NotFound ARTIFACT_NOT_FOUND, InvalidArgument. Safe to repeat."""
        name = names.read_version_path(artifact_path)
        now_unix_ns = self._clock.now_unix_ns()
        checked = replace(
            change,
            time_unix_ns=now_unix_ns,
            add_aliases=names.check_aliases(change.add_aliases, field="add_aliases"),
            remove_aliases=names.check_aliases(change.remove_aliases, field="remove_aliases"),
            add_tags=names.check_tags(change.add_tags, field="add_tags"),
            remove_tags=names.check_tags(change.remove_tags, field="remove_tags"),
        )
        if change.description is not None:
            names.check_description(change.description)
        if change.metadata_json is not None:
            text = change.metadata_json or "{}"
            read_object(text, field="metadata_json", bytes_max=names.METADATA_BYTES_MAX)
            checked = replace(checked, metadata_json=text)
        if ttl_s is not None:
            names.check_ttl(ttl_s)
            expire_time = now_unix_ns + ttl_s * _NS_PER_S if ttl_s else None
            checked = replace(checked, is_expiry_set=True, expire_time_unix_ns=expire_time)
        version = await self._store.update_version(name, checked)
        if version is None:
            raise no_artifact(name.path)
        return version

    async def use(self, run_path: str, artifact_path: str) -> ArtifactVersion:
        """Records that a run uses a version; raises NotFound, FailedPrecondition RUN_DELETED. Safe to repeat."""
        name = names.read_version_path(artifact_path)
        run = await self._siblings.get_run(path=run_path)
        version = await self._store.link_run(
            name,
            run_key=run.run_key,
            run_path=run.path,
            kind=LinkKind.USED,
            time_unix_ns=self._clock.now_unix_ns(),
        )
        if version is None:
            raise no_artifact(name.path)
        return version

    async def get_lineage(self, run_path: str, artifact_path: str, *, depth: int) -> Lineage:
        """Returns what a run or a version is linked to."""
        if bool(run_path) == bool(artifact_path):
            raise names.invalid(
                "run_path", run_path, "must be given, or artifact_path, and not both"
            )
        if depth > DEPTH_MAX:
            raise names.invalid("depth", str(depth), f"is more than {DEPTH_MAX}", DEPTH_MAX)
        run_key, version_id = None, None
        if run_path:
            run_key = (await self._siblings.get_run(path=run_path)).run_key
        else:
            version_id = (await self.get(artifact_path)).version_id
        return await trace(self._store, run_key=run_key, version_id=version_id, depth=max(depth, 1))

    async def delete(
        self, version_paths: Sequence[str], artifact_path: str, *, with_aliases: bool
    ) -> Receipt:
        """Removes versions, or a whole artifact, and frees what only they referred to. Safe to repeat.

        What cannot be removed from the object store now is freed later and is not in the receipt.
        """
        if bool(version_paths) == bool(artifact_path):
            raise names.invalid(
                "version_paths", artifact_path, "must be given, or artifact_path, and not both"
            )
        if artifact_path:
            chosen = await self._all_versions(names.read_artifact_path(artifact_path))
        else:
            chosen = await self._choose_versions(version_paths)
        if not with_aliases:
            for version in chosen:
                aliases = [alias for alias in version.aliases if alias != LATEST]
                if aliases:
                    raise has_aliases(VersionName(version.artifact, version.number), aliases)
        return await self._delete(chosen, with_aliases=with_aliases)

    async def _all_versions(self, artifact: ArtifactName) -> list[ArtifactVersion]:
        if not await self._store.has_artifact(artifact):
            raise no_artifact(artifact.path)
        chosen: list[ArtifactVersion] = []
        before: int | None = None
        while True:
            found, _ = await self._store.list_versions(
                artifact, before=before, limit=_VERSIONS_AT_ONCE
            )
            chosen.extend(replace(version, metadata_json="") for version in found)
            if len(found) < _VERSIONS_AT_ONCE:
                return chosen
            before = found[-1].number

    async def _choose_versions(self, version_paths: Sequence[str]) -> list[ArtifactVersion]:
        names.check_count("version_paths", len(version_paths), DELETE_COUNT_MAX)
        for path in version_paths:
            if ":" not in path:
                raise names.invalid("version_paths", path, "names no version: add :vN or :ALIAS")
        wanted = [names.read_version_path(path, field="version_paths") for path in version_paths]
        found = [await self._store.find_version(name) for name in wanted]
        return [version for version in found if version is not None]

    async def _delete(self, chosen: Sequence[ArtifactVersion], *, with_aliases: bool) -> Receipt:
        numbers: dict[ArtifactName, list[int]] = {}
        for version in chosen:
            numbers.setdefault(version.artifact, []).append(version.number)
        versions = entries = freed_objects = freed_bytes = shared_bytes = 0
        for artifact, of_one in numbers.items():
            deletion = await self._store.delete_versions(
                artifact, sorted(set(of_one)), with_aliases=with_aliases
            )
            versions += deletion.versions
            entries += deletion.entries
            shared_bytes += deletion.shared_bytes
            objects, size = await self._free(deletion.released)
            freed_objects += objects
            freed_bytes += size
        DELETED.inc(versions)
        return Receipt(versions, entries, freed_objects, freed_bytes, shared_bytes)

    async def _free(self, released: Sequence[tuple[str, int]]) -> tuple[int, int]:
        """Removes released objects for as long as a call may take; the purge removes what is left."""
        end_s = self._clock.monotonic_s() + _REMOVE_TIME_MAX_S
        objects = freed_bytes = 0
        for first in range(0, len(released), _REMOVED_AT_ONCE):
            part = released[first : first + _REMOVED_AT_ONCE]
            try:
                freed_bytes += await self._purge.remove(part)
            except Unavailable:
                break
            objects += len(part)
            if self._clock.monotonic_s() > end_s:
                break
        return objects, freed_bytes

    async def _find(self, name: VersionName) -> ArtifactVersion:
        version = await self._store.find_version(name)
        if version is None:
            raise no_artifact(name.path)
        return version
