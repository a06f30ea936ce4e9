"""Calls to the other services about what runs print: archives, and the lines that they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from runyard_protos.files.v1 import files_pb2 as files_pb
from runyard_protos.ingest.v1 import ingest_pb2 as ingest_pb
from runyard_protos.query.v1 import query_pb2 as query_pb
from runyard_server.domain.console import ArchiveCheck, ConsoleArchive, PrintedRun
from runyard_server.domain.run import RunDocument, RunKey
from runyard_server.rpc.siblings import FILES, INGEST, QUERY, Siblings

DROP_DEADLINE_S: Final = 700.0
EXPORT_DEADLINE_S: Final = 60.0


class ConsoleSiblings:
    """What services ask of each other about lines, in the words of the domain."""

    def __init__(self, siblings: Siblings) -> None:
        self._siblings = siblings

    async def get_run(
        self, *, path: str | None = None, run_key: RunKey | None = None
    ) -> RunDocument:
        """Returns one run; see Siblings.get_run."""
        return await self._siblings.get_run(path=path, run_key=run_key)

    async def list_printed(self, *, since_block: int, limit: int) -> list[PrintedRun]:
        """Returns runs into which lines came after that block. Raises Unavailable."""
        reply = await self._siblings.ask(
            QUERY,
            "/runyard.query.v1.QueryService/ListPrintedRuns",
            query_pb.ListPrintedRunsRequest(since_block=since_block, limit=limit),
            query_pb.ListPrintedRunsResponse,
        )
        return [PrintedRun(RunKey(one.run_key), one.last_block) for one in reply.runs]

    async def list_printers(self, run_path: str) -> list[int]:
        """Returns the writers of a run that printed something, by number. Raises NotFound RUN_NOT_FOUND, Unavailable."""
        reply = await self._siblings.ask(
            QUERY,
            "/runyard.query.v1.QueryService/GetConsole",
            query_pb.GetConsoleRequest(run_path=run_path),
            query_pb.GetConsoleResponse,
        )
        return [one.writer for one in reply.writers]

    async def export_lines(
        self, run_key: RunKey, writer: int, *, after_line: int
    ) -> tuple[bytes, int]:
        """Returns lines of a writer behind that one, packed, and the number of the last; see ConsoleExporter."""
        reply = await self._siblings.ask(
            QUERY,
            "/runyard.query.v1.QueryService/ExportConsoleLines",
            query_pb.ExportConsoleLinesRequest(
                run_key=run_key, writer=writer, after_line=after_line
            ),
            query_pb.ExportConsoleLinesResponse,
            deadline_s=EXPORT_DEADLINE_S,
        )
        return reply.lines, reply.last_line

    async def check_archive(self, run_key: RunKey, writer: int, *, after_line: int) -> ArchiveCheck:
        """Has query compare lines behind that one with their archive; see ConsoleExporter."""
        reply = await self._siblings.ask(
            QUERY,
            "/runyard.query.v1.QueryService/CheckConsoleArchive",
            query_pb.CheckConsoleArchiveRequest(
                run_key=run_key, writer=writer, after_line=after_line
            ),
            query_pb.CheckConsoleArchiveResponse,
            deadline_s=EXPORT_DEADLINE_S,
        )
        return ArchiveCheck(reply.last_line, reply.missing_count, reply.has_more)

    async def drop_lines(self, drops: Sequence[tuple[RunKey, int]]) -> None:
        """Has ingest remove lines from ClickHouse; see ConsoleDropper."""
        await self._siblings.ask(
            INGEST,
            "/runyard.ingest.v1.IngestService/DropConsoleLines",
            ingest_pb.DropConsoleLinesRequest(
                drops=[
                    ingest_pb.ConsoleDrop(run_key=run_key, last_block=block)
                    for run_key, block in drops
                ]
            ),
            ingest_pb.DropConsoleLinesResponse,
            deadline_s=DROP_DEADLINE_S,
        )

    async def list_console_archives(self, run_key: RunKey) -> list[ConsoleArchive]:
        """Returns the archives of a run; see ArchiveSource."""
        reply = await self._siblings.ask(
            FILES,
            "/runyard.files.v1.FilesService/ListConsoleArchives",
            files_pb.ListConsoleArchivesRequest(run_key=run_key),
            files_pb.ListConsoleArchivesResponse,
        )
        return [
            ConsoleArchive(one.writer, one.object_key, one.size_bytes) for one in reply.archives
        ]

    async def read_console_archive(
        self, run_key: RunKey, object_key: str, *, offset: int, size_bytes: int
    ) -> bytes:
        """Returns a part of an archive; see ArchiveSource."""
        reply = await self._siblings.ask(
            FILES,
            "/runyard.files.v1.FilesService/ReadConsoleArchive",
            files_pb.ReadConsoleArchiveRequest(
                run_key=run_key, object_key=object_key, offset=offset, size_bytes=size_bytes
            ),
            files_pb.ReadConsoleArchiveResponse,
        )
        return reply.content
