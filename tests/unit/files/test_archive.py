"""Archives of logs: when they are made, made again, compared and dropped; over stores in memory, with a clock that tests move."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest

from runyard_server.domain.console import ArchiveCheck, PrintedRun
from runyard_server.domain.errors import NotFound, Unavailable
from runyard_server.domain.run import RunDocument, RunKey, RunState
from runyard_server.files import archive
from runyard_server.files.archive import Archiver, Archives, ConsoleConfig
from runyard_server.files.purge import Purge
from runyard_server.storage.archive.format import ArchiveFile
from runyard_server.storage.archive.layered import LayeredConsole
from runyard_server.storage.memory.blobs import MemoryBlobStore
from runyard_server.storage.memory.console_logs import MemoryConsoleLogs
from runyard_server.storage.memory.files import MemoryFileStore
from runyard_server.storage.memory.points import MemoryPoints
from runyard_server.storage.ports.console import LineFilter
from runyard_server.storage.ports.points import BlockEntry
from tests.contract.console_store import printed
from tests.stores import new_run_key
from tests.unit.metadata.desk import SeededClock

DAY_S = 86_400
FULL = Path("/dev/full")


class World:
    """Files with its archiver, lines of one run, and the run's state; all in memory."""

    def __init__(self, folder: Path, *, keep_days: float = 1.0) -> None:
        self.clock = SeededClock()
        self.points = MemoryPoints()
        self.files = MemoryFileStore()
        self.blobs = MemoryBlobStore(clock=self.clock)
        self.logs = MemoryConsoleLogs()
        self.archives = Archives(files=self.files, blobs=self.blobs)
        self.console = LayeredConsole(self.points.console, self)
        self.run = RunDocument(new_run_key(), "e", "p", "r", "n", RunState.RUNNING)
        self.is_gone = False
        self.drops: list[RunKey] = []
        self.exports = 0
        self.archiver = Archiver(
            ConsoleConfig(keep_days=keep_days, work_dir=str(folder), archive_delay_s=0.0),
            logs=self.logs,
            files=self.files,
            blobs=self.blobs,
            source=self,
            draft=ArchiveFile,
            clock=self.clock,
        )

    async def get_run(
        self, *, path: str | None = None, run_key: RunKey | None = None
    ) -> RunDocument:
        if self.is_gone:
            raise NotFound("RUN_NOT_FOUND", "it is gone")
        return self.run

    async def list_printed(self, *, since_block: int, limit: int) -> list[PrintedRun]:
        return await self.console.list_printed(since_block=since_block, limit=limit)

    async def list_printers(self, run_path: str) -> list[int]:
        return [one.writer for one in await self.console.count_lines(self.run.run_key)]

    async def export_lines(
        self, run_key: RunKey, writer: int, *, after_line: int
    ) -> tuple[bytes, int]:
        self.exports += 1
        return await self.console.export_lines(run_key, writer, after_line=after_line)

    async def check_archive(self, run_key: RunKey, writer: int, *, after_line: int) -> ArchiveCheck:
        return await self.console.check_archive(run_key, writer, after_line=after_line)

    async def drop_lines(self, drops: list[tuple[RunKey, int]]) -> None:
        self.drops += [run_key for run_key, _ in drops]
        await self.points.console.drop_lines(drops)

    async def list_console_archives(self, run_key: RunKey) -> list[archive.ConsoleArchive]:
        return await self.archives.list_archives(run_key)

    async def read_console_archive(
        self, run_key: RunKey, object_key: str, *, offset: int, size_bytes: int
    ) -> bytes:
        return await self.archives.read_part(
            run_key, object_key, offset=offset, size_bytes=size_bytes
        )

    async def say(self, line: int, text: str, *, writer: int = 1) -> None:
        batch = printed(self.run.run_key, (line, text), writer=writer, sequence=line)
        await self.points.insert_block([BlockEntry(batch)])

    def end(self) -> None:
        self.run = dataclasses.replace(
            self.run, state=RunState.FINISHED, end_time_unix_ns=self.clock.now_unix_ns()
        )

    def resume(self) -> None:
        self.run = dataclasses.replace(self.run, state=RunState.RUNNING, end_time_unix_ns=None)

    async def look(self, *, after_s: float = 0.0) -> None:
        self.clock.advance(after_s)
        await self.archiver.look()

    async def texts(self) -> list[str]:
        page = await self.console.read_lines(
            self.run.run_key,
            LineFilter(),
            after=None,
            is_newest_first=False,
            limit=1_000,
            bytes_max=1 << 30,
        )
        return page.texts

    async def hot_count(self) -> int:
        return sum(o.line_count for o in await self.points.console.count_lines(self.run.run_key))


async def test_a_run_is_archived_when_it_has_ended(tmp_path: Path) -> None:
    """Nothing is archived while a run lives; then one object per writer is, and nothing of it shows among the run's files."""
    world = World(tmp_path)
    await world.say(1, "a\nb")
    await world.say(1, "x", writer=2)
    await world.look()
    assert await world.archives.list_archives(world.run.run_key) == []
    world.end()
    await world.look(after_s=60)
    found = await world.archives.list_archives(world.run.run_key)
    assert [one.writer for one in found] == [1, 2]
    assert len(await world.blobs.list_blobs("", limit=9)) == 2
    assert await world.files.list_files(world.run.run_key, prefix="", after_name="", limit=9) == []
    assert await world.files.count_files(world.run.run_key, prefix="") == (0, 0)
    assert not list(tmp_path.iterdir()), "the disk is left clean"
    exports = world.exports
    await world.look(after_s=3_600)
    assert world.exports == exports, "what is archived is left alone"


async def test_lines_are_dropped_after_their_time_and_read_all_the_same(tmp_path: Path) -> None:
    """Lines leave the first store after keep_days, not before; readers see no difference."""
    world = World(tmp_path, keep_days=2)
    await world.say(1, "a\nb")
    world.end()
    await world.look(after_s=60)
    await world.look(after_s=1.9 * DAY_S)
    assert await world.hot_count() == 2
    await world.look(after_s=0.2 * DAY_S)
    assert await world.hot_count() == 0
    assert await world.texts() == ["a", "b"]
    await world.look(after_s=DAY_S)
    assert len(world.drops) == 1, "once"


async def test_without_retention_lines_stay(tmp_path: Path) -> None:
    """keep_days = 0 keeps lines for ever."""
    world = World(tmp_path, keep_days=0)
    await world.say(1, "a")
    world.end()
    await world.look(after_s=60)
    await world.look(after_s=9_999 * DAY_S)
    assert await world.hot_count() == 1


async def test_late_lines_are_archived_too(tmp_path: Path) -> None:
    """Lines that come after the drop are read at once, join the archive, and leave the first store in their turn; old objects go."""
    world = World(tmp_path)
    await world.say(1, "a\nb")
    world.end()
    await world.look(after_s=60)
    await world.look(after_s=2 * DAY_S)
    await world.say(3, "late")
    await world.say(1, "resumed", writer=2)
    assert sorted(await world.texts()) == ["a", "b", "late", "resumed"]
    await world.look(after_s=60)
    assert await world.hot_count() == 0
    assert sorted(await world.texts()) == ["a", "b", "late", "resumed"]
    purge = Purge(files=world.files, blobs=world.blobs, clock=world.clock, upload_age_max_s=9)
    await purge.purge()
    assert len(await world.blobs.list_blobs("", limit=9)) == 2
    assert sorted(await world.texts()) == ["a", "b", "late", "resumed"]


async def test_a_resumed_run_is_left_alone(tmp_path: Path) -> None:
    """A run that goes on keeps its lines; its days are counted from its last end."""
    world = World(tmp_path)
    await world.say(1, "a")
    world.end()
    await world.look(after_s=60)
    world.resume()
    await world.look(after_s=2 * DAY_S)
    assert await world.hot_count() == 1
    world.end()
    await world.look(after_s=0.5 * DAY_S)
    assert await world.hot_count() == 1
    await world.look(after_s=0.6 * DAY_S)
    assert await world.hot_count() == 0


async def test_an_archive_that_lacks_lines_is_made_again(tmp_path: Path) -> None:
    """Nothing is dropped before each line was found in the archive: a damaged store of objects costs no line."""
    world = World(tmp_path)
    await world.say(1, "a\nb\nc")
    world.end()
    await world.look(after_s=60)
    # Lines of an older block, which nothing told of, as where a block became visible very late.
    store = world.points.console._lines[world.run.run_key]
    store[1, 4] = dataclasses.replace(store[1, 3], text="very late", sequence=99)
    await world.look(after_s=2 * DAY_S)
    assert await world.texts() == ["a", "b", "c", "very late"]
    await world.look(after_s=60)
    assert await world.hot_count() == 0
    assert await world.texts() == ["a", "b", "c", "very late"]


async def test_an_object_that_was_lost_keeps_lines_where_they_are(tmp_path: Path) -> None:
    """Where the archive cannot be read back, lines stay."""
    world = World(tmp_path)
    await world.say(1, "a")
    world.end()
    await world.look(after_s=60)
    (one,) = await world.blobs.list_blobs("", limit=9)
    await world.blobs.delete([one.key])
    for _ in range(3):
        await world.look(after_s=2 * DAY_S)
    assert world.drops == []
    assert await world.texts() == ["a"]


async def test_what_breaks_off_is_tried_again(tmp_path: Path, monkeypatch) -> None:
    """An object store that fails halfway leaves nothing visible, and the next try makes the archive whole; parts are sent."""
    monkeypatch.setattr(archive, "PART_BYTES", 1 << 20)
    world = World(tmp_path)
    draw = random.Random(1)
    for block in range(6):
        await world.say(
            1 + block * 1_000, "\n".join(draw.randbytes(250).hex() for _ in range(1_000))
        )
    world.end()
    put_part = world.blobs.put_part

    async def fail(key: str, multipart_id: str, part_number: int, content: bytes) -> str:
        if part_number == 2:
            raise Unavailable("STORE_UNAVAILABLE", "it went away")
        return await put_part(key, multipart_id, part_number, content)

    monkeypatch.setattr(world.blobs, "put_part", fail)
    await world.look(after_s=60)
    assert await world.archives.list_archives(world.run.run_key) == []
    monkeypatch.setattr(world.blobs, "put_part", put_part)
    await world.look(after_s=61)
    assert len(await world.archives.list_archives(world.run.run_key)) == 1
    before = await world.texts()
    await world.look(after_s=2 * DAY_S)
    assert await world.hot_count() == 0
    assert before == await world.texts()
    purge = Purge(files=world.files, blobs=world.blobs, clock=world.clock, upload_age_max_s=1)
    await purge.purge()
    assert world.files._uploads == {}
    assert before == await world.texts()


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("line_count", [10, 12_000])
async def test_a_full_disk_is_told_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, line_count: int
) -> None:
    """Full at the end of an archive, or within it: lines stay, the log says what and where, and the next try makes it."""
    world = World(tmp_path)
    draw = random.Random(1)
    await world.say(1, "\n".join(draw.randbytes(250).hex() for _ in range(line_count)))
    world.end()
    world.archiver._draft = lambda path: ArchiveFile(FULL)
    await world.look(after_s=60)
    assert await world.archives.list_archives(world.run.run_key) == []
    assert await world.hot_count() == line_count
    (told,) = [one for one in caplog.records if one.message == "console_archive_failed"]
    message = told.fields["message"]
    assert f"cannot be made in {tmp_path}" in message and "No space left on device" in message
    world.archiver._draft = ArchiveFile
    await world.look(after_s=61)
    assert len(await world.archives.list_archives(world.run.run_key)) == 1
    assert not list(tmp_path.iterdir()), "the disk is left clean"


async def test_a_purge_takes_archives_along(tmp_path: Path) -> None:
    """A purge of the run removes its archives and counts them; a run that is gone is forgotten."""
    world = World(tmp_path)
    await world.say(1, "a")
    world.end()
    await world.look(after_s=60)
    world.is_gone = True
    await world.archiver.forget([world.run.run_key])
    purge = Purge(files=world.files, blobs=world.blobs, clock=world.clock, upload_age_max_s=9)
    freed = await purge.purge_run(world.run.run_key)
    assert (freed.files, freed.objects) == (1, 1)
    assert await world.blobs.list_blobs("", limit=9) == []
    await world.look(after_s=60)
    assert world.logs.logs == {}


async def test_an_archive_of_another_run_is_not_read(tmp_path: Path) -> None:
    """An object is read for the run that it belongs to only."""
    world = World(tmp_path)
    await world.say(1, "a")
    world.end()
    await world.look(after_s=60)
    (one,) = await world.archives.list_archives(world.run.run_key)
    with pytest.raises(NotFound):
        await world.archives.read_part(RunKey(3), one.object_key, offset=0, size_bytes=9)
