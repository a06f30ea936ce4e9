"""Reading media back: names, samples, all values however the replies are cut, histograms, files of forks."""

from __future__ import annotations

import json

import pytest

import runyard
from runyard import errors, rpc_media
from runyard_protos.files.v1 import files_pb2
from runyard_protos.ingest.v1 import ingest_pb2
from runyard_protos.metadata.v1 import metadata_pb2
from runyard_protos.query.v1 import query_pb2
from tests.unit.sdk.answering import Yard, run_message

IMAGE = ingest_pb2.MEDIA_KIND_IMAGE
HISTOGRAM = ingest_pb2.MEDIA_KIND_HISTOGRAM


@pytest.fixture
def run(yard: Yard, api: runyard.Api) -> runyard.api_run.Run:
    yard.reply("GetRun", metadata_pb2.GetRunResponse(run=run_message()))
    return api.run("e/p/r1")


def image(step: int, writer: int = 1, run_path: str = "e/p/r1") -> query_pb2.StoredMedia:
    items = [{"file": f"{step}.png", "caption": f"step {step}", "score": {"$float": "NaN"}}]
    value = ingest_pb2.MediaValue(
        sequence=1, name="x", step=step, time_unix_ns=1_500_000_000, kind=IMAGE, items_json=json.dumps(items)
    )  # fmt: skip
    return query_pb2.StoredMedia(writer=writer, value=value, file_run_path=run_path)


class Store:
    """Answers QueryMedia as the server does: steps evenly chosen, replies cut after some values."""

    def __init__(self, steps: list[int], cut: int) -> None:
        self.steps = steps
        self.cut = cut
        self.calls = 0

    def answer(self, path: str, body: bytes) -> tuple[int, str, bytes]:
        self.calls += 1
        request = query_pb2.QueryMediaRequest.FromString(body)
        wanted = request.range
        inside = [
            step
            for step in self.steps
            if (not wanted.HasField("first_step") or step >= wanted.first_step)
            and (not wanted.HasField("last_step") or step <= wanted.last_step)
        ]
        reply = query_pb2.QueryMediaResponse()
        if inside:
            count, most = len(inside), request.step_count_max
            places = range(count)
            chosen = [inside[p] for p in places]
            if count > most:
                chosen = [inside[p * (count - 1) // (most - 1)] for p in range(most)]
            is_sampled = len(chosen) < count or len(chosen) > self.cut
            reply.is_cut = len(chosen) > self.cut
            values = [image(step) for step in chosen[: self.cut]]
            reply.series.add(
                run_path="e/p/r1", name="x", values=values, step_count=count, is_sampled=is_sampled
            )
        return 200, "application/proto", reply.SerializeToString()


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 95])
@pytest.mark.parametrize("cut", [1, 2, 7, 1_000])
def test_all_values_are_read_once(
    yard: Yard,
    run: runyard.api_run.Run,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    cut: int,
) -> None:
    """Every step comes once and in order, however many there are and wherever a reply is cut."""
    monkeypatch.setattr(rpc_media, "STEPS_PER_CALL", 10)
    steps = [3 * n - 40 for n in range(count)]
    store = Store(steps, cut)
    yard.answers["QueryMedia"] = store.answer
    assert [one.step for one in run.media("x")] == steps
    if cut > 10:
        assert store.calls <= 1 + count // 2


def test_a_value_has_items_and_files(yard: Yard, run: runyard.api_run.Run) -> None:
    """Items come as plain values; files are asked of the run that has them; a parent that is gone is told."""
    series = query_pb2.MediaSeries(
        run_path="e/p/r1",
        name="x",
        values=[image(0, 0, "e/p/parent"), image(1, 0, ""), image(2)],
        step_count=3,
    )
    yard.reply("QueryMedia", query_pb2.QueryMediaResponse(series=[series]))
    file = files_pb2.File(name="0.png", size_bytes=3, sha256=bytes(32))
    yard.reply("GetFile", files_pb2.GetFileResponse(file=file, download_url="http://x"))
    first, second, third = run.media("x", samples=3, min_step=0, max_step=3)
    assert (first.kind, first.caption, first.time_s, third.writer) == ("image", "step 0", 1.5, 1)
    assert first.items[0]["score"] != first.items[0]["score"]
    assert first.file().name == "0.png"
    asked = files_pb2.GetFileRequest.FromString(yard.requests[-1][2])
    assert (asked.run_path, asked.name) == ("e/p/parent", "0.png")
    with pytest.raises(errors.NotFound, match="gone"):
        second.file()
    with pytest.raises(errors.NotFound, match="no file of an item 1"):
        third.file(1)
    request = query_pb2.QueryMediaRequest.FromString(
        next(body for path, _, body in yard.requests if path.endswith("QueryMedia"))
    )
    assert (request.range.first_step, request.range.last_step, request.step_count_max) == (0, 2, 3)


def test_names_and_histograms(yard: Yard, run: runyard.api_run.Run) -> None:
    """Names come over pages with their kinds; a histogram is that of a step or the last; other kinds are refused."""
    page = query_pb2.ListMediaResponse(
        media=[query_pb2.MediaStats(name="w", kind=HISTOGRAM, first_step=1, last_step=9, step_count=2)]
    )  # fmt: skip
    yard.reply("ListMedia", page)
    (name,) = run.media_names("w", kinds="histogram")
    assert (name.name, name.kind, name.last_step, name.step_count) == ("w", "histogram", 9, 2)
    asked = query_pb2.ListMediaRequest.FromString(yard.requests[-1][2])
    assert (asked.name_contains, list(asked.kinds)) == ("w", [HISTOGRAM])
    bins = ingest_pb2.Histogram(edges=[0.0, 1.0], counts=[4.0], non_finite_count=2)
    value = ingest_pb2.MediaValue(name="w", step=9, kind=HISTOGRAM, histogram=bins)
    series = query_pb2.MediaSeries(
        name="w", values=[query_pb2.StoredMedia(writer=1, value=value)], step_count=1
    )
    yard.reply("QueryMedia", query_pb2.QueryMediaResponse(series=[series]))
    found = run.histogram("w")
    assert (found.edges, found.counts, found.non_finite_count) == ([0.0, 1.0], [4.0], 2)
    run.histogram("w", step=9)
    request = query_pb2.QueryMediaRequest.FromString(yard.requests[-1][2])
    assert (request.range.first_step, request.range.last_step, request.step_count_max) == (9, 9, 1)
    series.values[0].CopyFrom(image(9))
    yard.reply("QueryMedia", query_pb2.QueryMediaResponse(series=[series]))
    with pytest.raises(errors.NotFound, match="of kind image"):
        run.histogram("w")
    yard.reply("QueryMedia", query_pb2.QueryMediaResponse())
    with pytest.raises(errors.NotFound, match="no media value 'w' at step 4"):
        run.histogram("w", step=4)


def table_value() -> query_pb2.QueryMediaResponse:
    value = ingest_pb2.MediaValue(
        name="t", step=9, kind=ingest_pb2.MEDIA_KIND_TABLE, items_json='[{"file":"t.parquet"}]'
    )
    stored = query_pb2.StoredMedia(writer=1, value=value, file_run_path="e/p/r1")
    series = query_pb2.MediaSeries(name="t", values=[stored], step_count=1)
    return query_pb2.QueryMediaResponse(series=[series])


def test_a_table_is_read_by_rows(yard: Yard, run: runyard.api_run.Run) -> None:
    """Rows are dicts with exact values, over as many pages as there are; sorts and conditions go to the server."""
    yard.reply("QueryMedia", table_value())
    file = files_pb2.File(name="t.parquet", size_bytes=3, sha256=bytes(32))
    yard.reply("GetFile", files_pb2.GetFileResponse(file=file, download_url="http://x"))
    rows = [f'[{2**53 + n},{{"$float":"NaN"}},null]' for n in range(4_500)]

    def answer(path: str, body: bytes) -> tuple[int, str, bytes]:
        request = query_pb2.QueryTableRequest.FromString(body)
        page = rows[request.offset : request.offset + min(request.limit, 1_500)]
        columns = [query_pb2.TableColumn(name=n, type=t) for n, t in (("id", "number"), ("x", "number"), ("y", "media"))]  # fmt: skip
        reply = query_pb2.QueryTableResponse(
            columns=columns, rows_json=page, matching_count=len(rows), row_count=len(rows)
        )
        return 200, "application/proto", reply.SerializeToString()

    yard.answers["QueryTable"] = answer
    table = run.table("t")
    assert (table.columns, table.types["y"], len(table), table.step) == (["id", "x", "y"], "media", 4_500, 9)  # fmt: skip
    page = table.rows(2, 3, sort="id", descending=True, where=[("x", "<=", float("inf")), ("y", "!=", None)])  # fmt: skip
    assert [row["id"] for row in page] == [2**53 + 2, 2**53 + 3, 2**53 + 4]
    assert page[0]["x"] != page[0]["x"] and page[0]["y"] is None
    asked = query_pb2.QueryTableRequest.FromString(yard.requests[-1][2])
    assert (asked.file, asked.sort_column, asked.is_descending) == ("t.parquet", "id", True)
    assert [(one.column, one.operator, one.value_json) for one in asked.filters] == [
        ("x", query_pb2.TABLE_FILTER_OPERATOR_AT_MOST, '{"$float":"Infinity"}'),
        ("y", query_pb2.TABLE_FILTER_OPERATOR_NOT_EQUAL, "null"),
    ]
    assert [row["id"] - 2**53 for row in table.iterrows()] == list(range(4_500))
    assert table.count([("id", ">", 5)]) == 4_500
    for wrong in ([("id", "~", 1)], [("id", "==")]):
        with pytest.raises(errors.InvalidArgument, match="==, !=, <"):
            table.rows(where=wrong)
    with pytest.raises(errors.InvalidArgument, match="from 1 to 10000"):
        table.rows(limit=10_001)


def test_what_cannot_be_asked(run: runyard.api_run.Run) -> None:
    """Words that mean nothing are refused here, with those that do."""
    with pytest.raises(errors.InvalidArgument, match="image, audio"):
        run.media_names(kinds=["hologram"])
    for samples in (0, 1_001):
        with pytest.raises(errors.InvalidArgument, match="from 1 to 1000"):
            run.media("x", samples=samples)
    with pytest.raises(errors.InvalidArgument, match="current"):
        run.media("x", attempts="some")
