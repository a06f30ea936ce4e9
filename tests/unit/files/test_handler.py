"""FilesService over real gRPC, with metadata as its sibling."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from runyard_protos.files.v1 import files_pb2 as pb
from runyard_protos.files.v1 import files_pb2_grpc as pb_grpc
from runyard_server.domain.errors import FailedPrecondition, NotFound
from runyard_server.files import service as files
from runyard_server.rpc.service import Service
from runyard_server.rpc.siblings import Siblings
from runyard_server.storage.memory.artifacts import MemoryArtifactStore
from runyard_server.storage.memory.blobs import MemoryBlobStore
from runyard_server.storage.memory.files import MemoryFileStore
from tests.unit.metadata.desk import Desk
from tests.unit.metadata.edge import refusal, serve

PATH = "local/p/x"


async def test_a_file_from_announcement_to_deletion() -> None:
    """The whole way of a file goes as the contract says."""
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
        stub = pb_grpc.FilesServiceStub(edge.channel)
        await desk.start("x")
        ask = pb.CreateUploadRequest(
            run_path=PATH,
            name="a.txt",
            size_bytes=5,
            sha256=hashlib.sha256(b"hello").digest(),
            part_md5s=[hashlib.md5(b"hello").digest()],
        )
        planned = await stub.CreateUpload(ask)
        assert (planned.is_present, planned.part_bytes, len(planned.part_urls)) == (False, 5, 1)
        complete = pb.CompleteUploadRequest(upload_id=planned.upload_id, part_etags=['"x"'])
        error = await refusal(stub.CompleteUpload(complete))
        assert (FailedPrecondition, "FILE_CONTENT_MISMATCH") == (type(error), error.reason)
        _, headers, _ = blobs.answer("PUT", planned.part_urls[0], b"hello")
        complete = pb.CompleteUploadRequest(
            upload_id=planned.upload_id, part_etags=[headers["ETag"]]
        )
        file = (await stub.CompleteUpload(complete)).file
        assert (file.name, file.size_bytes, file.content_type) == ("a.txt", 5, "text/plain")
        assert (await stub.CreateUpload(ask)).is_present
        listed = await stub.ListFiles(pb.ListFilesRequest(run_path=PATH))
        assert ([file], 1, 5) == (list(listed.files), listed.total_count, listed.total_bytes)
        got = await stub.GetFile(pb.GetFileRequest(run_path=PATH, name="a.txt"))
        assert blobs.answer("GET", got.download_url)[2] == b"hello"
        deleted = await stub.DeleteFiles(pb.DeleteFilesRequest(run_path=PATH, names=["a.txt"]))
        assert (deleted.deleted_count, deleted.freed_bytes) == (1, 5)
        error = await refusal(stub.GetFile(pb.GetFileRequest(run_path=PATH, name="a.txt")))
        assert (NotFound, "FILE_NOT_FOUND") == (type(error), error.reason)
        error = await refusal(stub.ListFiles(pb.ListFilesRequest(run_path="local/p/none")))
        assert (NotFound, "RUN_NOT_FOUND") == (type(error), error.reason)
