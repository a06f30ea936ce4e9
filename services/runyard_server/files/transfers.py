"""Bytes on their way into the object store: where their parts go, which have arrived, and whether the whole is what was announced."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from runyard_server.domain.errors import DomainError
from runyard_server.files import uploads
from runyard_server.files.uploads import Upload
from runyard_server.storage.ports.blobs import Blob, BlobStore


class Transfers:
    """Does what uploads of files and of contents have in common."""

    def __init__(self, blobs: BlobStore, *, url_expiry_s: float, is_etag_md5: bool) -> None:
        self._blobs = blobs
        self._url_expiry_s = url_expiry_s
        self._is_etag_md5 = is_etag_md5

    async def begin(self, object_key: str, parts: uploads.Parts, *, content_type: str) -> str:
        """Returns the id of a multipart upload for more than one part, else nothing. Raises Unavailable."""
        if parts.part_count == 1:
            return ""
        return await self._blobs.start_multipart(object_key, content_type=content_type)

    async def sign(self, upload: Upload) -> tuple[str, ...]:
        """Returns where to PUT each part."""
        expiry_s = round(self._url_expiry_s)
        if not upload.multipart_id:
            return (await self._blobs.sign_put(upload.object_key, expiry_s=expiry_s),)
        urls = [
            await self._blobs.sign_part_put(
                upload.object_key, upload.multipart_id, number, expiry_s=expiry_s
            )
            for number in range(1, upload.part_count + 1)
        ]
        return tuple(urls)

    async def find_arrived(self, upload: Upload) -> tuple[str, ...] | None:
        """Returns the ETag of each part of a begun upload that is there, "" for the others; None if it cannot go on.

        Raises Unavailable.
        """
        parts = None
        if upload.multipart_id:
            parts = await self._blobs.list_parts(upload.object_key, upload.multipart_id)
        if parts is not None:
            return uploads.arrived_etags(upload, parts, is_etag_md5=self._is_etag_md5)
        # A single PUT; or the object store has dropped the parts; or they were joined and that was not recorded: a process
        # was killed between.
        md5s = tuple(md5.hex() for md5 in upload.part_md5s)
        blob = await self._blobs.find(upload.object_key) if md5s and self._is_etag_md5 else None
        if blob is not None and blob.etag == uploads.whole_etag(upload, md5s):
            return md5s
        return None if upload.multipart_id else ("",)

    async def receive_all(
        self, arrivals: Sequence[tuple[Upload, Sequence[str]]]
    ) -> list[DomainError | None]:
        """Joins the parts where there are several, and checks that each object is what was announced; returns why one is not.

        Errors are InvalidArgument, FailedPrecondition FILE_CONTENT_MISMATCH, Unavailable. Objects of single PUTs are asked
        for together, as the store lists them.
        """
        answers: list[DomainError | None] = [None] * len(arrivals)
        single: list[int] = []
        joined: list[int] = []
        for index, (upload, etags) in enumerate(arrivals):
            try:
                uploads.check_etags(upload, etags, is_etag_md5=self._is_etag_md5)
            except DomainError as error:
                answers[index] = error
            else:
                (joined if upload.multipart_id else single).append(index)
        keys = [arrivals[index][0].object_key for index in single]
        try:
            blobs = await self._blobs.find_all(keys)
        except DomainError as error:
            answers = [error if index in single else old for index, old in enumerate(answers)]
            blobs, single = [], []
        late: list[int] = []
        for index, blob in zip(single, blobs, strict=True):
            if self._refusal(*arrivals[index], blob) is not None:
                late.append(index)
        # What a listing says against an object is not the last word: some tell another ETag there.
        asked = [*joined, *late]
        results = await asyncio.gather(*(self._receive(*arrivals[index]) for index in asked))
        for index, answer in zip(asked, results, strict=True):
            answers[index] = answer
        return answers

    async def _receive(self, upload: Upload, etags: Sequence[str]) -> DomainError | None:
        try:
            return self._refusal(upload, etags, await self._assemble(upload, etags))
        except DomainError as error:
            return error

    def _refusal(
        self, upload: Upload, etags: Sequence[str], arrived: Blob | None
    ) -> DomainError | None:
        try:
            uploads.check_arrived(upload, arrived, etags, is_etag_md5=self._is_etag_md5)
        except DomainError as error:
            return error
        return None

    async def _assemble(self, upload: Upload, etags: Sequence[str]) -> Blob | None:
        if upload.multipart_id:
            joined = await self._blobs.complete_multipart(
                upload.object_key, upload.multipart_id, etags
            )
            if joined is not None:
                return joined
            # Joined before, and the reply was lost: then the object is there.
        return await self._blobs.find(upload.object_key)
