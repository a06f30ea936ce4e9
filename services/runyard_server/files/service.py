"""The files service: names, uploads and downloads of runs' files; the bytes go straight to and from the object store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import grpc.aio
from prometheus_client import Counter

from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from runyard_server.domain.page_tokens import clamp_page_size, make_page_token, read_page_token
from runyard_server.domain.run import RunKey
from runyard_server.files import uploads
from runyard_server.files.archive import Archiver, Archives
from runyard_server.files.artifact_purge import ArtifactPurge
from runyard_server.files.artifacts import Artifacts, Metadata
from runyard_server.files.artifacts_handler import ArtifactsHandler
from runyard_server.files.contents import Contents
from runyard_server.files.drafts import Drafts
from runyard_server.files.handler import FilesHandler
from runyard_server.files.names import check_file_name, download_headers
from runyard_server.files.purge import Purge
from runyard_server.files.transfers import Transfers
from runyard_server.rpc.deleted_runs import check_purge_count, check_run_is_deleted
from runyard_server.storage.ports.artifacts import ArtifactStore
from runyard_server.storage.ports.blobs import BlobStore
from runyard_server.storage.ports.files import (
    HIDDEN_NAMES_END,
    FilesFreed,
    FileStore,
    StoredFile,
    Upload,
)

DELETE_COUNT_MAX = 1000
READ_BYTES_DEFAULT = 1024**2
READ_BYTES_MAX = 4 * 1024**2
"""Most bytes of a file that go through the services at once."""

UPLOADS = Counter(
    "runyard_uploads_total", "Uploads announced and completed, by result.", ["result"]
)
UPLOADED_BYTES = Counter("runyard_uploaded_bytes_total", "Bytes of completed uploads.")


@dataclass(frozen=True, slots=True)
class FilesConfig:
    """How files keeps the files of runs."""

    file_bytes_max: int = 5 * 1024**4
    """Largest file; at most what S3 allows for an object, 5 TiB."""
    part_bytes_min: int = 8 * 1024**2
    """Files up to this size are sent in one PUT, larger ones in parts of at least this size, unless the client wants others."""
    url_expiry_s: float = 3600.0
    """How long URLs for uploads and downloads are valid."""
    upload_age_max_s: float = 24 * 3600.0
    """Age at which an upload is forgotten and its parts are freed; longer than `url_expiry_s`."""
    purge_interval_s: float = 600.0
    """How often to look for what can be freed, and for versions of artifacts whose time is over."""
    draft_age_max_s: float = 7 * 24 * 3600.0
    """Age since its last use at which a version of an artifact that was begun is forgotten; longer than `url_expiry_s`."""
    artifact_entries_max: int = 300_000
    """Entries that one version of an artifact may have."""
    is_etag_md5: bool = True
    """Whether the object store's ETags are MD5s; False for buckets encrypted with KMS. Then only sizes are checked."""


@dataclass(frozen=True, slots=True)
class PlannedUpload:
    """What CreateUpload answers; `upload` is None if the run has these bytes already."""

    upload: Upload | None
    part_urls: tuple[str, ...] = ()
    part_etags: tuple[str, ...] = ()
    """ETags of parts that are there already, "" for the others; empty if none is."""


@dataclass(frozen=True, slots=True)
class FilePage:
    """A page of a run's files."""

    files: list[StoredFile]
    next_page_token: str
    total_count: int
    total_bytes: int


def build(
    config: FilesConfig,
    *,
    files: FileStore,
    artifacts: ArtifactStore,
    blobs: BlobStore,
    siblings: Metadata,
    clock: Clock,
    archiver: Archiver | None = None,
) -> FilesService:
    """Returns the service, not started; without an archiver it archives no logs, and has those that there are."""
    return FilesService(
        config,
        files=files,
        artifacts=artifacts,
        blobs=blobs,
        siblings=siblings,
        clock=clock,
        archiver=archiver,
    )


class FilesService:
    """Answers the calls of FilesService in the words of the domain."""

    name = "files"

    def __init__(
        self,
        config: FilesConfig,
        *,
        files: FileStore,
        artifacts: ArtifactStore,
        blobs: BlobStore,
        siblings: Metadata,
        clock: Clock,
        archiver: Archiver | None = None,
    ) -> None:
        self._config = config
        self.archives = Archives(files=files, blobs=blobs)
        """What runs printed, archived."""
        self._archiver = archiver
        self._files = files
        self._blobs = blobs
        self._siblings = siblings
        self._clock = clock
        self._transfers = Transfers(
            blobs, url_expiry_s=config.url_expiry_s, is_etag_md5=config.is_etag_md5
        )
        self._purge = Purge(
            files=files, blobs=blobs, clock=clock, upload_age_max_s=config.upload_age_max_s
        )
        self._artifact_store = artifacts
        self.artifact_purge = ArtifactPurge(
            store=artifacts,
            blobs=blobs,
            clock=clock,
            draft_age_max_s=config.draft_age_max_s,
            upload_age_max_s=config.upload_age_max_s,
        )
        self.drafts = Drafts(
            store=artifacts,
            runs=siblings,
            clock=clock,
            entry_count_max=config.artifact_entries_max,
        )
        self.contents = Contents(
            store=artifacts,
            transfers=self._transfers,
            clock=clock,
            size_bytes_max=config.file_bytes_max,
            part_bytes_min=config.part_bytes_min,
        )
        self.artifacts = Artifacts(
            store=artifacts,
            blobs=blobs,
            purge=self.artifact_purge,
            siblings=siblings,
            clock=clock,
            url_expiry_s=config.url_expiry_s,
        )

    def register(self, server: grpc.aio.Server) -> tuple[str, ...]:
        """Adds the servicers to the server."""
        artifacts = ArtifactsHandler(
            drafts=self.drafts, contents=self.contents, artifacts=self.artifacts
        )
        return FilesHandler(self).register(server) + artifacts.register(server)

    async def start(self) -> None:
        """Does nothing: the stores are started by the process."""

    async def run(self) -> None:
        """Frees what was abandoned, and archives logs, until cancelled."""
        interval_s = self._config.purge_interval_s
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._purge.run(interval_s=interval_s))
            tasks.create_task(self.artifact_purge.run(interval_s=interval_s))
            if self._archiver is not None:
                tasks.create_task(self._archiver.run())

    async def stop(self) -> None:
        """Does nothing: no work outlives its call."""

    async def create_upload(self, run_path: str, ask: uploads.Announcement) -> PlannedUpload:
        """Announces a file and returns where to send it. Safe to repeat: an upload in parts that was begun goes on."""
        ask = uploads.check_announcement(ask, size_bytes_max=self._config.file_bytes_max)
        parts = uploads.cut_into_parts(
            ask.size_bytes,
            part_bytes_min=self._config.part_bytes_min,
            wanted_bytes=ask.part_bytes,
        )
        uploads.check_part_md5s(ask.name, ask.part_md5s, parts)
        run = await self._siblings.get_run(path=run_path)
        if await self._has_content(run.run_key, ask):
            UPLOADS.labels("present").inc()
            return PlannedUpload(None)
        if parts.part_count > 1:
            begun = await self._go_on(run.run_key, ask, parts)
            if begun is not None:
                UPLOADS.labels("continued").inc()
                return begun
        upload_id = f"{self._clock.random_bits(128):032x}"
        object_key = uploads.make_object_key(run.run_key, ask.sha256, upload_id)
        multipart_id = await self._transfers.begin(object_key, parts, content_type=ask.content_type)
        upload = Upload(
            upload_id=upload_id,
            run_key=run.run_key,
            name=ask.name,
            object_key=object_key,
            size_bytes=ask.size_bytes,
            sha256=ask.sha256,
            content_type=ask.content_type,
            part_bytes=parts.part_bytes,
            part_count=parts.part_count,
            part_md5s=ask.part_md5s,
            multipart_id=multipart_id,
            create_time_unix_ns=self._clock.now_unix_ns(),
        )
        await self._files.insert_upload(upload)
        UPLOADS.labels("announced").inc()
        return PlannedUpload(upload, await self._transfers.sign(upload))

    async def complete_upload(self, upload_id: str, etags: Sequence[str]) -> StoredFile:
        """Makes an uploaded file visible if it is what was announced. Safe to repeat."""
        upload = await self._files.find_upload(upload_id)
        if upload is None:
            raise _unknown_upload(upload_id)
        if upload.completed_file is not None:
            return upload.completed_file
        try:
            await self._transfers.receive(upload, etags)
        except FailedPrecondition:
            UPLOADS.labels("mismatch").inc()
            raise
        file = await self._files.complete_upload(upload_id, time_unix_ns=self._clock.now_unix_ns())
        if file is None:
            raise _unknown_upload(upload_id)
        UPLOADS.labels("completed").inc()
        UPLOADED_BYTES.inc(file.size_bytes)
        return file

    async def list_files(
        self, run_path: str, *, prefix: str, page_size: int, page_token: str
    ) -> FilePage:
        """Returns a page of the run's files, by name, and how many there are in all."""
        query = f"files {run_path} {prefix}"
        position = read_page_token(query, page_token, str)
        after_name = str(position[0]) if position else ""
        limit = clamp_page_size(page_size, default=1000, limit=1000)
        run = await self._siblings.get_run(path=run_path)
        if "" < prefix <= HIDDEN_NAMES_END:
            return FilePage([], "", 0, 0)
        found, (total_count, total_bytes) = await asyncio.gather(
            self._files.list_files(
                run.run_key, prefix=prefix, after_name=after_name, limit=limit + 1
            ),
            self._files.count_files(run.run_key, prefix=prefix),
        )
        is_last = len(found) <= limit
        token = "" if is_last else make_page_token(query, found[limit - 1].name)
        return FilePage(found[:limit], token, total_count, total_bytes)

    async def get_file(
        self, run_path: str, name: str, *, as_attachment: bool
    ) -> tuple[StoredFile, str]:
        """Returns a file and where its bytes can be got from for a while."""
        file = await self._find(run_path, name)
        content_type, disposition = download_headers(
            file.name, file.content_type, as_attachment=as_attachment
        )
        url = await self._blobs.sign_get(
            file.object_key,
            expiry_s=round(self._config.url_expiry_s),
            content_type=content_type,
            disposition=disposition,
        )
        return file, url

    async def read_file(
        self, run_path: str, name: str, *, offset: int, max_bytes: int
    ) -> tuple[StoredFile, bytes]:
        """Returns a file and a piece of its bytes, which is empty behind its end."""
        file = await self._find(run_path, name)
        length = min(max_bytes or READ_BYTES_DEFAULT, READ_BYTES_MAX, file.size_bytes - offset)
        if length <= 0:
            return file, b""
        content = await self._blobs.get_range(file.object_key, offset, length)
        if content is None:
            raise _no_file(run_path, name)  # it was replaced or removed this very moment
        return file, content

    async def delete_files(self, run_path: str, names: Sequence[str]) -> tuple[int, int]:
        """Removes files; returns how many there were and how many bytes became free. Safe to repeat.

        If the object store is away, the bytes are freed later and are not in the count.
        """
        if len(names) > DELETE_COUNT_MAX:
            raise InvalidArgument(
                "FIELD_TOO_LARGE",
                f"names has {len(names)} entries, at most {DELETE_COUNT_MAX} fit one request",
                metadata={"field": "names", "value": len(names), "limit": DELETE_COUNT_MAX},
            )
        checked = [check_file_name(name) for name in names]
        run = await self._siblings.get_run(path=run_path)
        removed, released = await self._files.delete_files(run.run_key, checked)
        freed_bytes = 0
        if released:
            try:
                freed_bytes = await self._purge.remove(released)
            except Unavailable:
                pass  # They stay released in the store; the next purge removes them.
        return len(removed), freed_bytes

    async def purge_runs(self, run_keys: Sequence[RunKey]) -> list[FilesFreed]:
        """Removes all files of deleted runs; returns what was freed of each. Safe to repeat.

        Versions of artifacts that they logged stay, but no longer know by whom. Raises FailedPrecondition RUN_NOT_DELETED, Unavailable.
        """
        check_purge_count(run_keys)
        for run_key in run_keys:
            await check_run_is_deleted(self._siblings, run_key)
        for run_key in run_keys:
            await self._artifact_store.purge_run(run_key)
        if self._archiver is not None:
            await self._archiver.forget(run_keys)
        freed = [await self._purge.purge_run(run_key) for run_key in run_keys]
        if any(one.objects for one in freed):
            await self._blobs.reclaim()
        return freed

    async def _find(self, run_path: str, name: str) -> StoredFile:
        name = check_file_name(name)
        run = await self._siblings.get_run(path=run_path)
        file = await self._files.find_file(run.run_key, name)
        if file is None:
            raise _no_file(run_path, name)
        return file

    async def _has_content(self, run_key: RunKey, ask: uploads.Announcement) -> bool:
        """Returns whether the run has these bytes, under this name from now on."""
        named = await self._files.find_file(run_key, ask.name)
        if named is not None and (named.sha256, named.size_bytes) == (ask.sha256, ask.size_bytes):
            return True
        other = await self._files.find_content(run_key, ask.sha256)
        if other is None or other.size_bytes != ask.size_bytes:
            return False
        return await self._files.link_file(
            StoredFile(
                run_key=run_key,
                name=ask.name,
                object_key=other.object_key,
                size_bytes=ask.size_bytes,
                sha256=ask.sha256,
                content_type=ask.content_type,
                update_time_unix_ns=self._clock.now_unix_ns(),
            )
        )

    async def _go_on(
        self, run_key: RunKey, ask: uploads.Announcement, parts: uploads.Parts
    ) -> PlannedUpload | None:
        """Returns the upload of the same bytes under the same name that was begun, with the parts that have arrived."""
        upload = await self._files.find_open_upload(
            run_key, ask.name, ask.sha256, part_count=parts.part_count
        )
        if upload is None:
            return None
        same = (upload.size_bytes, upload.part_bytes, upload.part_md5s, upload.content_type)
        if same != (ask.size_bytes, parts.part_bytes, ask.part_md5s, ask.content_type):
            return None
        etags = await self._transfers.find_arrived(upload)
        if etags is None:
            return None
        # What the purge has forgotten meanwhile cannot go on.
        now_unix_ns = self._clock.now_unix_ns()
        if not await self._files.renew_upload(upload.upload_id, time_unix_ns=now_unix_ns):
            return None
        return PlannedUpload(upload, await self._transfers.sign(upload), etags)


def _no_file(run_path: str, name: str) -> NotFound:
    return NotFound(
        "FILE_NOT_FOUND",
        f"run {run_path} has no file {name!r}; its upload may not be complete yet",
        metadata={"run": run_path, "file": name},
    )


def _unknown_upload(upload_id: str) -> NotFound:
    return NotFound(
        "FILE_NOT_FOUND",
        f"there is no upload {upload_id[:64]!r}, or it was abandoned; announce the file again",
        metadata={"file": upload_id[:64]},
    )
