"""Turns messages of files.v1 into the domain's words and back; decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc.aio

from runyard_protos.files.v1 import files_pb2 as pb
from runyard_protos.files.v1 import files_pb2_grpc as pb_grpc
from runyard_server.domain.errors import DomainError
from runyard_server.domain.run import RunKey
from runyard_server.files.file_uploads import PlannedUpload
from runyard_server.files.uploads import Announcement
from runyard_server.rpc.errors import status_code
from runyard_server.rpc.message_values import timestamp_from_unix_ns
from runyard_server.storage.ports.files import StoredFile

if TYPE_CHECKING:
    from runyard_server.files.service import FilesService

_FULL_NAME = "runyard.files.v1.FilesService"


class FilesHandler(pb_grpc.FilesServiceServicer):
    """Answers the RPCs of FilesService; see the proto for what each promises."""

    def __init__(self, service: FilesService) -> None:
        self._service = service

    def register(self, server: grpc.aio.Server) -> tuple[str, ...]:
        """Adds itself to the server and returns the full names it serves."""
        pb_grpc.add_FilesServiceServicer_to_server(self, server)
        return (_FULL_NAME,)

    async def CreateUpload(
        self, request: pb.CreateUploadRequest, context: Any
    ) -> pb.CreateUploadResponse:
        planned = await self._service.create_upload(request.run_path, _announcement(request))
        return _plan_message(planned)

    async def CreateUploads(
        self, request: pb.CreateUploadsRequest, context: Any
    ) -> pb.CreateUploadsResponse:
        asks = [_announcement(upload) for upload in request.uploads]
        answers = await self._service.create_uploads(request.run_path, asks)
        return pb.CreateUploadsResponse(
            answers=[
                _refusal_message(answer)
                if isinstance(answer, DomainError)
                else pb.UploadAnswer(plan=_plan_message(answer))
                for answer in answers
            ]
        )

    async def CompleteUpload(
        self, request: pb.CompleteUploadRequest, context: Any
    ) -> pb.CompleteUploadResponse:
        file = await self._service.complete_upload(request.upload_id, list(request.part_etags))
        return pb.CompleteUploadResponse(file=_file_message(file))

    async def CompleteUploads(
        self, request: pb.CompleteUploadsRequest, context: Any
    ) -> pb.CompleteUploadsResponse:
        arrivals = [(upload.upload_id, list(upload.part_etags)) for upload in request.uploads]
        answers = await self._service.complete_uploads(arrivals)
        return pb.CompleteUploadsResponse(
            answers=[
                _refusal_message(answer)
                if isinstance(answer, DomainError)
                else pb.UploadAnswer(file=_file_message(answer))
                for answer in answers
            ]
        )

    async def ListFiles(self, request: pb.ListFilesRequest, context: Any) -> pb.ListFilesResponse:
        page = await self._service.list_files(
            request.run_path,
            prefix=request.prefix,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return pb.ListFilesResponse(
            files=[_file_message(file) for file in page.files],
            next_page_token=page.next_page_token,
            total_count=page.total_count,
            total_bytes=page.total_bytes,
        )

    async def GetFile(self, request: pb.GetFileRequest, context: Any) -> pb.GetFileResponse:
        file, url = await self._service.get_file(
            request.run_path, request.name, as_attachment=request.as_attachment
        )
        return pb.GetFileResponse(file=_file_message(file), download_url=url)

    async def ReadFile(self, request: pb.ReadFileRequest, context: Any) -> pb.ReadFileResponse:
        file, content = await self._service.read_file(
            request.run_path, request.name, offset=request.offset, max_bytes=request.max_bytes
        )
        return pb.ReadFileResponse(file=_file_message(file), content=content)

    async def DeleteFiles(
        self, request: pb.DeleteFilesRequest, context: Any
    ) -> pb.DeleteFilesResponse:
        deleted_count, freed_bytes = await self._service.delete_files(
            request.run_path, list(request.names)
        )
        return pb.DeleteFilesResponse(deleted_count=deleted_count, freed_bytes=freed_bytes)

    async def PurgeRuns(self, request: pb.PurgeRunsRequest, context: Any) -> pb.PurgeRunsResponse:
        keys = [RunKey(key) for key in request.run_keys]
        freed = await self._service.purge_runs(keys)
        return pb.PurgeRunsResponse(
            runs=[
                pb.FilesPurge(run_key=key, files=one.files, objects=one.objects, bytes=one.bytes)
                for key, one in zip(keys, freed, strict=True)
            ]
        )

    async def ListConsoleArchives(
        self, request: pb.ListConsoleArchivesRequest, context: Any
    ) -> pb.ListConsoleArchivesResponse:
        found = await self._service.archives.list_archives(RunKey(request.run_key))
        return pb.ListConsoleArchivesResponse(
            archives=[
                pb.ConsoleArchive(
                    writer=one.writer, object_key=one.object_key, size_bytes=one.size_bytes
                )
                for one in found
            ]
        )

    async def ReadConsoleArchive(
        self, request: pb.ReadConsoleArchiveRequest, context: Any
    ) -> pb.ReadConsoleArchiveResponse:
        content = await self._service.archives.read_part(
            RunKey(request.run_key),
            request.object_key,
            offset=request.offset,
            size_bytes=request.size_bytes,
        )
        return pb.ReadConsoleArchiveResponse(content=content)


def _announcement(request: pb.CreateUploadRequest) -> Announcement:
    return Announcement(
        name=request.name,
        size_bytes=request.size_bytes,
        sha256=request.sha256,
        content_type=request.content_type,
        part_md5s=tuple(request.part_md5s),
        part_bytes=request.part_bytes,
    )


def _plan_message(planned: PlannedUpload) -> pb.CreateUploadResponse:
    if planned.upload is None:
        return pb.CreateUploadResponse(is_present=True)
    return pb.CreateUploadResponse(
        upload_id=planned.upload.upload_id,
        part_bytes=planned.upload.part_bytes,
        part_urls=planned.part_urls,
        part_etags=planned.part_etags,
    )


def _refusal_message(error: DomainError) -> pb.UploadAnswer:
    refusal = pb.UploadRefusal(
        status=status_code(error).name, reason=error.reason, message=error.message
    )
    return pb.UploadAnswer(refusal=refusal)


def _file_message(file: StoredFile) -> pb.File:
    return pb.File(
        name=file.name,
        size_bytes=file.size_bytes,
        sha256=file.sha256,
        content_type=file.content_type,
        update_time=timestamp_from_unix_ns(file.update_time_unix_ns),
    )
