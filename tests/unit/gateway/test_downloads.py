"""Logs as one text over HTTP: what is asked for, what comes, and how a download that cannot go on ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio
import pytest
from starlette.requests import Request
from starlette.responses import StreamingResponse

from runyard_protos.query.v1 import query_pb2 as pb
from runyard_server.gateway import downloads
from runyard_server.gateway.downloads import LogDownloads
from tests.stores import ManualClock


class Query:
    """Answers with pages; fails where told."""

    def __init__(self, pages: Sequence[Sequence[str]], *, failures: Sequence[int] = ()) -> None:
        self._pages = pages
        self._failures = list(failures)
        self.asked: list[pb.ListConsoleLinesRequest] = []

    async def forward(
        self, service: str, method_path: str, body: bytes, *, timeout_s: float, request_id: str
    ) -> bytes:
        if method_path.endswith("GetReceipt"):
            return pb.GetReceiptResponse(
                writers=[pb.WriterReceipt(writer=1, label="rank 0")]
            ).SerializeToString()
        request = pb.ListConsoleLinesRequest.FromString(body)
        self.asked.append(request)
        if len(self.asked) in self._failures:
            raise failed(grpc.StatusCode.UNAVAILABLE)
        if request.run_path != "e/p/r":
            raise failed(grpc.StatusCode.NOT_FOUND)
        number = int(request.page_token or 0)
        texts = self._pages[number]
        return pb.ListConsoleLinesResponse(
            writers=[1 + index % 2 for index in range(len(texts))],
            lines=range(1, len(texts) + 1),
            times_unix_ns=[1_700_000_000_123_000_000] * len(texts),
            texts=texts,
            next_page_token=str(number + 1) if number + 1 < len(self._pages) else "",
        ).SerializeToString()


def failed(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(code, nothing, nothing, details="told so")


async def get(query: Query, address: str) -> tuple[int, dict[str, str], list[bytes]]:
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": "/.download/log",
        "query_string": address.encode(),
        "headers": [],
    }
    response = await LogDownloads(query, clock=ManualClock()).answer(Request(scope))
    headers = dict(response.headers)
    if not isinstance(response, StreamingResponse):
        return response.status_code, headers, [bytes(response.body)]
    return response.status_code, headers, [bytes(part) async for part in response.body_iterator]


async def test_a_log_comes_page_by_page() -> None:
    """All pages come one by one, without colours, as a file that is saved under the run's name."""
    query = Query([["a", "\x1b[31mb\x1b[0m"], ["ü"]])
    status, headers, parts = await get(query, "run=e/p/r")
    assert (status, parts) == (200, [b"a\nb\n", "ü\n".encode()])
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert headers["content-disposition"] == 'attachment; filename="r.log"'


async def test_what_stands_in_a_line_can_be_chosen() -> None:
    """Colours, times, labels, writers and streams are as asked."""
    query = Query([["\x1b[31ma\x1b[0m", "b"]])
    _, headers, parts = await get(
        query, "run=e/p/r&colours=1&times=1&labels=1&writer=1&writer=2&stream=stderr"
    )
    assert b"".join(parts).decode().splitlines() == [
        "2023-11-14T22:13:20.123Z  rank 0: \x1b[31ma\x1b[0m",
        "2023-11-14T22:13:20.123Z  writer 2: b",
    ]
    assert (list(query.asked[0].writers), list(query.asked[0].streams)) == ([1, 2], [2])
    assert 'filename="r-writer1-writer2.log"' in headers["content-disposition"]


async def test_an_empty_log_is_an_empty_file() -> None:
    assert (await get(Query([[]]), "run=e/p/r"))[::2] == (200, [])


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("", 400),
        ("run=e/p/none", 404),
        ("run=e/p/r&writer=x", 400),
        ("run=e/p/r&stream=all", 400),
        ("run=e/p/r&times=yes", 400),
    ],
)
async def test_what_cannot_be_is_told_before_the_first_byte(address: str, status: int) -> None:
    found, headers, _ = await get(Query([["a"]]), address)
    assert (found, headers["content-type"]) == (status, "application/json")


async def test_a_page_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that is away for a while breaks nothing off."""
    monkeypatch.setattr(downloads, "_PAUSE_S", 0.0)
    query = Query([["a"], ["b"]], failures=(2, 3))
    assert (await get(query, "run=e/p/r"))[2] == [b"a\n", b"b\n"]


async def test_a_part_does_not_pass_for_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the rest cannot be had, the answer breaks off with an error instead of ending."""
    monkeypatch.setattr(downloads, "_PAUSE_S", 0.0)
    query = Query([["a"], ["b"]], failures=range(2, 99))
    with pytest.raises(grpc.aio.AioRpcError):
        await get(query, "run=e/p/r")
