"""Archives what runs printed: one object per writer when a run has ended, again where lines came later; drops lines from ClickHouse after their time.

What is to be done is read from the store of logs, so a process that is killed loses nothing, and several share the work. An
archive is a file of the run under a name that no client can have: it takes the place of the one before in one step, and is
removed with the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from prometheus_client import Counter

from runyard_server.domain.clock import Clock
from runyard_server.domain.console import ArchiveCheck, ConsoleArchive, PrintedRun
from runyard_server.domain.errors import DomainError, FailedPrecondition, NotFound, Unavailable
from runyard_server.domain.run import LIVE_STATES, RunDocument, RunKey
from runyard_server.files.uploads import cut_into_parts, make_object_key
from runyard_server.storage.ports.blobs import Blob, BlobStore
from runyard_server.storage.ports.console import ArchiveDraft, ConsoleDropper
from runyard_server.storage.ports.console_logs import ConsoleLog, ConsoleLogStore
from runyard_server.storage.ports.files import FileStore, StoredFile, Upload

ARCHIVED = Counter("runyard_console_archived_total", "Archives of a writer's lines made.")
ARCHIVED_BYTES = Counter("runyard_console_archived_bytes_total", "Bytes of these archives.")
DROPPED = Counter("runyard_console_dropped_total", "Runs whose lines were dropped from ClickHouse.")
NAME_PREFIX: Final = "\x01console/"
"""Names of archives: no client can ask for one, as names with control characters are refused."""
CONTENT_TYPE: Final = "application/vnd.apache.parquet"
PART_BYTES: Final = 16 * 1024 * 1024
READ_BYTES_MAX: Final = 32 * 1024 * 1024
_PRINTED_LIMIT: Final = 10_000
_OVERLAP_NS: Final = 600_000_000_000
"""Blocks of this age are asked for again: one that was made earlier may have become visible later."""
_DROPS_MAX: Final = 20
_DELETED_PAUSE_S: Final = 3600.0
_DAY_NS: Final = 86_400_000_000_000

log = logging.getLogger("runyard.files")


@dataclass(frozen=True, slots=True)
class ConsoleConfig:
    """How long lines stay in ClickHouse, and when they are archived."""

    keep_days: float = 0.0
    """Days after its end for which a run's lines stay in ClickHouse; then they are read from its archive. 0: they stay for ever."""
    archive_delay_s: float = 30.0
    """For how long no line must have come into an ended run before it is archived."""
    poll_interval_s: float = 10.0
    """How often to look for runs that printed and ended."""
    live_recheck_s: float = 30.0
    """How often to ask whether a run that printed has ended."""
    retry_pause_s: float = 60.0
    """Pause before an archive that failed is tried again."""
    lease_s: float = 300.0
    """How long others leave alone what a process took that was killed; one that lives renews it."""
    work_dir: str = ""
    """Folder for archives while they are made, each on the disk whole, compressed. Empty: the system's for temporary files."""


class LineSource(ConsoleDropper, Protocol):
    """What the archiver asks of other services; rpc.console_siblings.ConsoleSiblings has it."""

    async def get_run(
        self, *, path: str | None = None, run_key: RunKey | None = None
    ) -> RunDocument:
        """Returns one run. Raises NotFound RUN_NOT_FOUND, FailedPrecondition RUN_DELETED, Unavailable."""
        ...

    async def list_printed(self, *, since_block: int, limit: int) -> list[PrintedRun]:
        """Returns runs into which lines came after that block, by their latest block."""
        ...

    async def list_printers(self, run_path: str) -> list[int]:
        """Returns the writers of a run that printed something."""
        ...

    async def export_lines(
        self, run_key: RunKey, writer: int, *, after_line: int
    ) -> tuple[bytes, int]:
        """Returns lines of a writer behind that one, packed, and the number of the last; 0: there are none."""
        ...

    async def check_archive(self, run_key: RunKey, writer: int, *, after_line: int) -> ArchiveCheck:
        """Compares some lines behind that one with the writer's archive."""
        ...


class Archives:
    """Archives and their parts, for query."""

    def __init__(self, *, files: FileStore, blobs: BlobStore) -> None:
        self._files = files
        self._blobs = blobs

    async def list_archives(self, run_key: RunKey) -> list[ConsoleArchive]:
        """Returns the archives of a run, by writer."""
        found: list[StoredFile] = []
        while True:
            page = await self._files.list_files(
                run_key,
                prefix=NAME_PREFIX,
                after_name=found[-1].name if found else "",
                limit=1_000,
            )
            found += page
            if len(page) < 1_000:
                break
        return [
            ConsoleArchive(_writer_of(one.name), one.object_key, one.size_bytes) for one in found
        ]

    async def read_part(
        self, run_key: RunKey, object_key: str, *, offset: int, size_bytes: int
    ) -> bytes:
        """Returns a part of an archive. Raises NotFound if it is not there any more."""
        own = object_key.startswith(f"runs/{run_key:016x}/")
        content = None
        if own:
            content = await self._blobs.get_range(
                object_key, offset, min(size_bytes, READ_BYTES_MAX)
            )
        if content is None:
            raise NotFound(
                "FILE_NOT_FOUND",
                f"there is no archive {object_key[:128]!r}: another one took its place",
                metadata={"file": object_key[:128]},
            )
        return content


class Archiver:
    """Looks for logs that are to be archived, or dropped from ClickHouse, at intervals."""

    def __init__(
        self,
        config: ConsoleConfig,
        *,
        logs: ConsoleLogStore,
        files: FileStore,
        blobs: BlobStore,
        source: LineSource,
        draft: Callable[[Path], ArchiveDraft],
        clock: Clock,
    ) -> None:
        self._config = config
        self._logs = logs
        self._files = files
        self._blobs = blobs
        self._source = source
        self._draft = draft
        self._clock = clock

    async def run(self) -> None:
        """Archives and drops until cancelled; what fails is tried again."""
        while True:
            try:
                await self.look()
            except DomainError as error:
                log.warning("console_archive_waits", extra={"fields": {"message": error.message}})
            await asyncio.sleep(self._config.poll_interval_s)

    async def look(self) -> None:
        """Does all that is due now. Raises DomainError where it cannot go on."""
        await self._note_printed()
        while taken := await self._logs.take_unarchived(
            now_unix_ns=self._clock.now_unix_ns(),
            lease_end_unix_ns=self._later(self._config.lease_s),
            limit=1,  # one that is taken and waits for its turn would be nobody's
        ):
            await self._try(taken[0], self._archive)
        if self._config.keep_days > 0:
            await self._drop_due()

    async def forget(self, run_keys: Sequence[RunKey]) -> None:
        """Leaves purged runs alone from now on."""
        for run_key in run_keys:
            await self._logs.forget(run_key)

    async def _note_printed(self) -> None:
        since = await self._logs.last_seen_block() - _OVERLAP_NS
        while True:
            runs = await self._source.list_printed(since_block=max(0, since), limit=_PRINTED_LIMIT)
            await self._logs.note_printed(runs, now_unix_ns=self._clock.now_unix_ns())
            if len(runs) < _PRINTED_LIMIT:
                return
            since = max(since + 1, runs[-1].last_block - 1)

    async def _try(self, one: ConsoleLog, act: Callable[[ConsoleLog], Awaitable[bool]]) -> bool:
        """Returns what `act` returns; False where the run is gone or it failed, which is tried again later."""
        try:
            return await act(one)
        except NotFound as error:
            if error.reason == "RUN_NOT_FOUND":
                await self._logs.forget(one.run_key)
                return False
            pause_s, message = self._config.retry_pause_s, error.message
        except FailedPrecondition as error:
            pause_s, message = _DELETED_PAUSE_S, error.message
        except (DomainError, OSError) as error:
            pause_s = self._config.retry_pause_s
            message = error.message if isinstance(error, DomainError) else self._told(error)
            fields = {"run_key": one.run_key, "message": message}
            log.warning("console_archive_failed", extra={"fields": fields})
        await self._logs.set_due(one.run_key, self._later(pause_s))
        return False

    def _told(self, error: OSError) -> str:
        """Returns what went wrong on this disk, and what to do about it."""
        folder = self._config.work_dir or tempfile.gettempdir()
        return f"the archive cannot be made in {folder}: {error}; make room there, or set console.work_dir. Its lines stay where they are"

    async def _archive(self, one: ConsoleLog) -> bool:
        config = self._config
        run = await self._source.get_run(run_key=one.run_key)
        if run.state in LIVE_STATES:
            await self._logs.set_due(one.run_key, self._later(config.live_recheck_s))
            return False
        quiet_until = one.seen_block + round(config.archive_delay_s * 1e9)
        if quiet_until > self._clock.now_unix_ns():
            await self._logs.set_due(one.run_key, quiet_until)
            return False
        for writer in await self._source.list_printers(run.path):
            await self._archive_writer(run, writer)
        await self._logs.set_archived(
            one.run_key,
            one.seen_block,
            end_time_unix_ns=run.end_time_unix_ns or self._clock.now_unix_ns(),
            due_time_unix_ns=self._clock.now_unix_ns(),
        )
        log.info("console_archived", extra={"fields": {"run": run.path}})
        return True

    async def _archive_writer(self, run: RunDocument, writer: int) -> None:
        async with self._written(run, writer) as draft:
            size_bytes, sha256 = await asyncio.to_thread(draft.digest)
            name = f"{NAME_PREFIX}{writer:010d}"
            known = await self._files.find_file(run.run_key, name)
            if known is not None and (known.sha256, known.size_bytes) == (sha256, size_bytes):
                return
            await self._store(run.run_key, name, draft, size_bytes=size_bytes, sha256=sha256)
            ARCHIVED.inc()
            ARCHIVED_BYTES.inc(size_bytes)

    @contextlib.asynccontextmanager
    async def _written(self, run: RunDocument, writer: int) -> AsyncIterator[ArchiveDraft]:
        """Gives the closed archive of all lines of the writer, which is removed from this disk afterwards."""
        with tempfile.TemporaryDirectory(
            prefix="runyard-archive-", dir=self._config.work_dir or None
        ) as folder:
            draft = await asyncio.to_thread(self._draft, Path(folder) / "lines")
            try:
                last = 0
                while True:
                    page, reached = await self._source.export_lines(
                        run.run_key, writer, after_line=last
                    )
                    if not reached:
                        break
                    await asyncio.to_thread(draft.add, page)
                    last = reached
                    await self._logs.set_due(run.run_key, self._later(self._config.lease_s))
            finally:
                await asyncio.to_thread(draft.close)
            yield draft

    async def _store(
        self, run_key: RunKey, name: str, draft: ArchiveDraft, *, size_bytes: int, sha256: bytes
    ) -> None:
        """Sends the archive and gives it its name; one that is broken off is forgotten as every upload is."""
        parts = cut_into_parts(size_bytes, part_bytes_min=PART_BYTES)
        upload_id = f"{self._clock.random_bits(128):032x}"
        key = make_object_key(run_key, sha256, upload_id)
        multipart_id = ""
        if parts.part_count > 1:
            multipart_id = await self._blobs.start_multipart(key, content_type=CONTENT_TYPE)
        upload = Upload(
            upload_id=upload_id,
            run_key=run_key,
            name=name,
            object_key=key,
            size_bytes=size_bytes,
            sha256=sha256,
            content_type=CONTENT_TYPE,
            part_bytes=parts.part_bytes,
            part_count=parts.part_count,
            part_md5s=(),
            multipart_id=multipart_id,
            create_time_unix_ns=self._clock.now_unix_ns(),
        )
        await self._files.insert_uploads([upload])
        stored = await self._send(upload, draft)
        if stored is None or stored.size_bytes != size_bytes:
            raise Unavailable(
                "STORE_UNAVAILABLE",
                f"the object store has {stored.size_bytes if stored else 0} bytes of an archive of {size_bytes}",
                metadata={"store": "s3"},
            )
        await self._files.complete_uploads([upload_id], time_unix_ns=self._clock.now_unix_ns())
        await self._files.delete_upload(upload_id)

    async def _send(self, upload: Upload, draft: ArchiveDraft) -> Blob | None:
        key = upload.object_key
        if not upload.multipart_id:
            content = await asyncio.to_thread(draft.read_part, 0, upload.size_bytes)
            return await self._blobs.put(key, content, content_type=CONTENT_TYPE)
        etags = []
        for number in range(1, upload.part_count + 1):
            content = await asyncio.to_thread(
                draft.read_part, (number - 1) * upload.part_bytes, upload.part_bytes
            )
            etags.append(await self._blobs.put_part(key, upload.multipart_id, number, content))
        return await self._blobs.complete_multipart(key, upload.multipart_id, etags)

    async def _drop_due(self) -> None:
        """Drops lines whose time has come, of several runs at once: each drop rewrites parts of the table."""
        keep_ns = round(self._config.keep_days * _DAY_NS)
        while taken := await self._logs.take_droppable(
            now_unix_ns=self._clock.now_unix_ns(),
            lease_end_unix_ns=self._later(self._config.lease_s),
            ended_before_unix_ns=self._clock.now_unix_ns() - keep_ns,
            limit=_DROPS_MAX,
        ):
            drops = [
                (one.run_key, one.archived_block)
                for one in taken
                if await self._try(one, self._may_drop)
            ]
            if not drops:
                continue
            await self._source.drop_lines(drops)
            for run_key, block in drops:
                await self._logs.set_dropped(run_key, block)
            DROPPED.inc(len(drops))
            log.info("console_dropped", extra={"fields": {"runs": len(drops)}})

    async def _may_drop(self, one: ConsoleLog) -> bool:
        """Returns whether all lines of the run are in its archives, read back and compared one by one."""
        run = await self._source.get_run(run_key=one.run_key)
        if run.state in LIVE_STATES:
            await self._logs.set_due(one.run_key, self._later(_DELETED_PAUSE_S))
            return False
        if run.end_time_unix_ns is not None and run.end_time_unix_ns > one.end_time_unix_ns:
            await self._logs.set_archived(
                one.run_key,
                one.archived_block,
                end_time_unix_ns=run.end_time_unix_ns,
                due_time_unix_ns=self._clock.now_unix_ns(),
            )
            return False
        for writer in await self._source.list_printers(run.path):
            last, has_more = 0, True
            while has_more:
                check = await self._source.check_archive(one.run_key, writer, after_line=last)
                last, has_more = check.last_line, check.has_more
                if check.missing_count:
                    fields = {"run": run.path, "writer": writer, "missing": check.missing_count}
                    log.warning("console_archive_incomplete", extra={"fields": fields})
                    await self._logs.set_unarchived(one.run_key, self._clock.now_unix_ns())
                    return False
                await self._logs.set_due(one.run_key, self._later(self._config.lease_s))
        return True

    def _later(self, pause_s: float) -> int:
        return self._clock.now_unix_ns() + round(pause_s * 1e9)


def _writer_of(name: str) -> int:
    return int(name.removeprefix(NAME_PREFIX))
