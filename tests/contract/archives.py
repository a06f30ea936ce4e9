"""Archives in memory for tests: made as files makes them, read as query reads them, without either."""

from __future__ import annotations

import itertools
from pathlib import Path

from runyard_server.domain.console import ConsoleArchive
from runyard_server.domain.errors import NotFound
from runyard_server.domain.run import RunKey
from runyard_server.storage.archive.format import ArchiveFile
from runyard_server.storage.archive.layered import LayeredConsole
from runyard_server.storage.ports.console import ConsoleDropper


class NoArchives:
    """The port ArchiveSource where nothing was archived."""

    async def list_console_archives(self, run_key: RunKey) -> list[ConsoleArchive]:
        return []

    async def read_console_archive(
        self, run_key: RunKey, object_key: str, *, offset: int, size_bytes: int
    ) -> bytes:
        raise AssertionError("there are no archives")


class MemoryArchives:
    """The port ArchiveSource over a dictionary."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._objects: dict[str, bytes] = {}
        self._archives: dict[RunKey, dict[int, ConsoleArchive]] = {}
        self._numbers = itertools.count()
        self.reads: list[int] = []
        """Bytes of each read."""

    async def list_console_archives(self, run_key: RunKey) -> list[ConsoleArchive]:
        return [one for _, one in sorted(self._archives.get(run_key, {}).items())]

    async def read_console_archive(
        self, run_key: RunKey, object_key: str, *, offset: int, size_bytes: int
    ) -> bytes:
        if object_key not in self._objects:
            raise NotFound("FILE_NOT_FOUND", f"there is no {object_key}")
        self.reads.append(size_bytes)
        return self._objects[object_key][offset : offset + size_bytes]

    async def make(self, console: LayeredConsole, run_key: RunKey) -> None:
        """Archives all lines of a run; objects that were there are gone."""
        for counted in await console.count_lines(run_key):
            path = self._folder / f"{next(self._numbers)}.parquet"
            file = ArchiveFile(path)
            last = 0
            while True:
                page, reached = await console.export_lines(run_key, counted.writer, after_line=last)
                if not reached:
                    break
                file.add(page)
                last = reached
            file.close()
            own = self._archives.setdefault(run_key, {})
            if counted.writer in own:
                del self._objects[own[counted.writer].object_key]
            content = path.read_bytes()
            assert file.digest()[0] == len(content)
            assert file.line_count == counted.line_count
            self._objects[path.name] = content
            own[counted.writer] = ConsoleArchive(counted.writer, path.name, len(content))


async def archive_and_drop(
    console: LayeredConsole, archives: MemoryArchives, dropper: ConsoleDropper, run_key: RunKey
) -> None:
    """Moves all lines of a run into archives."""
    printed = {
        one.run_key: one.last_block
        for one in await console.list_printed(since_block=0, limit=1 << 20)
    }
    await archives.make(console, run_key)
    for counted in await console.count_lines(run_key):
        last, has_more = 0, True
        while has_more:
            check = await console.check_archive(run_key, counted.writer, after_line=last)
            assert check.missing_count == 0
            last, has_more = check.last_line, check.has_more
    await dropper.drop_lines([(run_key, printed[run_key])])
