"""A files service over memory, and a client that sends what it announces."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from runyard_server.domain.errors import NotFound
from runyard_server.domain.projects import Project
from runyard_server.domain.run import RunDocument, RunKey, RunState
from runyard_server.files.service import FilesConfig, FilesService
from runyard_server.files.uploads import Announcement
from runyard_server.storage.memory.artifacts import MemoryArtifactStore
from runyard_server.storage.memory.blobs import MemoryBlobStore
from runyard_server.storage.memory.files import MemoryFileStore
from runyard_server.storage.ports.artifacts import ArtifactStore
from runyard_server.storage.ports.files import StoredFile, Upload
from tests.unit.metadata.desk import SeededClock

PATH = "local/p/x"


class Runs:
    """Metadata with two runs."""

    async def get_run(
        self, *, path: str | None = None, run_key: RunKey | None = None
    ) -> RunDocument:
        keys = {PATH: RunKey(5), "local/p/y": RunKey(6)}
        if path not in keys:
            raise NotFound("RUN_NOT_FOUND", f"there is no run {path}")
        run_id = path.rpartition("/")[2]
        return RunDocument(keys[path], "local", "p", run_id, "n", RunState.RUNNING)

    async def get_project(self, path: str) -> Project:
        if path != "local/p":
            raise NotFound("PROJECT_NOT_FOUND", f"there is no project {path}")
        return Project("local", "p")


@dataclass(frozen=True, slots=True)
class Sent:
    """An upload whose bytes are on the object store, not completed."""

    upload: Upload
    etags: list[str]


class Desk:
    """One service and its stores."""

    def __init__(
        self, config: FilesConfig | None = None, *, artifacts: ArtifactStore | None = None
    ) -> None:
        self.clock = SeededClock()
        self.files = MemoryFileStore()
        self.artifacts: ArtifactStore = artifacts or MemoryArtifactStore()
        self.blobs = MemoryBlobStore(clock=self.clock)
        self.service = FilesService(
            config or FilesConfig(),
            files=self.files,
            artifacts=self.artifacts,
            blobs=self.blobs,
            siblings=Runs(),
            clock=self.clock,
        )

    async def send(
        self,
        name: str,
        content: bytes,
        *,
        sent: bytes | None = None,
        path: str = PATH,
        md5s: Sequence[bytes] = (),
        content_type: str = "",
    ) -> Sent:
        """Announces `content` and puts it (or `sent` in its place) part by part."""
        ask = replace(announce(name, content), part_md5s=tuple(md5s), content_type=content_type)
        planned = await self.service.create_upload(path, ask)
        assert planned.upload is not None, "the run has it"
        etags = []
        body = content if sent is None else sent
        size = max(planned.upload.part_bytes, 1)
        for number, url in enumerate(planned.part_urls):
            is_last = number == len(planned.part_urls) - 1
            part = body[number * size : None if is_last else (number + 1) * size]
            status, headers, _ = self.blobs.answer("PUT", url, part)
            assert status == 200
            etags.append(headers["ETag"])
        return Sent(planned.upload, etags)

    async def save(self, name: str, content: bytes, **options: object) -> StoredFile:
        """Sends a file and completes it."""
        sent = await self.send(name, content, **options)  # type: ignore[arg-type]  # options of send
        return await self.service.complete_upload(sent.upload.upload_id, sent.etags)

    async def load(self, name: str, *, path: str = PATH) -> tuple[dict[str, str], bytes]:
        """Returns headers and bytes of a download."""
        _, url = await self.service.get_file(path, name, as_attachment=False)
        status, headers, content = self.blobs.answer("GET", url)
        assert status == 200
        return headers, content

    async def list_names(self, prefix: str = "", *, path: str = PATH) -> list[str]:
        page = await self.service.list_files(path, prefix=prefix, page_size=0, page_token="")
        return [file.name for file in page.files]


def announce(name: str, content: bytes) -> Announcement:
    return Announcement(name, len(content), hashlib.sha256(content).digest(), "")
