"""Frees what artifacts do not need: versions past their time, drafts and uploads that were abandoned, objects without references."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from prometheus_client import Counter

from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import DomainError
from runyard_server.storage.ports.artifacts import ArtifactStore
from runyard_server.storage.ports.blobs import BlobStore

EVENT_ARTIFACT_PURGE_FAILED = "artifact_purge_failed"
EVENT_ARTIFACTS_PURGED = "artifacts_purged"

FORGOTTEN = Counter(
    "runyard_artifacts_forgotten_total",
    "Versions that expired, drafts and uploads that were forgotten, by kind.",
    ["kind"],
)
CONTENTS_PURGED = Counter(
    "runyard_contents_purged_total", "Contents removed from the object store."
)
CONTENT_BYTES_PURGED = Counter("runyard_contents_purged_bytes_total", "Bytes of contents removed.")

_BATCH_COUNT = 500
_NS_PER_S = 1_000_000_000

log = logging.getLogger("runyard.files")


class ArtifactPurge:
    """Looks for what is to be freed, at intervals."""

    def __init__(
        self,
        *,
        store: ArtifactStore,
        blobs: BlobStore,
        clock: Clock,
        draft_age_max_s: float,
        upload_age_max_s: float,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._draft_age_max_s = draft_age_max_s
        self._upload_age_max_s = upload_age_max_s

    async def run(self, *, interval_s: float) -> None:
        """Purges until cancelled; what fails is tried again in the next round."""
        while True:
            try:
                await self.purge()
            except DomainError as error:
                fields = {"message": error.message}
                log.warning(EVENT_ARTIFACT_PURGE_FAILED, extra={"fields": fields})
            await asyncio.sleep(interval_s)

    async def purge(self) -> None:
        """Does one round. Raises Unavailable; safe to repeat."""
        version_count = await self._remove_expired()
        draft_count = await self._forget_drafts()
        await self._forget_uploads()
        freed_bytes = 0
        while released := await self._store.list_released(limit=_BATCH_COUNT):
            pairs = [(item.object_key, item.size_bytes) for item in released]
            freed_bytes += await self.remove(pairs)
        if version_count or draft_count or freed_bytes:
            fields = {
                "versions": version_count,
                "drafts": draft_count,
                "freed_bytes": freed_bytes,
            }
            log.info(EVENT_ARTIFACTS_PURGED, extra={"fields": fields})

    async def remove(self, released: Sequence[tuple[str, int]]) -> int:
        """Removes released objects, as key and size, from the object store and returns their bytes. Raises Unavailable."""
        keys = [key for key, _ in released]
        await self._blobs.delete(keys)
        await self._store.confirm_released(keys)
        freed_bytes = sum(size for _, size in released)
        CONTENTS_PURGED.inc(len(keys))
        CONTENT_BYTES_PURGED.inc(freed_bytes)
        return freed_bytes

    async def _remove_expired(self) -> int:
        now_unix_ns = self._clock.now_unix_ns()
        count = 0
        while expired := await self._store.list_expired(
            expired_by_unix_ns=now_unix_ns, limit=_BATCH_COUNT
        ):
            removed = 0
            for artifact, number in expired:
                deletion = await self._store.delete_versions(
                    artifact, [number], with_aliases=False, expired_by_unix_ns=now_unix_ns
                )
                removed += deletion.versions
            FORGOTTEN.labels("version").inc(removed)
            count += removed
            if not removed:
                break  # Each got an alias or a later time meanwhile.
        return count

    async def _forget_drafts(self) -> int:
        before = self._before(self._draft_age_max_s)
        count = 0
        while drafts := await self._store.list_drafts(
            used_before_unix_ns=before, limit=_BATCH_COUNT
        ):
            forgotten = 0
            for draft in drafts:
                forgotten += await self._store.delete_draft(
                    draft.draft_id, used_before_unix_ns=before
                )
            FORGOTTEN.labels("draft").inc(forgotten)
            count += forgotten
            if not forgotten:
                break
        return count

    async def _forget_uploads(self) -> None:
        before = self._before(self._upload_age_max_s)
        while uploads := await self._store.list_uploads(
            created_before_unix_ns=before, limit=_BATCH_COUNT
        ):
            for upload in uploads:
                if not upload.is_complete and upload.multipart_id:
                    await self._blobs.abort_multipart(upload.object_key, upload.multipart_id)
                await self._store.delete_upload(upload.upload_id)
                FORGOTTEN.labels("upload").inc()

    def _before(self, age_s: float) -> int:
        return self._clock.now_unix_ns() - round(age_s * _NS_PER_S)
