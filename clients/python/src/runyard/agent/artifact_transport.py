"""The calls of a server's ArtifactsService; `ServerTransport` carries them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runyard.agent.artifact_ports import Draft, ManifestEntry
from runyard.agent.ports import FileDigest, UploadPlan
from runyard.artifacts.records import VersionRecord

CALL_TIMEOUT_S = 30.0
COMMIT_TIMEOUT_S = 120.0
"""A commit counts references of all entries, of which there may be very many."""


class ArtifactTransport:
    """See artifact_ports.ArtifactCalls. The messages are loaded when the first artifact is sent."""

    async def create_draft(self, run_path: str, request: Mapping[str, Any]) -> Draft:
        """Calls CreateDraft."""
        from runyard.agent import artifact_messages as messages

        call = messages.create_draft_request(run_path, request)
        return messages.draft(await self._artifact_call("CreateDraft", call))

    async def add_entries(self, draft_id: str, entries: Sequence[ManifestEntry]) -> Sequence[int]:
        """Calls AddEntries."""
        from runyard.agent import artifact_messages as messages

        call = messages.add_entries_request(draft_id, entries)
        return messages.missing(await self._artifact_call("AddEntries", call))

    async def create_content_uploads(
        self, draft_id: str, digests: Sequence[FileDigest]
    ) -> Sequence[UploadPlan]:
        """Calls CreateContentUploads."""
        from runyard.agent import artifact_messages as messages

        call = messages.create_content_uploads_request(draft_id, digests)
        return messages.content_plans(await self._artifact_call("CreateContentUploads", call))

    async def complete_content_uploads(self, uploads: Sequence[tuple[str, Sequence[str]]]) -> None:
        """Calls CompleteContentUploads."""
        from runyard.agent import artifact_messages as messages

        call = messages.complete_content_uploads_request(uploads)
        await self._artifact_call("CompleteContentUploads", call)

    async def commit_draft(
        self, draft_id: str, request: Mapping[str, Any]
    ) -> tuple[VersionRecord, bool]:
        """Calls CommitDraft."""
        from runyard.agent import artifact_messages as messages

        call = messages.commit_draft_request(draft_id, request)
        reply = await self._artifact_call("CommitDraft", call, timeout_s=COMMIT_TIMEOUT_S)
        return messages.committed(reply)

    async def _artifact_call(
        self, name: str, request: bytes, *, timeout_s: float = CALL_TIMEOUT_S
    ) -> bytes:
        method = f"/runyard.files.v1.ArtifactsService/{name}"
        return await self._call(method, request, timeout_s=timeout_s)

    async def _call(self, method: str, request: bytes, *, timeout_s: float) -> bytes:
        raise NotImplementedError
