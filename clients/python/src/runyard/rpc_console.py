"""Reads what a run printed: lines from either end, found ones, those that come, and how many there are."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import socket
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Callable

from runyard.errors import InvalidArgument, Unavailable
from runyard.rpc import QUERY, Connection
from runyard_protos.ingest.v1 import ingest_pb2
from runyard_protos.query.v1 import query_pb2

PAGE_SIZE = 10_000
FOLLOW_INTERVAL_S = 0.5
_PIECE_BYTES = 1 << 20
STREAMS = {
    "stdout": ingest_pb2.CONSOLE_STREAM_STDOUT,
    "stderr": ingest_pb2.CONSOLE_STREAM_STDERR,
    "note": ingest_pb2.CONSOLE_STREAM_NOTE,
}
_STREAM_NAMES = {number: name for name, number in STREAMS.items()}


@dataclasses.dataclass(frozen=True)
class ConsoleLine:
    """One line that a run's process or its children printed."""

    writer: int
    line: int
    """Its number; a writer's lines have all numbers from 1."""
    time_s: float
    """When it began, Unix seconds."""
    stream: str
    """stdout, stderr, or note: said by runyard in place of lines that it could not keep."""
    text: str
    """What it says, with its ANSI colours, without a newline."""
    is_match: bool = True
    """False: it is there as context of a line that was searched for."""


@dataclasses.dataclass(frozen=True)
class ConsoleCount:
    """How much one writer printed."""

    writer: int
    lines_durable: int
    last_line: int
    """More than lines_durable if lines between are missing, for now."""


@dataclasses.dataclass(frozen=True)
class LineQuery:
    """Which lines are wanted; empty and None leave nothing out."""

    writers: tuple[int, ...] = ()
    streams: tuple[str, ...] = ()
    contains: str = ""
    matches: str = ""
    """A regular expression of RE2."""
    is_case_sensitive: bool = False
    since_s: float | None = None
    until_s: float | None = None
    context: int = 0


def list_lines(connection: Connection, path: str, query: LineQuery) -> Iterator[ConsoleLine]:
    """Yields the lines from the first to the last; raises NotFound, InvalidArgument."""
    request = _request(path, query)
    request.page_size = PAGE_SIZE
    for reply in _pages(connection, request):
        yield from _lines(reply)


def last_lines(
    connection: Connection, path: str, query: LineQuery, count: int
) -> tuple[list[ConsoleLine], str]:
    """Returns the last `count` lines, and the token that `follow` goes on from."""
    request = _request(path, query)
    request.is_newest_first = True
    request.page_size = min(max(1, count), PAGE_SIZE)
    found: list[ConsoleLine] = []
    token = ""
    for reply in _pages(connection, request):
        token = token or reply.changes_token
        found = [*_lines(reply), *found]
        if len(found) >= count:
            break
    return found[-count:] if count else [], token


def follow(
    connection: Connection,
    path: str,
    query: LineQuery,
    token: str,
    *,
    is_live: Callable[[], bool],
    known: Sequence[ConsoleLine] = (),
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[ConsoleLine]:
    """Yields lines that come, and those whose text changed again, until the run has ended and all of it was told."""
    told = {(one.writer, one.line): one.text for one in known}
    is_last = False
    while True:
        is_last = not is_live()  # before asking: what came until then is told
        request = _request(path, query)
        request.changes_token, request.page_size = token, PAGE_SIZE
        reply = _call(connection, request)
        token = reply.changes_token
        fresh: dict[tuple[int, int], str] = {}
        for line in _lines(reply):
            key = (line.writer, line.line)
            fresh[key] = line.text
            if told.get(key) != line.text:
                yield line
        told = (
            fresh  # a reply repeats what came in the last seconds, so older ones need not be known
        )
        if is_last:
            return
        sleep(FOLLOW_INTERVAL_S)


def download_log(
    connection: Connection,
    path: str,
    file: Path,
    *,
    writers: Sequence[int] = (),
    streams: Sequence[str] = (),
    colours: bool = False,
    times: bool = False,
    labels: bool = False,
) -> int:
    """Writes a run's log into a file, which is there when all of it is; returns its size. Raises NotFound, Unavailable, OSError."""
    fields: list[tuple[str, str]] = [("run", path)]
    fields += [("writer", str(writer)) for writer in writers]
    fields += [("stream", stream) for stream in streams]
    flags = {"colours": colours, "times": times, "labels": labels}
    fields += [(name, "1") for name, is_set in flags.items() if is_set]
    partial = file.with_name(file.name + ".part")
    try:
        address = "/.download/log?" + urllib.parse.urlencode(fields)
        with connection.open_download(address) as reply, partial.open("wb") as out:
            size_bytes = _copy(reply, out)
        partial.replace(file)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
    return size_bytes


def _copy(reply: http.client.HTTPResponse, out: BinaryIO) -> int:
    """Writes all of the reply; raises Unavailable if it breaks off."""
    size_bytes = 0
    while True:
        try:
            piece = reply.read(_PIECE_BYTES)
        except (http.client.HTTPException, ConnectionError, socket.timeout) as error:
            raise Unavailable(
                f"the server broke the download off after {size_bytes:,} bytes ({type(error).__name__}); repeat it",
                reason="SERVICE_UNAVAILABLE",
            ) from None
        if not piece:
            return size_bytes
        size_bytes += out.write(piece)


def count_lines(connection: Connection, path: str) -> list[ConsoleCount]:
    """Returns how much each writer printed, by number; raises NotFound."""
    reply = connection.call(
        QUERY + "GetConsole",
        query_pb2.GetConsoleRequest(run_path=path),
        query_pb2.GetConsoleResponse,
    )
    return [ConsoleCount(one.writer, one.lines_durable, one.last_line) for one in reply.writers]


def _request(path: str, query: LineQuery) -> query_pb2.ListConsoleLinesRequest:
    unknown = [stream for stream in query.streams if stream not in STREAMS]
    if unknown:
        raise InvalidArgument(
            f"stream {unknown[0]!r} is not one of {', '.join(STREAMS)}", reason="FIELD_INVALID"
        )
    request = query_pb2.ListConsoleLinesRequest(
        run_path=path,
        writers=query.writers,
        streams=[STREAMS[stream] for stream in query.streams],
        contains=query.contains,
        matches=query.matches,
        is_case_sensitive=query.is_case_sensitive,
        context_line_count=query.context,
    )
    if query.since_s is not None:
        request.first_time_unix_ns = int(query.since_s * 1e9)
    if query.until_s is not None:
        request.last_time_unix_ns = int(query.until_s * 1e9)
    return request


def _pages(
    connection: Connection, request: query_pb2.ListConsoleLinesRequest
) -> Iterator[query_pb2.ListConsoleLinesResponse]:
    while True:
        reply = _call(connection, request)
        yield reply
        if not reply.next_page_token:
            return
        request.page_token = reply.next_page_token


def _call(
    connection: Connection, request: query_pb2.ListConsoleLinesRequest
) -> query_pb2.ListConsoleLinesResponse:
    kind = query_pb2.ListConsoleLinesResponse
    return connection.call(QUERY + "ListConsoleLines", request, kind)


def _lines(reply: query_pb2.ListConsoleLinesResponse) -> Iterator[ConsoleLine]:
    columns = (reply.writers, reply.lines, reply.times_unix_ns, reply.streams, reply.texts)
    matches = reply.is_match or [True] * len(reply.lines)
    for (writer, line, time_unix_ns, stream, text), is_match in zip(zip(*columns), matches):
        name = _STREAM_NAMES.get(stream, str(stream))
        yield ConsoleLine(writer, line, time_unix_ns / 1e9, name, text, is_match)
