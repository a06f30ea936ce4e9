"""Frees what nothing refers to: uploads that were abandoned, and objects that lost their last name."""

from __future__ import annotations

import asyncio
import logging

from prometheus_client import Counter

from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import DomainError
from runyard_server.domain.run import RunKey
from runyard_server.storage.ports.blobs import BlobStore
from runyard_server.storage.ports.files import FilesFreed, FileStore, ReleasedObject

EVENT_PURGE_FAILED = "purge_failed"
EVENT_PURGED = "purged"

UPLOADS_PURGED = Counter(
    "runyard_uploads_purged_total", "Uploads forgotten, by whether they had completed.", ["kind"]
)
OBJECTS_PURGED = Counter("runyard_objects_purged_total", "Objects removed from the object store.")
BYTES_PURGED = Counter("runyard_objects_purged_bytes_total", "Bytes of objects removed.")

_BATCH_COUNT = 500
_NS_PER_S = 1_000_000_000

log = logging.getLogger("runyard.files")


class Purge:
    """Looks for what is to be freed, at intervals."""

    def __init__(
        self, *, files: FileStore, blobs: BlobStore, clock: Clock, upload_age_max_s: float
    ) -> None:
        self._files = files
        self._blobs = blobs
        self._clock = clock
        self._upload_age_max_s = upload_age_max_s

    async def run(self, *, interval_s: float) -> None:
        """Purges until cancelled; what fails is tried again in the next round."""
        while True:
            try:
                await self.purge()
            except DomainError as error:
                log.warning(EVENT_PURGE_FAILED, extra={"fields": {"message": error.message}})
            await asyncio.sleep(interval_s)

    async def purge(self) -> None:
        """Forgets old uploads and removes released objects. Raises Unavailable; safe to repeat."""
        upload_count = await self._forget_old_uploads()
        freed_bytes = 0
        while released := await self._files.list_released(limit=_BATCH_COUNT):
            freed_bytes += await self.remove(released)
        if upload_count or freed_bytes:
            fields = {"uploads": upload_count, "freed_bytes": freed_bytes}
            log.info(EVENT_PURGED, extra={"fields": fields})

    async def purge_run(self, run_key: RunKey) -> FilesFreed:
        """Removes all files of a run, and what is on its way; returns what that freed. Raises Unavailable; safe to repeat."""
        while uploads := await self._files.list_run_uploads(run_key, limit=_BATCH_COUNT):
            for upload in uploads:
                if upload.completed_file is None and upload.multipart_id:
                    await self._blobs.abort_multipart(upload.object_key, upload.multipart_id)
                await self._files.delete_upload(upload.upload_id)
        count = 1
        while count:
            count, released = await self._files.purge_files(run_key, limit=_BATCH_COUNT)
            if released:
                await self.remove(released)
        # Also what an earlier purge released and could not remove, and objects of uploads that never completed.
        while released := await self._files.list_released(limit=_BATCH_COUNT):
            await self.remove(released)
        return await self._files.read_purge(run_key)

    async def remove(self, released: list[ReleasedObject]) -> int:
        """Removes released objects from the object store and returns their bytes. Raises Unavailable."""
        keys = [item.object_key for item in released]
        await self._blobs.delete(keys)
        await self._files.confirm_released(keys)
        freed_bytes = sum(item.size_bytes for item in released)
        OBJECTS_PURGED.inc(len(keys))
        BYTES_PURGED.inc(freed_bytes)
        return freed_bytes

    async def _forget_old_uploads(self) -> int:
        before = self._clock.now_unix_ns() - round(self._upload_age_max_s * _NS_PER_S)
        count = 0
        while uploads := await self._files.list_uploads(
            created_before_unix_ns=before, limit=_BATCH_COUNT
        ):
            for upload in uploads:
                is_abandoned = upload.completed_file is None
                if is_abandoned and upload.multipart_id:
                    await self._blobs.abort_multipart(upload.object_key, upload.multipart_id)
                await self._files.delete_upload(upload.upload_id)
                UPLOADS_PURGED.labels("abandoned" if is_abandoned else "completed").inc()
            count += len(uploads)
        return count
