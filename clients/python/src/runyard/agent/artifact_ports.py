"""What sending artifacts needs of a server: drafts, entries, contents and commits; see files.v1.ArtifactsService."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from runyard.artifacts.records import VersionRecord

if TYPE_CHECKING:
    from runyard.agent.ports import FileDigest, UploadPlan


@dataclasses.dataclass(frozen=True)
class Draft:
    """What CreateDraft answered."""

    draft_id: str
    version: VersionRecord | None = None
    """Set if it was committed already."""
    is_present: bool = False
    """Whether a version with these entries exists: none need to be added."""


@dataclasses.dataclass
class ManifestEntry:
    """A line of a manifest."""

    path: str
    size_bytes: int
    sha256: bytes
    """Empty for a reference."""
    reference: str = ""
    etag: str = ""
    source: str = ""
    """The file that holds the bytes; "" for a reference, and where the server is known to have them."""


class ArtifactCalls(Protocol):
    """The part of a Transport that is about artifacts; the same promises."""

    async def create_draft(self, run_path: str, request: Mapping[str, Any]) -> Draft:
        """Begins a version; `request` is the content of an ARTIFACT record."""

    async def add_entries(self, draft_id: str, entries: Sequence[ManifestEntry]) -> Sequence[int]:
        """Adds at most 2,000 entries; returns the positions of those whose contents have to be sent."""

    async def create_content_uploads(
        self, draft_id: str, digests: Sequence[FileDigest]
    ) -> Sequence[UploadPlan]:
        """Announces at most 100 contents; returns where each goes, in order."""

    async def complete_content_uploads(self, uploads: Sequence[tuple[str, Sequence[str]]]) -> None:
        """Ends at most 100 uploads, each given by its id and the ETags of its parts."""

    async def commit_draft(
        self, draft_id: str, request: Mapping[str, Any]
    ) -> tuple[VersionRecord, bool]:
        """Makes it a version; returns that, and whether it was there before."""
