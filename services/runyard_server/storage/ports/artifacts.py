"""Promises of the store of artifacts: which versions there are, what they hold, and which contents something refers to."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from runyard_server.domain.artifacts import (
    ArtifactName,
    ArtifactSummary,
    ArtifactVersion,
    Deletion,
    Draft,
    Labels,
    Link,
    LinkKind,
    VersionChange,
    VersionName,
)
from runyard_server.domain.manifests import Entry, Manifest
from runyard_server.domain.run import RunKey
from runyard_server.storage.ports.files import ReleasedObject


@dataclass(frozen=True, slots=True)
class EntryBatch:
    """Entries of one AddEntries, by path, each path once; packed as domain.manifests packs them."""

    packed: bytes
    entry_count: int


@dataclass(frozen=True, slots=True)
class DraftEntries:
    """What a draft holds: its batches, the older first, and a number that grows with each change of them."""

    batches: tuple[bytes, ...]
    revision: int


@dataclass(frozen=True, slots=True)
class ContentUpload:
    """A content on its way, announced by a draft."""

    upload_id: str
    draft_id: str
    project_path: str
    content_id: bytes
    object_key: str
    size_bytes: int
    part_bytes: int
    part_count: int
    part_md5s: tuple[bytes, ...]
    """MD5 of each part, 16 bytes each; empty if none were announced."""
    multipart_id: str
    """Id of the object store's multipart upload; empty for a single PUT."""
    create_time_unix_ns: int
    is_complete: bool = False

    @property
    def name(self) -> str:
        """Returns what errors call it."""
        return f"sha256:{self.content_id[:32].hex()}"


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An entry of a version, and where its bytes lie; no object for references."""

    entry: Entry
    object_key: str = ""


@dataclass(frozen=True, slots=True)
class EntryPage:
    """Entries of one version, by the bytes of their paths, and how many there are under the prefix in all."""

    entries: list[StoredEntry]
    total_count: int


class ArtifactStore(Protocol):
    """Keeps artifacts. Raises Unavailable if it does not answer.

    A content is kept exactly as long as an entry of a version or of a draft refers to it, whether its bytes have arrived or
    not. What loses its last reference loses its object in the same step; the object is then *released*: it waits in the
    store until it is confirmed gone. Each call is one transaction, but for delete_versions, which is one for each version.
    """

    async def create_draft(self, draft: Draft) -> Draft:
        """Adds a draft and returns it, or the one that this run began with this request_id, with the version it became.

        `is_present` tells whether the project has a manifest of this digest; the draft then refers to it. Raises
        FailedPrecondition ARTIFACT_TYPE_MISMATCH, NotFound ARTIFACT_NOT_FOUND (what it became was deleted).
        """
        ...

    async def find_draft(self, draft_id: str) -> Draft | None:
        """Returns the draft, or None. Raises NotFound ARTIFACT_NOT_FOUND if what it became was deleted."""
        ...

    async def add_entries(
        self, draft_id: str, batch: EntryBatch, *, entries_max: int, time_unix_ns: int
    ) -> set[bytes]:
        """Adds a batch, which from now on keeps its contents; returns the ids of those whose bytes have not arrived.

        A batch that is there already becomes the newest. Raises NotFound DRAFT_NOT_FOUND, FailedPrecondition
        DRAFT_COMMITTED, InvalidArgument FIELD_TOO_LARGE if all batches together would have more than `entries_max` entries.
        """
        ...

    async def read_entries(self, draft_id: str) -> DraftEntries:
        """Returns what the draft holds; nothing if there is no draft."""
        ...

    async def commit_draft(
        self,
        draft_id: str,
        labels: Labels,
        *,
        manifest: Manifest | None,
        revision: int,
        time_unix_ns: int,
    ) -> tuple[ArtifactVersion, bool] | None:
        """Makes the draft a version, or finds the artifact's version with its digest; returns that, and whether it was found.

        Aliases and LATEST move to it in the same step, tags are added, and the run is linked. A found version expires at the
        later of both times. A repeat returns the version as it now is and changes nothing. None if entries were added since
        `revision`. `manifest` is what was made of the entries as of `revision`; None if the draft refers to a manifest. Raises NotFound
        DRAFT_NOT_FOUND, ARTIFACT_NOT_FOUND; FailedPrecondition ARTIFACT_TYPE_MISMATCH, CONTENT_MISSING; InvalidArgument
        FIELD_TOO_LARGE for too many tags.
        """
        ...

    async def list_drafts(self, *, used_before_unix_ns: int, limit: int) -> list[Draft]:
        """Returns drafts, committed ones too, that nobody has used since that time, the oldest first; without their versions."""
        ...

    async def delete_draft(self, draft_id: str, *, used_before_unix_ns: int | None) -> bool:
        """Forgets a draft and what it refers to, unless it was used since; returns whether it did."""
        ...

    async def find_contents(
        self, project_path: str, content_ids: Collection[bytes]
    ) -> dict[bytes, str | None]:
        """Returns the contents that something refers to, with the keys of their objects; None for those that have not arrived."""
        ...

    async def find_open_uploads(
        self, draft_id: str, content_ids: Collection[bytes]
    ) -> dict[bytes, ContentUpload]:
        """Returns the draft's uploads of these contents that are not complete, the newest of each."""
        ...

    async def insert_uploads(self, uploads: Sequence[ContentUpload]) -> None:
        """Adds uploads."""
        ...

    async def renew_uploads(
        self, draft_id: str, upload_ids: Collection[str], *, time_unix_ns: int
    ) -> set[str]:
        """Makes the draft, and uploads that are not complete, as young as if made at that time; returns the ids of those that are there."""
        ...

    async def find_uploads(self, upload_ids: Collection[str]) -> list[ContentUpload]:
        """Returns the uploads that are there, complete or not, in any order."""
        ...

    async def complete_uploads(self, upload_ids: Collection[str], *, time_unix_ns: int) -> set[str]:
        """Gives contents their objects; returns the uploads whose content is there with its bytes.

        The object of an upload whose content has one already, or that nothing refers to any more, is released. A repeat
        changes nothing.
        """
        ...

    async def list_uploads(self, *, created_before_unix_ns: int, limit: int) -> list[ContentUpload]:
        """Returns uploads made before that time, complete ones too, oldest first."""
        ...

    async def delete_upload(self, upload_id: str) -> None:
        """Forgets an upload; if it was not complete, its object is released in the same step. Safe to repeat."""
        ...

    async def find_version(self, name: VersionName) -> ArtifactVersion | None:
        """Returns the version, or None."""
        ...

    async def has_artifact(self, artifact: ArtifactName) -> bool:
        """Returns whether the artifact is there, or was and has lost all its versions."""
        ...

    async def list_artifacts(
        self, project_path: str, *, type: str, name_contains: str, after_name: str, limit: int
    ) -> tuple[list[ArtifactSummary], int]:
        """Returns artifacts that have versions, by the bytes of their names, those after `after_name`; and how many match in all.

        Empty `type` and `name_contains` (which knows no case) match all. Metadata is left empty.
        """
        ...

    async def list_versions(
        self, artifact: ArtifactName, *, before: int | None, limit: int
    ) -> tuple[list[ArtifactVersion], int]:
        """Returns versions, the newest first, those before number `before`; and how many there are in all."""
        ...

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
        """Returns entries whose paths begin with `prefix`, those after `after_path`; None if there is no such version."""
        ...

    async def update_version(
        self, name: VersionName, change: VersionChange
    ) -> ArtifactVersion | None:
        """Changes a version and returns it, None if there is none. Aliases leave the versions that they pointed to.

        Raises InvalidArgument FIELD_TOO_LARGE for too many tags.
        """
        ...

    async def delete_versions(
        self,
        artifact: ArtifactName,
        numbers: Sequence[int],
        *,
        with_aliases: bool,
        expired_by_unix_ns: int | None = None,
    ) -> Deletion:
        """Removes versions, those that are not there passed over; LATEST moves to the highest number that is left.

        With `expired_by_unix_ns` only those that expire until then, and those with aliases are passed over. Raises
        FailedPrecondition ARTIFACT_HAS_ALIASES without `with_aliases`; versions before that one are then gone.
        """
        ...

    async def list_expired(
        self, *, expired_by_unix_ns: int, limit: int
    ) -> list[tuple[ArtifactName, int]]:
        """Returns versions that expire until that time and have no aliases but LATEST."""
        ...

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
        ...

    async def list_links(
        self, *, run_keys: Collection[RunKey], version_ids: Collection[int], limit: int
    ) -> list[Link]:
        """Returns links of these runs and of these versions, the oldest first."""
        ...

    async def read_versions(self, version_ids: Collection[int]) -> dict[int, ArtifactVersion]:
        """Returns those of the versions that are there, without metadata."""
        ...

    async def purge_run(self, run_key: RunKey) -> int:
        """Forgets a run: its links, its drafts, and that it logged versions; returns how many links and drafts. Safe to repeat."""
        ...

    async def list_released(self, *, limit: int) -> list[ReleasedObject]:
        """Returns released objects, in no order that means anything."""
        ...

    async def confirm_released(self, object_keys: Sequence[str]) -> None:
        """Forgets released objects that are gone from the object store."""
        ...
