"""A client of artifacts over a files service in memory: it adds, sends and commits as an SDK does."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runyard_server.domain.artifacts import ArtifactVersion, Draft
from runyard_server.domain.manifests import Entry, write_line
from runyard_server.files.contents import ContentAsk, PlannedContent
from runyard_server.files.drafts import DraftAsk
from runyard_server.files.service import FilesConfig
from runyard_server.storage.ports.artifacts import ArtifactStore
from tests.unit.files.desk import PATH, Desk

ENTRIES_AT_ONCE = 2_000


@dataclass(frozen=True, slots=True)
class Logged:
    """What a commit answered."""

    version: ArtifactVersion
    is_unchanged: bool
    sent: tuple[str, ...]
    """Paths whose bytes were sent."""


def make_entries(
    files: Mapping[str, bytes], references: Mapping[str, str] | None = None
) -> list[Entry]:
    """Returns the entries of files and references."""
    entries = [
        Entry(path, len(content), hashlib.sha256(content).digest())
        for path, content in files.items()
    ]
    for path, address in (references or {}).items():
        entries.append(Entry(path, 0, reference=address, etag="e1"))
    return entries


def digest_of(entries: Sequence[Entry]) -> bytes:
    """Returns the digest of a manifest, computed apart from the server's code."""
    text = hashlib.sha256()
    for entry in sorted(entries, key=lambda entry: entry.path.encode()):
        fields = (
            entry.path,
            str(entry.size_bytes),
            entry.sha256.hex(),
            entry.reference,
            entry.etag,
        )
        line = "\0".join(fields).encode() + b"\n"
        assert line == write_line(entry)
        text.update(line)
    return text.digest()


class ArtifactDesk(Desk):
    """A desk that logs artifacts."""

    def __init__(
        self, config: FilesConfig | None = None, *, artifacts: ArtifactStore | None = None
    ) -> None:
        super().__init__(config, artifacts=artifacts)
        self._numbers = itertools.count(1)

    async def begin(
        self,
        name: str,
        entries: Sequence[Entry],
        *,
        run: str = PATH,
        type: str = "model",
        request_id: str = "",
        metadata_json: str = "",
    ) -> Draft:
        """Begins a draft."""
        return await self.service.drafts.create(
            DraftAsk(
                run_path=run,
                request_id=request_id or f"r{next(self._numbers)}",
                name=name,
                type=type,
                description="",
                metadata_json=metadata_json,
                digest=digest_of(entries),
                entry_count=len(entries),
            )
        )

    async def add(self, draft_id: str, entries: Sequence[Entry]) -> list[Entry]:
        """Adds entries and returns those whose contents are missing."""
        missing: list[Entry] = []
        for first in range(0, len(entries), ENTRIES_AT_ONCE):
            part = entries[first : first + ENTRIES_AT_ONCE]
            positions = await self.service.drafts.add_entries(draft_id, part)
            missing.extend(part[position] for position in positions)
        return missing

    def put(self, planned: PlannedContent, content: bytes) -> tuple[str, list[str]]:
        """Puts the parts that have not arrived; returns the id of the upload and the ETags."""
        assert planned.upload is not None
        size = max(planned.upload.part_bytes, 1)
        etags = list(planned.part_etags) or [""] * len(planned.part_urls)
        for number, url in enumerate(planned.part_urls):
            if etags[number]:
                continue
            status, headers, _ = self.blobs.answer(
                "PUT", url, content[number * size : (number + 1) * size]
            )
            assert status == 200
            etags[number] = headers["ETag"]
        return planned.upload.upload_id, etags

    async def upload(self, draft_id: str, contents: Sequence[bytes]) -> None:
        """Announces, puts and completes contents."""
        for first in range(0, len(contents), 100):
            part = contents[first : first + 100]
            planned = await self.service.contents.create(draft_id, [ask(one) for one in part])
            sent = [
                self.put(one, content)
                for one, content in zip(planned, part, strict=True)
                if one.upload is not None
            ]
            await self.service.contents.complete(sent)

    async def log(
        self,
        name: str,
        files: Mapping[str, bytes],
        *,
        references: Mapping[str, str] | None = None,
        run: str = PATH,
        type: str = "model",
        aliases: Sequence[str] = (),
        tags: Sequence[str] = (),
        ttl_s: int = 0,
        request_id: str = "",
        metadata_json: str = "",
    ) -> Logged:
        """Logs an artifact as an SDK does."""
        entries = make_entries(files, references)
        draft = await self.begin(
            name,
            entries,
            run=run,
            type=type,
            request_id=request_id,
            metadata_json=metadata_json,
        )
        sent: list[str] = []
        if not draft.is_present and draft.version is None:
            missing = await self.add(draft.draft_id, entries)
            sent = [entry.path for entry in missing]
            await self.upload(
                draft.draft_id, list(dict.fromkeys(files[entry.path] for entry in missing))
            )
        version, is_unchanged = await self.service.drafts.commit(
            draft.draft_id, aliases=aliases, tags=tags, ttl_s=ttl_s
        )
        return Logged(version, is_unchanged, tuple(sent))

    async def load_artifact(self, artifact_path: str) -> dict[str, bytes]:
        """Returns the bytes of all files of a version, checked against their entries."""
        page = await self.service.artifacts.list_entries(
            artifact_path,
            prefix="",
            page_size=0,
            page_token="",
            with_urls=True,
            as_attachment=False,
        )
        assert page.urls is not None
        loaded = {}
        for entry, url in zip(page.rows, page.urls, strict=True):
            if entry.reference:
                assert not url
                continue
            status, _, content = self.blobs.answer("GET", url)
            assert status == 200, f"the bytes of {entry.path} are not there"
            assert (len(content), hashlib.sha256(content).digest()) == (
                entry.size_bytes,
                entry.sha256,
            )
            loaded[entry.path] = content
        return loaded

    async def stored_bytes(self) -> list[bytes]:
        """Returns the contents of all objects of artifacts, sorted."""
        blobs = await self.blobs.list_blobs("artifacts/", limit=100_000)
        return sorted([await self.blobs.get(blob.key) or b"" for blob in blobs])


def ask(content: bytes, *, with_md5: bool = True, part_bytes: int = 0) -> ContentAsk:
    """Returns the announcement of a content that is sent in one part, or in parts of that size."""
    size = part_bytes or max(len(content), 1)
    parts = [content[i : i + size] for i in range(0, len(content), size)] or [b""]
    md5s = tuple(hashlib.md5(part).digest() for part in parts) if with_md5 else ()
    return ContentAsk(hashlib.sha256(content).digest(), len(content), md5s, part_bytes)
