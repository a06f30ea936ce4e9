"""Pages of a log as text: the calls that get them, and the lines that they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from runyard_protos.ingest.v1 import ingest_pb2
from runyard_protos.query.v1 import query_pb2 as pb
from runyard_server.domain.console import without_escapes
from runyard_server.domain.errors import InvalidArgument

LINES_METHOD: Final = "/runyard.query.v1.QueryService/ListConsoleLines"
RECEIPT_METHOD: Final = "/runyard.query.v1.QueryService/GetReceipt"
PAGE_LINES: Final = 10_000
_STREAMS: Final = {
    "stdout": ingest_pb2.CONSOLE_STREAM_STDOUT,
    "stderr": ingest_pb2.CONSOLE_STREAM_STDERR,
    "note": ingest_pb2.CONSOLE_STREAM_NOTE,
}
_WRITER_MAX: Final = 2**32 - 1


@dataclass(frozen=True, slots=True)
class LogAsk:
    """Which lines are wanted, and how they are written."""

    run_path: str
    writers: tuple[int, ...] = ()
    streams: tuple[str, ...] = ()
    has_colours: bool = False
    has_times: bool = False
    has_labels: bool = False


def check_ask(
    run_path: str, writers: list[str], streams: list[str], flags: Mapping[str, str]
) -> LogAsk:
    """Returns what is asked for; raises InvalidArgument for what cannot be."""
    if not run_path:
        raise _invalid("run", run_path, "name a run as ENTITY/PROJECT/RUN")
    for writer in writers:
        if not (writer.isascii() and writer.isdecimal() and int(writer) <= _WRITER_MAX):
            raise _invalid("writer", writer, "it is a number of a writer")
    for stream in streams:
        if stream not in _STREAMS:
            raise _invalid("stream", stream, f"it is one of {', '.join(_STREAMS)}")
    for name, value in flags.items():
        if value not in ("", "0", "1"):
            raise _invalid(name, value, "it is 0 or 1")
    return LogAsk(
        run_path,
        tuple(map(int, writers)),
        tuple(streams),
        has_colours=flags.get("colours") == "1",
        has_times=flags.get("times") == "1",
        has_labels=flags.get("labels") == "1",
    )


def page_request(ask: LogAsk, page_token: str) -> bytes:
    """Returns the call for a page."""
    request = pb.ListConsoleLinesRequest(
        run_path=ask.run_path,
        writers=ask.writers,
        streams=[_STREAMS[stream] for stream in ask.streams],
        page_size=PAGE_LINES,
        page_token=page_token,
    )
    return request.SerializeToString()


def labels_request(ask: LogAsk) -> bytes:
    """Returns the call that tells the labels of a run's writers."""
    return pb.GetReceiptRequest(run_path=ask.run_path).SerializeToString()


def read_labels(reply: bytes) -> dict[int, str]:
    """Returns the labels by writer."""
    receipt = pb.GetReceiptResponse.FromString(reply)
    return {one.writer: one.label for one in receipt.writers if one.label}


def page_text(ask: LogAsk, reply: bytes, labels: Mapping[int, str]) -> tuple[bytes, str]:
    """Returns the lines of a page as text, and the token of the next page; empty: it was the last."""
    page = pb.ListConsoleLinesResponse.FromString(reply)
    parts: list[str] = []
    columns = zip(page.writers, page.times_unix_ns, page.texts, strict=True)
    for writer, time_unix_ns, text in columns:
        if ask.has_times:
            parts.append(_stamp(time_unix_ns))
        if ask.has_labels:
            parts.append(f"{labels.get(writer, f'writer {writer}')}: ")
        parts.append(text if ask.has_colours else without_escapes(text))
        parts.append("\n")
    return "".join(parts).encode(), page.next_page_token


def _stamp(time_unix_ns: int) -> str:
    seconds, rest = divmod(time_unix_ns // 1_000_000, 1_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:03d}Z  "


def _invalid(field: str, value: str, rule: str) -> InvalidArgument:
    return InvalidArgument(
        "FIELD_INVALID",
        f"{field} is {value[:64]!r}: {rule}",
        metadata={"field": field, "value": value[:64]},
    )
