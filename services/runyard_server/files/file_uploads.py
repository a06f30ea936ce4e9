"""Uploads of files: announced and completed, one or many at once; those of many small files share calls and transactions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prometheus_client import Counter

from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import DomainError, FailedPrecondition, InvalidArgument, NotFound
from runyard_server.domain.run import RunKey
from runyard_server.files import uploads
from runyard_server.files.transfers import Transfers
from runyard_server.storage.ports.files import FileStore, StoredFile, Upload

UPLOAD_COUNT_MAX = 1000
"""Files that one call announces or completes."""

UPLOADS = Counter(
    "runyard_uploads_total", "Uploads announced and completed, by result.", ["result"]
)
UPLOADED_BYTES = Counter("runyard_uploaded_bytes_total", "Bytes of completed uploads.")


@dataclass(frozen=True, slots=True)
class PlannedUpload:
    """What CreateUpload answers; `upload` is None if the run has these bytes already."""

    upload: Upload | None
    part_urls: tuple[str, ...] = ()
    part_etags: tuple[str, ...] = ()
    """ETags of parts that are there already, "" for the others; empty if none is."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A checked announcement and its place in the request."""

    index: int
    ask: uploads.Announcement
    parts: uploads.Parts


class FileUploads:
    """Announces and completes uploads; a refusal of one stands in its place in the answer and stops no other."""

    def __init__(
        self,
        *,
        files: FileStore,
        transfers: Transfers,
        clock: Clock,
        size_bytes_max: int,
        part_bytes_min: int,
    ) -> None:
        self._files = files
        self._transfers = transfers
        self._clock = clock
        self._size_bytes_max = size_bytes_max
        self._part_bytes_min = part_bytes_min

    async def create(
        self, run_key: RunKey, asks: Sequence[uploads.Announcement]
    ) -> list[PlannedUpload | DomainError]:
        """Announces files. Safe to repeat: an upload in parts that was begun goes on. Raises Unavailable."""
        answers: dict[int, PlannedUpload | DomainError] = {}
        asked: list[_Asked] = []
        for index, ask in enumerate(asks):
            try:
                asked.append(self._check(index, ask))
            except DomainError as error:
                answers[index] = error
        contents = [(one.ask.name, one.ask.sha256) for one in asked]
        present = await self._files.find_present(run_key, contents)
        missing: list[_Asked] = []
        for one, found in zip(asked, present, strict=True):
            planned = await self._spare(run_key, one, found)
            if planned is not None:
                answers[one.index] = planned
            else:
                missing.append(one)
        # Objects that are asked for together later lie together: the store then lists them in one answer.
        folder = f"{self._clock.random_bits(64):016x}/" if len(missing) > 1 else ""
        fresh = [(one.index, await self._begin(run_key, one, folder)) for one in missing]
        await self._files.insert_uploads([upload for _, upload in fresh])
        for index, upload in fresh:
            answers[index] = PlannedUpload(upload, await self._transfers.sign(upload))
        UPLOADS.labels("announced").inc(len(fresh))
        return [answers[index] for index in range(len(asks))]

    async def complete(
        self, arrivals: Sequence[tuple[str, Sequence[str]]]
    ) -> list[StoredFile | DomainError]:
        """Makes uploaded files visible, each by its id and ETags, if they are what was announced. Safe to repeat. Raises Unavailable."""
        found = await self._files.find_uploads([upload_id for upload_id, _ in arrivals])
        answers: dict[int, StoredFile | DomainError] = {}
        fresh: list[tuple[int, Upload]] = []
        for index, upload in enumerate(found):
            if upload is None:
                answers[index] = unknown_upload(arrivals[index][0])
            elif upload.completed_file is not None:
                answers[index] = upload.completed_file
            else:
                fresh.append((index, upload))
        outcomes = await self._transfers.receive_all(
            [(upload, arrivals[index][1]) for index, upload in fresh]
        )
        refused = {
            index: error
            for (index, _), error in zip(fresh, outcomes, strict=True)
            if error is not None
        }
        mismatches = [one for one in refused.values() if isinstance(one, FailedPrecondition)]
        UPLOADS.labels("mismatch").inc(len(mismatches))
        arrived = [index for index, _ in fresh if index not in refused]
        files = await self._files.complete_uploads(
            [arrivals[index][0] for index in arrived], time_unix_ns=self._clock.now_unix_ns()
        )
        answers |= refused
        for index, file in zip(arrived, files, strict=True):
            answers[index] = unknown_upload(arrivals[index][0]) if file is None else file
        completed = [file for file in files if file is not None]
        UPLOADS.labels("completed").inc(len(completed))
        UPLOADED_BYTES.inc(sum(file.size_bytes for file in completed))
        return [answers[index] for index in range(len(arrivals))]

    def _check(self, index: int, ask: uploads.Announcement) -> _Asked:
        ask = uploads.check_announcement(ask, size_bytes_max=self._size_bytes_max)
        parts = uploads.cut_into_parts(
            ask.size_bytes, part_bytes_min=self._part_bytes_min, wanted_bytes=ask.part_bytes
        )
        uploads.check_part_md5s(ask.name, ask.part_md5s, parts)
        return _Asked(index, ask, parts)

    async def _spare(
        self, run_key: RunKey, one: _Asked, found: StoredFile | None
    ) -> PlannedUpload | None:
        """Returns what spares sending all of it: the run has the bytes, or an upload of them was begun."""
        if found is not None and await self._take(found, one.ask):
            UPLOADS.labels("present").inc()
            return PlannedUpload(None)
        if one.parts.part_count == 1:
            return None
        begun = await self._go_on(run_key, one.ask, one.parts)
        if begun is not None:
            UPLOADS.labels("continued").inc()
        return begun

    async def _take(self, found: StoredFile, ask: uploads.Announcement) -> bool:
        """Gives bytes that the run has the announced name, too; False if they are of another size or just go."""
        if found.size_bytes != ask.size_bytes:
            return False
        if found.name == ask.name:
            return True
        return await self._files.link_file(
            StoredFile(
                run_key=found.run_key,
                name=ask.name,
                object_key=found.object_key,
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

    async def _begin(self, run_key: RunKey, one: _Asked, folder: str) -> Upload:
        ask, parts = one.ask, one.parts
        upload_id = f"{self._clock.random_bits(128):032x}"
        object_key = uploads.make_object_key(run_key, ask.sha256, upload_id, folder=folder)
        multipart_id = await self._transfers.begin(object_key, parts, content_type=ask.content_type)
        return Upload(
            upload_id=upload_id,
            run_key=run_key,
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


def check_upload_count(field: str, count: int) -> None:
    """Raises InvalidArgument for more files than one call takes."""
    if count > UPLOAD_COUNT_MAX:
        raise InvalidArgument(
            "FIELD_TOO_LARGE",
            f"{field} has {count} entries, at most {UPLOAD_COUNT_MAX} fit one request",
            metadata={"field": field, "value": count, "limit": UPLOAD_COUNT_MAX},
        )


def unknown_upload(upload_id: str) -> NotFound:
    """Returns the error for an upload that nobody knows."""
    return NotFound(
        "FILE_NOT_FOUND",
        f"there is no upload {upload_id[:64]!r}, or it was abandoned; announce the file again",
        metadata={"file": upload_id[:64]},
    )
