"""The reference of ArtifactStore: dictionaries and plain searches; what the SQL adapter is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from runyard_server.domain.artifacts import (
    LATEST,
    ArtifactName,
    ArtifactSummary,
    ArtifactVersion,
    Deletion,
    Draft,
    Labels,
    LinkKind,
    VersionChange,
    VersionName,
    content_missing,
    draft_committed,
    has_aliases,
    later_expiry,
    merge_tags,
    no_artifact,
    no_draft,
    type_taken,
)
from runyard_server.domain.errors import InvalidArgument
from runyard_server.domain.manifests import (
    Manifest,
    content_size,
    line_content,
    line_path,
    packed_contents,
    read_line,
    unpack_lines,
)
from runyard_server.domain.run import RunKey
from runyard_server.storage.memory.artifact_links import MemoryLinks
from runyard_server.storage.ports.artifacts import (
    DraftEntries,
    EntryBatch,
    EntryPage,
    StoredEntry,
)

_Lines = tuple[bytes, ...]


@dataclass(slots=True)
class _Artifact:
    type: str
    next_number: int = 0
    latest: int | None = None
    versions: dict[int, ArtifactVersion] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Draft:
    draft: Draft
    use_time_unix_ns: int
    batches: list[EntryBatch] = field(default_factory=list)
    revision: int = 0
    lines: _Lines | None = None
    version_id: int | None = None
    is_unchanged: bool = False


class MemoryArtifactStore(MemoryLinks):
    """Keeps artifacts in memory."""

    def __init__(self) -> None:
        super().__init__()
        self._artifacts: dict[ArtifactName, _Artifact] = {}
        self._lines: dict[int, _Lines] = {}
        self._runs: dict[int, RunKey] = {}
        self._drafts: dict[str, _Draft] = {}
        self._version_count = 0

    # Drafts

    async def create_draft(self, draft: Draft) -> Draft:
        """Adds a draft and returns it, or the one that this run began with this request_id."""
        for held in self._drafts.values():
            if (held.draft.run_key, held.draft.request_id) == (draft.run_key, draft.request_id):
                return self._with_version(held)
        artifact = self._artifacts.get(draft.artifact)
        if artifact is not None and artifact.versions and artifact.type != draft.type:
            raise type_taken(draft.artifact, asked=draft.type, found=artifact.type)
        lines = self._find_manifest(draft.artifact.project_path, draft.digest)
        draft = replace(draft, is_present=lines is not None)
        self._drafts[draft.draft_id] = _Draft(draft, draft.create_time_unix_ns, lines=lines)
        return draft

    async def find_draft(self, draft_id: str) -> Draft | None:
        """Returns the draft, or None."""
        held = self._drafts.get(draft_id)
        return None if held is None else self._with_version(held)

    async def add_entries(
        self, draft_id: str, batch: EntryBatch, *, entries_max: int, time_unix_ns: int
    ) -> set[bytes]:
        """Adds a batch; returns the ids of contents whose bytes have not arrived."""
        held = self._held(draft_id)
        if held.version_id is not None:
            raise draft_committed(self._with_version(held))
        is_new = batch not in held.batches
        count = sum(one.entry_count for one in held.batches) + batch.entry_count
        if is_new and count > entries_max:
            raise InvalidArgument(
                "FIELD_TOO_LARGE",
                f"draft {draft_id} would have been given {count} entries, at most {entries_max} are taken",
                metadata={"field": "entries", "value": count, "limit": entries_max},
            )
        if not is_new:
            held.batches.remove(batch)
        held.batches.append(batch)
        held.revision += 1
        held.use_time_unix_ns = time_unix_ns
        objects = self._objects_of(held.draft.artifact.project_path)
        return {one for one in packed_contents(batch.packed) if one not in objects}

    async def read_entries(self, draft_id: str) -> DraftEntries:
        """Returns what the draft holds."""
        held = self._drafts.get(draft_id)
        if held is None:
            return DraftEntries((), 0)
        return DraftEntries(tuple(batch.packed for batch in held.batches), held.revision)

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
        held = self._held(draft_id)
        draft = held.draft
        if held.version_id is not None:
            version = self._with_version(held).version
            assert version is not None
            return version, held.is_unchanged
        artifact = self._artifacts.get(draft.artifact, _Artifact(draft.type))
        if artifact.versions and artifact.type != draft.type:
            raise type_taken(draft.artifact, asked=draft.type, found=artifact.type)
        found = next((v for v in artifact.versions.values() if v.digest == draft.digest), None)
        if found is not None:
            version = replace(
                found,
                tags=tuple(merge_tags(found.tags, add=labels.tags)),
                expire_time_unix_ns=later_expiry(
                    found.expire_time_unix_ns, labels.expire_time_unix_ns
                ),
                update_time_unix_ns=time_unix_ns,
            )
        elif held.lines is None and held.revision != revision:
            return None
        else:
            version = self._make_version(held, labels, manifest, artifact, time_unix_ns)
        artifact.type = draft.type
        self._artifacts[draft.artifact] = artifact
        artifact.versions[version.number] = version
        artifact.latest = version.number
        artifact.aliases.update(dict.fromkeys(labels.aliases, version.number))
        self._link(version, draft.run_key, draft.run_path, LinkKind.LOGGED, time_unix_ns)
        held.draft = replace(draft, is_present=False)
        held.batches, held.lines, held.version_id = [], None, version.version_id
        held.is_unchanged, held.use_time_unix_ns = found is not None, time_unix_ns
        self._release_unused()
        return self._with_aliases(version), found is not None

    def _make_version(
        self,
        held: _Draft,
        labels: Labels,
        manifest: Manifest | None,
        artifact: _Artifact,
        time_unix_ns: int,
    ) -> ArtifactVersion:
        draft = held.draft
        project_path = draft.artifact.project_path
        tags = tuple(merge_tags((), add=labels.tags))
        lines = held.lines or self._find_manifest(project_path, draft.digest)
        if lines is None:
            assert manifest is not None, "a draft that refers to no manifest needs one"
            lines = tuple(line for c in manifest.chunks for line in unpack_lines(c.packed))
            self._check_arrived(draft, lines)
        old = {
            content
            for version_id, kept in self._lines.items()
            if self._project_of(version_id) == project_path
            for content in _contents(kept)
        }
        self._version_count += 1
        version = ArtifactVersion(
            artifact=draft.artifact,
            type=draft.type,
            number=artifact.next_number,
            digest=draft.digest,
            entry_count=len(lines),
            size_bytes=sum(read_line(line).size_bytes for line in lines),
            added_bytes=sum(map(content_size, _contents(lines) - old)),
            create_time_unix_ns=time_unix_ns,
            update_time_unix_ns=time_unix_ns,
            logged_by=draft.run_path,
            description=draft.description,
            metadata_json=draft.metadata_json,
            tags=tags,
            expire_time_unix_ns=labels.expire_time_unix_ns,
            version_id=self._version_count,
        )
        artifact.next_number += 1
        self._lines[version.version_id] = lines
        self._runs[version.version_id] = draft.run_key
        return version

    def _check_arrived(self, draft: Draft, lines: _Lines) -> None:
        objects = self._objects_of(draft.artifact.project_path)
        waiting = [line for line in lines if (one := line_content(line)) and one not in objects]
        if waiting:
            raise content_missing(
                draft.draft_id,
                count=len(_contents(waiting)),
                path=line_path(waiting[0]).decode(),
            )

    async def list_drafts(self, *, used_before_unix_ns: int, limit: int) -> list[Draft]:
        """Returns drafts that nobody has used since that time, the oldest first."""
        found = [h for h in self._drafts.values() if h.use_time_unix_ns < used_before_unix_ns]
        found.sort(key=lambda held: (held.use_time_unix_ns, held.draft.draft_id))
        return [held.draft for held in found[:limit]]

    async def delete_draft(self, draft_id: str, *, used_before_unix_ns: int | None) -> bool:
        """Forgets a draft and what it refers to, unless it was used since; returns whether it did."""
        held = self._drafts.get(draft_id)
        if held is None:
            return False
        if used_before_unix_ns is not None and held.use_time_unix_ns >= used_before_unix_ns:
            return False
        del self._drafts[draft_id]
        self._release_unused()
        return True

    # Versions

    async def find_version(self, name: VersionName) -> ArtifactVersion | None:
        """Returns the version, or None."""
        artifact = self._artifacts.get(name.artifact)
        if artifact is None:
            return None
        number = name.number
        if number is None:
            number = artifact.latest if name.alias == LATEST else artifact.aliases.get(name.alias)
        version = None if number is None else artifact.versions.get(number)
        return None if version is None else self._with_aliases(version)

    async def has_artifact(self, artifact: ArtifactName) -> bool:
        """Returns whether the artifact is there or was."""
        return artifact in self._artifacts

    async def list_artifacts(
        self, project_path: str, *, type: str, name_contains: str, after_name: str, limit: int
    ) -> tuple[list[ArtifactSummary], int]:
        """Returns artifacts that have versions, by the bytes of their names, and how many match in all."""
        found = sorted(
            name.name
            for name, artifact in self._artifacts.items()
            if name.project_path == project_path
            and artifact.versions
            and type in ("", artifact.type)
            and name_contains.lower() in name.name.lower()
        )
        page: list[ArtifactSummary] = []
        for one in [name for name in found if name > after_name][:limit]:
            artifact = self._artifacts[ArtifactName(project_path, one)]
            assert artifact.latest is not None
            latest = self._with_aliases(artifact.versions[artifact.latest])
            page.append(ArtifactSummary(replace(latest, metadata_json=""), len(artifact.versions)))
        return page, len(found)

    async def list_versions(
        self, artifact: ArtifactName, *, before: int | None, limit: int
    ) -> tuple[list[ArtifactVersion], int]:
        """Returns versions, the newest first; and how many there are in all."""
        held = self._artifacts.get(artifact)
        versions = [] if held is None else sorted(held.versions.items(), reverse=True)
        page = [version for number, version in versions if before is None or number < before]
        return [self._with_aliases(version) for version in page[:limit]], len(versions)

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
        version = await self.find_version(VersionName(artifact, number))
        if version is None:
            return None
        objects = self._objects_of(artifact.project_path) if with_objects else {}
        lines = [
            line for line in self._lines[version.version_id] if line.startswith(prefix.encode())
        ]
        page = [line for line in lines if line_path(line) > after_path.encode()][:limit]
        entries = [
            StoredEntry(read_line(line), objects.get(line_content(line) or b"", ""))
            for line in page
        ]
        return EntryPage(entries, len(lines))

    async def update_version(
        self, name: VersionName, change: VersionChange
    ) -> ArtifactVersion | None:
        """Changes a version and returns it, None if there is none."""
        version = await self.find_version(name)
        if version is None:
            return None
        tags = merge_tags(version.tags, add=change.add_tags, remove=change.remove_tags)
        changed = replace(version, tags=tuple(tags), update_time_unix_ns=change.time_unix_ns)
        if change.description is not None:
            changed = replace(changed, description=change.description)
        if change.metadata_json is not None:
            changed = replace(changed, metadata_json=change.metadata_json)
        if change.is_expiry_set:
            changed = replace(changed, expire_time_unix_ns=change.expire_time_unix_ns)
        artifact = self._artifacts[name.artifact]
        artifact.versions[version.number] = changed
        for alias in change.remove_aliases:
            if artifact.aliases.get(alias) == version.number:
                del artifact.aliases[alias]
        artifact.aliases.update(dict.fromkeys(change.add_aliases, version.number))
        return self._with_aliases(changed)

    async def delete_versions(
        self,
        artifact: ArtifactName,
        numbers: Sequence[int],
        *,
        with_aliases: bool,
        expired_by_unix_ns: int | None = None,
    ) -> Deletion:
        """Removes versions, those that are not there passed over."""
        deletion = Deletion()
        removed: set[bytes] = set()
        for number in numbers:
            version = await self.find_version(VersionName(artifact, number))
            if version is None:
                continue
            aliases = [alias for alias in version.aliases if alias != LATEST]
            if expired_by_unix_ns is not None:
                expiry = version.expire_time_unix_ns
                if aliases or expiry is None or expiry > expired_by_unix_ns:
                    continue
            elif aliases and not with_aliases:
                raise has_aliases(VersionName(artifact, number), aliases)
            removed |= _contents(self._lines[version.version_id])
            deletion.versions += 1
            deletion.entries += version.entry_count
            deletion.released.extend(self._remove(version))
        left = self._referred(artifact.project_path)
        deletion.shared_bytes = sum(map(content_size, removed & left))
        return deletion

    def _remove(self, version: ArtifactVersion) -> list[tuple[str, int]]:
        artifact = self._artifacts[version.artifact]
        del artifact.versions[version.number]
        artifact.aliases = {a: n for a, n in artifact.aliases.items() if n != version.number}
        if artifact.latest == version.number:
            artifact.latest = max(artifact.versions, default=None)
        del self._lines[version.version_id]
        self._runs.pop(version.version_id, None)
        self._links = {k: v for k, v in self._links.items() if k[1] != version.version_id}
        return self._release_unused()

    async def list_expired(
        self, *, expired_by_unix_ns: int, limit: int
    ) -> list[tuple[ArtifactName, int]]:
        """Returns versions that expire until that time and have no aliases but LATEST."""
        found = [
            version
            for artifact in self._artifacts.values()
            for number, version in artifact.versions.items()
            if version.expire_time_unix_ns is not None
            and version.expire_time_unix_ns <= expired_by_unix_ns
            and number not in artifact.aliases.values()
        ]
        found.sort(key=lambda version: (version.expire_time_unix_ns or 0, version.version_id))
        return [(version.artifact, version.number) for version in found[:limit]]

    async def purge_run(self, run_key: RunKey) -> int:
        """Forgets a run: its links, its drafts, and that it logged versions."""
        drafts = [key for key, held in self._drafts.items() if held.draft.run_key == run_key]
        for key in drafts:
            del self._drafts[key]
        links = [key for key in self._links if key[0] == run_key]
        for link in links:
            del self._links[link]
        for version in list(self._versions()):
            if self._runs.get(version.version_id) == run_key:
                cleared = replace(version, logged_by="")
                self._artifacts[version.artifact].versions[version.number] = cleared
                del self._runs[version.version_id]
        self._release_unused()
        return len(drafts) + len(links)

    # What refers to what

    def _referred(self, project_path: str) -> set[bytes]:
        """Returns the contents of a project that entries of versions or drafts refer to."""
        found: set[bytes] = set()
        for version in self._versions():
            if version.artifact.project_path == project_path:
                found |= _contents(self._lines[version.version_id])
        for held in self._drafts.values():
            if held.draft.artifact.project_path == project_path:
                found |= _contents(held.lines or ())
                for batch in held.batches:
                    found |= packed_contents(batch.packed)
        return found

    def _find_manifest(self, project_path: str, digest: bytes) -> _Lines | None:
        for version in self._versions():
            if (version.artifact.project_path, version.digest) == (project_path, digest):
                return self._lines[version.version_id]
        for held in self._drafts.values():
            where = (held.draft.artifact.project_path, held.draft.digest)
            if held.lines is not None and where == (project_path, digest):
                return held.lines
        return None

    def _versions(self) -> Iterable[ArtifactVersion]:
        for artifact in self._artifacts.values():
            yield from artifact.versions.values()

    def _project_of(self, version_id: int) -> str:
        found = (v.artifact for v in self._versions() if v.version_id == version_id)
        return next(found).project_path

    def _held(self, draft_id: str) -> _Draft:
        held = self._drafts.get(draft_id)
        if held is None:
            raise no_draft(draft_id)
        return held

    def _touch_draft(self, draft_id: str, time_unix_ns: int) -> None:
        if draft_id in self._drafts:
            self._drafts[draft_id].use_time_unix_ns = time_unix_ns

    def _with_version(self, held: _Draft) -> Draft:
        if held.version_id is None:
            return held.draft
        for version in self._versions():
            if version.version_id == held.version_id:
                return replace(held.draft, version=self._with_aliases(version))
        raise no_artifact(held.draft.artifact.path)

    def _with_aliases(self, version: ArtifactVersion) -> ArtifactVersion:
        artifact = self._artifacts[version.artifact]
        names = sorted(a for a, number in artifact.aliases.items() if number == version.number)
        latest = [LATEST] if artifact.latest == version.number else []
        return replace(version, aliases=(*latest, *names))


def _contents(lines: Iterable[bytes]) -> set[bytes]:
    return {content for line in lines if (content := line_content(line)) is not None}
