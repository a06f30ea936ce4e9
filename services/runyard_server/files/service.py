"""The files service: names, uploads and downloads of runs' files; the bytes go straight to and from the object store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import grpc.aio

from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import (
    DomainError,
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
from runyard_server.files.file_uploads import FileUploads, PlannedUpload, check_upload_count
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
)

DELETE_COUNT_MAX = 1000
READ_BYTES_DEFAULT = 1024**2
READ_BYTES_MAX = 4 * 1024**2
"""Most bytes of a file that go through the services at once."""


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
    purge_interval_s: float = 60.0
    """How often to look for what can be freed, and for versions of artifacts whose time is over."""
    draft_age_max_s: float = 7 * 24 * 3600.0
    """Age since its last use at which a version of an artifact that was begun is forgotten; longer than `url_expiry_s`."""
    artifact_entries_max: int = 300_000
    """Entries that one version of an artifact may have."""
    is_etag_md5: bool = True
    """Whether the object store's ETags are MD5s; False for buckets encrypted with KMS. Then only sizes are checked."""


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
        self._uploads = FileUploads(
            files=files,
            transfers=self._transfers,
            clock=clock,
            size_bytes_max=config.file_bytes_max,
            part_bytes_min=config.part_bytes_min,
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

    async def create_uploads(
        self, run_path: str, asks: Sequence[uploads.Announcement]
    ) -> list[PlannedUpload | DomainError]:
        """Announces files and returns where to send each, or why it is refused. Safe to repeat."""
        check_upload_count("uploads", len(asks))
        run = await self._siblings.get_run(path=run_path)
        return await self._uploads.create(run.run_key, asks)

    async def create_upload(self, run_path: str, ask: uploads.Announcement) -> PlannedUpload:
        """Announces a file and returns where to send it. Safe to repeat: an upload in parts that was begun goes on."""
        [answer] = await self.create_uploads(run_path, [ask])
        if isinstance(answer, DomainError):
            raise answer
        return answer

    async def complete_uploads(
        self, arrivals: Sequence[tuple[str, Sequence[str]]]
    ) -> list[StoredFile | DomainError]:
        """Makes uploaded files visible if they are what was announced, or says why not. Safe to repeat."""
        check_upload_count("uploads", len(arrivals))
        return await self._uploads.complete(arrivals)

    async def complete_upload(self, upload_id: str, etags: Sequence[str]) -> StoredFile:
        """Makes an uploaded file visible if it is what was announced. Safe to repeat."""
        [answer] = await self.complete_uploads([(upload_id, etags)])
        if isinstance(answer, DomainError):
            raise answer
        return answer

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


def _no_file(run_path: str, name: str) -> NotFound:
    return NotFound(
        "FILE_NOT_FOUND",
        f"run {run_path} has no file {name!r}; its upload may not be complete yet",
        metadata={"run": run_path, "file": name},
    )
