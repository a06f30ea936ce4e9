"""ArtifactsService over real gRPC, with metadata as its sibling."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from runyard_protos.files.v1 import artifacts_pb2 as pb
from runyard_protos.files.v1 import artifacts_pb2_grpc as pb_grpc
from runyard_server.domain.errors import FailedPrecondition, NotFound
from runyard_server.files import service as files
from runyard_server.rpc.service import Service
from runyard_server.rpc.siblings import Siblings
from runyard_server.storage.memory.artifacts import MemoryArtifactStore
from runyard_server.storage.memory.blobs import MemoryBlobStore
from runyard_server.storage.memory.files import MemoryFileStore
from tests.unit.metadata.desk import Desk
from tests.unit.metadata.edge import refusal, serve

RUN = "local/p/x"
CONTENT = b"weights"
SHA256 = hashlib.sha256(CONTENT).digest()
ENTRY = pb.Entry(path="a/w.bin", size_bytes=len(CONTENT), sha256=SHA256)
REFERENCE = pb.Entry(path="z", reference="s3://b/k", etag="e")
DIGEST = hashlib.sha256(
    f"a/w.bin\0{len(CONTENT)}\0{SHA256.hex()}\0\0\n".encode() + b"z\x000\0\0s3://b/k\0e\n"
).digest()
DRAFT = pb.CreateDraftRequest(
    run_path=RUN, request_id="r1", name="net", type="model", digest=DIGEST, entry_count=2
)


async def test_an_artifact_from_draft_to_deletion() -> None:
    """The whole way of an artifact goes as the contract says."""
    desk = Desk()
    blobs = MemoryBlobStore(clock=desk.clock)

    def make(siblings: Siblings) -> Sequence[Service]:
        keeping = files.build(
            files.FilesConfig(),
            files=MemoryFileStore(),
            artifacts=MemoryArtifactStore(),
            blobs=blobs,
            siblings=siblings,
            clock=desk.clock,
        )
        return [desk.service, keeping]

    async with serve(make) as edge:
        stub = pb_grpc.ArtifactsServiceStub(edge.channel)
        await desk.start("x")
        draft = await stub.CreateDraft(DRAFT)
        assert draft.draft_id and not draft.is_present and not draft.HasField("version")
        commit = pb.CommitDraftRequest(draft_id=draft.draft_id, aliases=["best"], tags=["t"])
        add = pb.AddEntriesRequest(draft_id=draft.draft_id, entries=[ENTRY, REFERENCE])
        assert list((await stub.AddEntries(add)).missing) == [0]
        error = await refusal(stub.CommitDraft(commit))
        assert (FailedPrecondition, "CONTENT_MISSING") == (type(error), error.reason)
        assert error.metadata["path"] == "a/w.bin"
        announce = pb.CreateContentUploadsRequest(
            draft_id=draft.draft_id,
            contents=[pb.Content(sha256=SHA256, size_bytes=len(CONTENT))],
        )
        (planned,) = (await stub.CreateContentUploads(announce)).uploads
        _, headers, _ = blobs.answer("PUT", planned.part_urls[0], CONTENT)
        sent = pb.CompletedContent(upload_id=planned.upload_id, part_etags=[headers["ETag"]])
        await stub.CompleteContentUploads(pb.CompleteContentUploadsRequest(uploads=[sent]))
        assert (await stub.CreateContentUploads(announce)).uploads[0].is_present
        committed = await stub.CommitDraft(commit)
        version = committed.version
        assert (version.project_path, version.name, version.version) == ("local/p", "net", 0)
        assert (list(version.aliases), list(version.tags)) == (["latest", "best"], ["t"])
        assert (version.size_bytes, version.added_bytes, version.logged_by) == (7, 7, RUN)
        assert not committed.is_unchanged and not version.HasField("expire_time")
        assert version == (await stub.CreateDraft(DRAFT)).version
        assert version == (await stub.CommitDraft(commit)).version
        await read_everything(stub, blobs, version)
        used = pb.UseArtifactRequest(run_path=RUN, artifact_path="local/p/net:best")
        assert version == (await stub.UseArtifact(used)).version
        lineage = await stub.GetLineage(pb.GetLineageRequest(run_path=RUN))
        assert {link.kind for link in lineage.links} == {
            pb.LINEAGE_KIND_LOGGED,
            pb.LINEAGE_KIND_USED,
        }
        assert {link.version_path for link in lineage.links} == {"local/p/net:v0"}
        await change_and_delete(stub)


async def read_everything(
    stub: pb_grpc.ArtifactsServiceStub, blobs: MemoryBlobStore, version: pb.ArtifactVersion
) -> None:
    got = await stub.GetArtifact(pb.GetArtifactRequest(artifact_path="local/p/net"))
    assert version == got.version
    rows = await stub.ListArtifacts(pb.ListArtifactsRequest(project_path="local/p"))
    assert (rows.total_count, rows.artifacts[0].version_count) == (1, 1)
    versions = await stub.ListArtifactVersions(
        pb.ListArtifactVersionsRequest(artifact_path="local/p/net")
    )
    assert ([version], 1) == (list(versions.versions), versions.total_count)
    entries = await stub.ListEntries(
        pb.ListEntriesRequest(artifact_path="local/p/net:v0", with_urls=True)
    )
    assert (list(entries.entries), entries.total_count) == ([ENTRY, REFERENCE], 2)
    assert entries.download_urls[1] == ""
    assert blobs.answer("GET", entries.download_urls[0])[2] == CONTENT


async def change_and_delete(stub: pb_grpc.ArtifactsServiceStub) -> None:
    change = pb.UpdateArtifactRequest(
        artifact_path="local/p/net:v0", description="d", ttl_s=60, remove_tags=["t"]
    )
    changed = (await stub.UpdateArtifact(change)).version
    assert (changed.description, list(changed.tags)) == ("d", [])
    assert changed.HasField("expire_time")
    changed = (
        await stub.UpdateArtifact(pb.UpdateArtifactRequest(artifact_path="local/p/net:v0", ttl_s=0))
    ).version
    assert (changed.description, changed.HasField("expire_time")) == ("d", False)
    request = pb.DeleteArtifactsRequest(version_paths=["local/p/net:v0"])
    error = await refusal(stub.DeleteArtifacts(request))
    assert (FailedPrecondition, "ARTIFACT_HAS_ALIASES") == (type(error), error.reason)
    request.with_aliases = True
    receipt = await stub.DeleteArtifacts(request)
    assert (receipt.deleted_count, receipt.entry_count) == (1, 2)
    assert (receipt.freed_objects, receipt.freed_bytes, receipt.shared_bytes) == (1, 7, 0)
    error = await refusal(stub.GetArtifact(pb.GetArtifactRequest(artifact_path="local/p/net")))
    assert (NotFound, "ARTIFACT_NOT_FOUND") == (type(error), error.reason)
