"""Turns messages of ArtifactsService into the domain's words and back; decides nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc.aio

from runyard_protos.files.v1 import artifacts_pb2 as pb
from runyard_protos.files.v1 import artifacts_pb2_grpc as pb_grpc
from runyard_server.domain.artifacts import ArtifactVersion, Link, LinkKind, VersionChange
from runyard_server.domain.manifests import Entry
from runyard_server.files.contents import ContentAsk, Contents, PlannedContent
from runyard_server.files.drafts import DraftAsk, Drafts
from runyard_server.rpc.message_values import timestamp_from_unix_ns

if TYPE_CHECKING:
    from runyard_server.files.artifacts import Artifacts

_FULL_NAME = "runyard.files.v1.ArtifactsService"
_KINDS = {
    LinkKind.LOGGED: pb.LINEAGE_KIND_LOGGED,
    LinkKind.USED: pb.LINEAGE_KIND_USED,
}


class ArtifactsHandler(pb_grpc.ArtifactsServiceServicer):
    """Answers the RPCs of ArtifactsService; see the proto for what each promises."""

    def __init__(self, *, drafts: Drafts, contents: Contents, artifacts: Artifacts) -> None:
        self._drafts = drafts
        self._contents = contents
        self._artifacts = artifacts

    def register(self, server: grpc.aio.Server) -> tuple[str, ...]:
        """Adds itself to the server and returns the full names it serves."""
        pb_grpc.add_ArtifactsServiceServicer_to_server(self, server)
        return (_FULL_NAME,)

    async def CreateDraft(
        self, request: pb.CreateDraftRequest, context: Any
    ) -> pb.CreateDraftResponse:
        draft = await self._drafts.create(
            DraftAsk(
                run_path=request.run_path,
                request_id=request.request_id,
                name=request.name,
                type=request.type,
                description=request.description,
                metadata_json=request.metadata_json,
                digest=request.digest,
                entry_count=request.entry_count,
            )
        )
        if draft.version is not None:
            return pb.CreateDraftResponse(version=_version_message(draft.version))
        return pb.CreateDraftResponse(draft_id=draft.draft_id, is_present=draft.is_present)

    async def AddEntries(
        self, request: pb.AddEntriesRequest, context: Any
    ) -> pb.AddEntriesResponse:
        entries = [
            Entry(
                path=entry.path,
                size_bytes=entry.size_bytes,
                sha256=entry.sha256,
                reference=entry.reference,
                etag=entry.etag,
            )
            for entry in request.entries
        ]
        missing = await self._drafts.add_entries(request.draft_id, entries)
        return pb.AddEntriesResponse(missing=missing)

    async def CreateContentUploads(
        self, request: pb.CreateContentUploadsRequest, context: Any
    ) -> pb.CreateContentUploadsResponse:
        asks = [
            ContentAsk(
                sha256=content.sha256,
                size_bytes=content.size_bytes,
                part_md5s=tuple(content.part_md5s),
                part_bytes=content.part_bytes,
            )
            for content in request.contents
        ]
        planned = await self._contents.create(request.draft_id, asks)
        return pb.CreateContentUploadsResponse(uploads=[_upload_message(one) for one in planned])

    async def CompleteContentUploads(
        self, request: pb.CompleteContentUploadsRequest, context: Any
    ) -> pb.CompleteContentUploadsResponse:
        await self._contents.complete(
            [(upload.upload_id, list(upload.part_etags)) for upload in request.uploads]
        )
        return pb.CompleteContentUploadsResponse()

    async def CommitDraft(
        self, request: pb.CommitDraftRequest, context: Any
    ) -> pb.CommitDraftResponse:
        version, is_unchanged = await self._drafts.commit(
            request.draft_id,
            aliases=list(request.aliases),
            tags=list(request.tags),
            ttl_s=request.ttl_s,
        )
        return pb.CommitDraftResponse(version=_version_message(version), is_unchanged=is_unchanged)

    async def GetArtifact(
        self, request: pb.GetArtifactRequest, context: Any
    ) -> pb.GetArtifactResponse:
        version = await self._artifacts.get(request.artifact_path)
        return pb.GetArtifactResponse(version=_version_message(version))

    async def ListArtifacts(
        self, request: pb.ListArtifactsRequest, context: Any
    ) -> pb.ListArtifactsResponse:
        page = await self._artifacts.list_artifacts(
            request.project_path,
            type=request.type,
            name_contains=request.name_contains,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return pb.ListArtifactsResponse(
            artifacts=[
                pb.ArtifactRow(latest=_version_message(row.latest), version_count=row.version_count)
                for row in page.rows
            ],
            next_page_token=page.next_page_token,
            total_count=page.total_count,
        )

    async def ListArtifactVersions(
        self, request: pb.ListArtifactVersionsRequest, context: Any
    ) -> pb.ListArtifactVersionsResponse:
        page = await self._artifacts.list_versions(
            request.artifact_path, page_size=request.page_size, page_token=request.page_token
        )
        return pb.ListArtifactVersionsResponse(
            versions=[_version_message(version) for version in page.rows],
            next_page_token=page.next_page_token,
            total_count=page.total_count,
        )

    async def ListEntries(
        self, request: pb.ListEntriesRequest, context: Any
    ) -> pb.ListEntriesResponse:
        page = await self._artifacts.list_entries(
            request.artifact_path,
            prefix=request.prefix,
            page_size=request.page_size,
            page_token=request.page_token,
            with_urls=request.with_urls,
            as_attachment=request.as_attachment,
        )
        return pb.ListEntriesResponse(
            entries=[_entry_message(entry) for entry in page.rows],
            download_urls=page.urls,
            next_page_token=page.next_page_token,
            total_count=page.total_count,
        )

    async def UpdateArtifact(
        self, request: pb.UpdateArtifactRequest, context: Any
    ) -> pb.UpdateArtifactResponse:
        def given(field: str) -> Any:
            return getattr(request, field) if request.HasField(field) else None  # type: ignore[arg-type]  # a name of an optional field

        change = VersionChange(
            time_unix_ns=0,
            description=given("description"),
            metadata_json=given("metadata_json"),
            add_aliases=tuple(request.add_aliases),
            remove_aliases=tuple(request.remove_aliases),
            add_tags=tuple(request.add_tags),
            remove_tags=tuple(request.remove_tags),
        )
        version = await self._artifacts.update(request.artifact_path, change, ttl_s=given("ttl_s"))
        return pb.UpdateArtifactResponse(version=_version_message(version))

    async def DeleteArtifacts(
        self, request: pb.DeleteArtifactsRequest, context: Any
    ) -> pb.DeleteArtifactsResponse:
        receipt = await self._artifacts.delete(
            list(request.version_paths), request.artifact_path, with_aliases=request.with_aliases
        )
        return pb.DeleteArtifactsResponse(
            deleted_count=receipt.versions,
            entry_count=receipt.entries,
            freed_objects=receipt.freed_objects,
            freed_bytes=receipt.freed_bytes,
            shared_bytes=receipt.shared_bytes,
        )

    async def UseArtifact(
        self, request: pb.UseArtifactRequest, context: Any
    ) -> pb.UseArtifactResponse:
        version = await self._artifacts.use(request.run_path, request.artifact_path)
        return pb.UseArtifactResponse(version=_version_message(version))

    async def GetLineage(
        self, request: pb.GetLineageRequest, context: Any
    ) -> pb.GetLineageResponse:
        lineage = await self._artifacts.get_lineage(
            request.run_path, request.artifact_path, depth=request.depth
        )
        paths = {version.version_id: version.path for version in lineage.versions}
        return pb.GetLineageResponse(
            versions=[_version_message(version) for version in lineage.versions],
            links=[_link_message(link, paths.__getitem__) for link in lineage.links],
            is_cut=lineage.is_cut,
        )


def _version_message(version: ArtifactVersion) -> pb.ArtifactVersion:
    message = pb.ArtifactVersion(
        project_path=version.artifact.project_path,
        name=version.artifact.name,
        type=version.type,
        version=version.number,
        aliases=version.aliases,
        tags=version.tags,
        description=version.description,
        metadata_json=version.metadata_json,
        digest=version.digest,
        entry_count=version.entry_count,
        size_bytes=version.size_bytes,
        added_bytes=version.added_bytes,
        logged_by=version.logged_by,
        create_time=timestamp_from_unix_ns(version.create_time_unix_ns),
        update_time=timestamp_from_unix_ns(version.update_time_unix_ns),
    )
    if version.expire_time_unix_ns is not None:
        message.expire_time.CopyFrom(timestamp_from_unix_ns(version.expire_time_unix_ns))
    return message


def _entry_message(entry: Entry) -> pb.Entry:
    return pb.Entry(
        path=entry.path,
        size_bytes=entry.size_bytes,
        sha256=entry.sha256,
        reference=entry.reference,
        etag=entry.etag,
    )


def _upload_message(planned: PlannedContent) -> pb.ContentUpload:
    if planned.upload is None:
        return pb.ContentUpload(is_present=True)
    return pb.ContentUpload(
        upload_id=planned.upload.upload_id,
        part_bytes=planned.upload.part_bytes,
        part_urls=planned.part_urls,
        arrived_etags=planned.part_etags,
    )


def _link_message(link: Link, version_path: Callable[[int], str]) -> pb.LineageLink:
    return pb.LineageLink(
        run_path=link.run_path,
        version_path=version_path(link.version_id),
        kind=_KINDS[link.kind],
        create_time=timestamp_from_unix_ns(link.create_time_unix_ns),
    )
