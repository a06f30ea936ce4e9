"""Turns messages of query.v1 about the console into the domain's words and back; decides nothing."""

from __future__ import annotations

from collections.abc import Sequence

from runyard_protos.ingest.v1 import ingest_pb2
from runyard_protos.query.v1 import query_pb2 as pb
from runyard_server.domain.run import RunKey
from runyard_server.query.console import PRINTED_DEFAULT, PRINTED_MAX, ConsoleAsk, ConsolePage
from runyard_server.query.planner import clamp
from runyard_server.storage.ports.console import ConsoleExporter, LineFilter, WriterLines

_NS_PER_MS = 1_000_000


def console_ask(request: pb.ListConsoleLinesRequest) -> ConsoleAsk:
    """Returns what the message asks for."""
    return ConsoleAsk(
        run_path=request.run_path,
        where=LineFilter(
            writers=tuple(dict.fromkeys(request.writers)),
            streams=tuple(dict.fromkeys(request.streams)),
            contains=request.contains,
            matches=request.matches,
            is_case_sensitive=request.is_case_sensitive,
            # Lines are stored to the millisecond, rounded down: those of the asked one are in.
            first_time_unix_ms=_ms(request.first_time_unix_ns)
            if request.HasField("first_time_unix_ns")
            else None,
            last_time_unix_ms=_ms(request.last_time_unix_ns)
            if request.HasField("last_time_unix_ns")
            else None,
        ),
        is_newest_first=request.is_newest_first,
        page_size=request.page_size,
        page_token=request.page_token,
        context_line_count=request.context_line_count,
        changes_token=request.changes_token,
    )


def console_page(page: ConsolePage) -> pb.ListConsoleLinesResponse:
    """Returns the message that says it."""
    rows = page.rows
    return pb.ListConsoleLinesResponse(
        writers=rows.writers,
        lines=rows.lines,
        times_unix_ns=[time * _NS_PER_MS for time in rows.times_unix_ms],
        streams=[ingest_pb2.ConsoleStream.ValueType(stream) for stream in rows.streams],
        texts=rows.texts,
        is_match=page.is_match,
        next_page_token=page.next_page_token,
        changes_token=page.changes_token,
        is_cut=page.is_cut,
    )


def console_counts(writers: Sequence[WriterLines]) -> pb.GetConsoleResponse:
    """Returns the message that says it."""
    return pb.GetConsoleResponse(
        writers=[
            pb.ConsoleWriter(
                writer=one.writer,
                lines_durable=one.line_count,
                last_line=one.last_line,
                first_time_unix_ns=one.first_time_unix_ms * _NS_PER_MS,
                last_time_unix_ns=one.last_time_unix_ms * _NS_PER_MS,
            )
            for one in writers
        ]
    )


async def list_printed_runs(
    exporter: ConsoleExporter, request: pb.ListPrintedRunsRequest
) -> pb.ListPrintedRunsResponse:
    """Answers with the runs."""
    limit = clamp(request.limit, default=PRINTED_DEFAULT, most=PRINTED_MAX)
    runs = await exporter.list_printed(since_block=request.since_block, limit=limit)
    return pb.ListPrintedRunsResponse(
        runs=[pb.PrintedRun(run_key=one.run_key, last_block=one.last_block) for one in runs]
    )


async def export_console_lines(
    exporter: ConsoleExporter, request: pb.ExportConsoleLinesRequest
) -> pb.ExportConsoleLinesResponse:
    """Answers with the lines."""
    lines, last_line = await exporter.export_lines(
        RunKey(request.run_key), request.writer, after_line=request.after_line
    )
    return pb.ExportConsoleLinesResponse(lines=lines, last_line=last_line)


async def check_console_archive(
    exporter: ConsoleExporter, request: pb.CheckConsoleArchiveRequest
) -> pb.CheckConsoleArchiveResponse:
    """Answers how far the lines were compared."""
    check = await exporter.check_archive(
        RunKey(request.run_key), request.writer, after_line=request.after_line
    )
    return pb.CheckConsoleArchiveResponse(
        last_line=check.last_line, missing_count=check.missing_count, has_more=check.has_more
    )


def _ms(time_unix_ns: int) -> int:
    return time_unix_ns // _NS_PER_MS
