"""The part of the agents' made-up server that keeps artifacts, as files.v1.ArtifactsService says."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from runyard.agent.artifact_ports import Draft, ManifestEntry
from runyard.agent.ports import FileDigest, UploadPlan
from runyard.artifacts.entries import Entry, by_path, manifest_digest
from runyard.artifacts.records import VersionRecord
from runyard.errors import Aborted, FailedPrecondition, InvalidArgument, NotFound


@dataclasses.dataclass
class MadeDraft:
    name: str
    type: str
    digest: str
    entries: dict[str, ManifestEntry] = dataclasses.field(default_factory=dict)
    version: VersionRecord | None = None


class FakeArtifacts:
    """Keeps drafts, contents and versions. `FakeServer` brings the chance with which calls fail."""

    parts: dict[str, bytes]
    artifact_part_bytes = 1 << 24

    def __init__(self) -> None:
        self.drafts: dict[str, MadeDraft] = {}
        self.contents: dict[bytes, bytes] = {}
        self.content_uploads: dict[str, FileDigest] = {}
        self.versions: dict[str, list[VersionRecord]] = {}
        self.entries_by_version: dict[str, dict[str, ManifestEntry]] = {}
        self.lots: list[int] = []
        """Entries of each AddEntries."""
        self.groups: list[int] = []
        """Contents of each CreateContentUploads."""
        self.refuse_draft: Exception | None = None
        self.content_count_max = 1000

    async def _meet(self, do: Callable[[], Any]) -> Any:
        raise NotImplementedError

    async def create_draft(self, run_path: str, request: Mapping[str, Any]) -> Draft:
        def do() -> Draft:
            if self.refuse_draft is not None:
                raise self.refuse_draft
            draft = self.drafts.setdefault(
                request["request_id"],
                MadeDraft(request["name"], request["type"], request["digest"]),
            )
            if draft.version is not None:
                return Draft("", draft.version)
            known = self.versions.get(draft.name, [])
            is_present = any(one.digest == draft.digest for one in known)
            return Draft(request["request_id"], None, is_present)

        answer: Draft = await self._meet(do)
        return answer

    async def add_entries(self, draft_id: str, entries: Sequence[ManifestEntry]) -> Sequence[int]:
        def do() -> list[int]:
            self.lots.append(len(entries))
            self._draft(draft_id).entries.update({entry.path: entry for entry in entries})
            return [
                index
                for index, entry in enumerate(entries)
                if entry.sha256 and entry.sha256 not in self.contents
            ]

        answer: list[int] = await self._meet(do)
        return answer

    async def create_content_uploads(
        self, draft_id: str, digests: Sequence[FileDigest]
    ) -> Sequence[UploadPlan]:
        def do() -> list[UploadPlan]:
            if len(digests) > self.content_count_max:
                raise InvalidArgument("too many contents", reason="FIELD_TOO_LARGE")
            self._draft(draft_id)
            self.groups.append(len(digests))
            return [self._plan_content(digest) for digest in digests]

        answer: list[UploadPlan] = await self._meet(do)
        return answer

    async def complete_content_uploads(self, uploads: Sequence[tuple[str, Sequence[str]]]) -> None:
        def do() -> None:
            for upload_id, etags in uploads:
                digest = self.content_uploads[upload_id]
                urls = [f"{upload_id}/{index:04d}" for index in range(len(etags))]
                content = b"".join(self.parts[url] for url in urls)
                if hashlib.sha256(content).digest() != digest.sha256:
                    raise FailedPrecondition("other bytes", reason="FILE_CONTENT_MISMATCH")
                self.contents[digest.sha256] = content

        await self._meet(do)

    async def commit_draft(
        self, draft_id: str, request: Mapping[str, Any]
    ) -> tuple[VersionRecord, bool]:
        def do() -> tuple[VersionRecord, bool]:
            draft = self._draft(draft_id)
            versions = self.versions.setdefault(draft.name, [])
            for known in versions:
                if known.digest == draft.digest:
                    draft.version = known
                    return known, True
            _check(draft, self.contents)
            record = VersionRecord(
                "e/p", draft.name, draft.type, len(versions), ("latest", *request.get("aliases", ())),
                tuple(request.get("tags", ())), str(request.get("description", "")), "{}", draft.digest,
                len(draft.entries), sum(e.size_bytes for e in draft.entries.values()), 0,
                "e/p/r", 1.0, 1.0, None,
            )  # fmt: skip
            versions.append(record)
            self.entries_by_version[record.path] = draft.entries
            draft.version = record
            return record, False

        answer: tuple[VersionRecord, bool] = await self._meet(do)
        return answer

    def _draft(self, draft_id: str) -> MadeDraft:
        if draft_id not in self.drafts:
            raise NotFound("no such draft", reason="DRAFT_NOT_FOUND")
        return self.drafts[draft_id]

    def _plan_content(self, digest: FileDigest) -> UploadPlan:
        if digest.sha256 in self.contents:
            return UploadPlan("", True, 0, ())
        count = max(1, -(-digest.size_bytes // self.artifact_part_bytes))
        upload_id = f"c{digest.sha256.hex()[:16]}-{count}"
        self.content_uploads[upload_id] = digest
        urls = [f"{upload_id}/{index:04d}" for index in range(count)]
        etags = [f"etag-{url}" if url in self.parts else "" for url in urls]
        return UploadPlan(upload_id, False, self.artifact_part_bytes, urls, etags)


def _check(draft: MadeDraft, contents: Mapping[bytes, bytes]) -> None:
    entries = [
        Entry(one.path, one.size_bytes, one.sha256, ref=one.reference, etag=one.etag)
        for one in draft.entries.values()
    ]
    if manifest_digest(by_path(entries)) != draft.digest:
        raise InvalidArgument("not the digest of the entries", reason="FILE_CONTENT_MISMATCH")
    if any(entry.sha256 and entry.sha256 not in contents for entry in entries):
        raise Aborted("contents are missing", reason="CONTENT_MISSING")
