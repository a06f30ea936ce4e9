"""Reading back: what is asked, what comes of the replies, errors, connections that break."""

from __future__ import annotations

import pytest

import runyard
from runyard import errors
from runyard.records import Receipt, WriterReceipt
from runyard_protos.metadata.v1 import metadata_pb2
from runyard_protos.query.v1 import query_pb2
from tests.unit.sdk.answering import Yard, run_message


def test_a_run_is_read(yard: Yard, api: runyard.Api) -> None:
    """Fields come as plain Python values, integers exact to 64 bits."""
    yard.reply("GetRun", metadata_pb2.GetRunResponse(run=run_message()))
    yard.reply("GetSummary", query_pb2.GetSummaryResponse(summary_json='{"loss":0.5}'))
    run = api.run("e/p/r1")
    assert (run.path, run.state, run.name, run.tags, run.summary) == (
        "e/p/r1",
        "running",
        "n",
        ["t"],
        {"loss": 0.5},
    )
    assert run.config["big"] == 2**64 - 1 and run.config["x"] != run.config["x"]
    assert run.url == f"{yard.url}/e/p/runs/r1"
    path, headers, body = yard.requests[0]
    assert path == "/runyard.metadata.v1.MetadataService/GetRun"
    assert headers["authorization"] == "Bearer secret" and int(headers["connect-timeout-ms"]) > 0
    assert metadata_pb2.GetRunRequest.FromString(body).path == "e/p/r1"


@pytest.mark.parametrize(
    ("path", "asked"),
    [("r1", "local/uncategorized/r1"), ("p/r1", "local/p/r1"), ("/e/p/runs/r1", "e/p/r1")],
)
def test_paths_may_leave_defaults_out(yard: Yard, api: runyard.Api, path: str, asked: str) -> None:
    """Parts left out at the front are the defaults; the path of the page works too."""
    yard.reply("GetRun", metadata_pb2.GetRunResponse(run=run_message()))
    api.run(path)
    assert metadata_pb2.GetRunRequest.FromString(yard.requests[0][2]).path == asked


@pytest.mark.parametrize("path", ["", "a/b/c/d", "a//b"])
def test_paths_that_are_none(api: runyard.Api, path: str) -> None:
    """A path that cannot name a run is refused here."""
    with pytest.raises(errors.InvalidArgument, match="entity/project/run_id"):
        api.run(path)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "not_found", errors.NotFound),
        (400, "invalid_argument", errors.InvalidArgument),
        (429, "resource_exhausted", errors.ResourceExhausted),
        (503, "unavailable", errors.Unavailable),
        (409, "already_exists", errors.AlreadyExists),
        (400, "failed_precondition", errors.FailedPrecondition),
        (500, "something_new", errors.Internal),
    ],
)
def test_errors_come_back_as_their_classes(
    yard: Yard, api: runyard.Api, status: int, code: str, kind: type[errors.Error]
) -> None:
    """The class is the status's, with reason, metadata and delay."""
    details = [
        {
            "type": "google.rpc.ErrorInfo",
            "value": "",
            "debug": {"reason": "RUN_X", "metadata": {"run": "r"}},
        },
        {"type": "google.rpc.RetryInfo", "value": "", "debug": {"retryDelay": "0.250s"}},
    ]
    yard.fail("GetRun", status, {"code": code, "message": "what is wrong", "details": details})
    with pytest.raises(kind, match="what is wrong") as caught:
        api.run("e/p/r")
    error = caught.value
    assert (error.reason, error.metadata, error.retry_delay_s) == ("RUN_X", {"run": "r"}, 0.25)


def test_another_server_is_no_runyard(yard: Yard, api: runyard.Api) -> None:
    """A page that is not ours is an error that says so."""
    with pytest.raises(errors.Error, match=r"HTTP 404; is a runyard server there"):
        api.run("e/p/r")


def test_a_dropped_connection_is_made_anew(yard: Yard, api: runyard.Api) -> None:
    """A kept connection that the server closed is made again; a server that is away is Unavailable."""
    yard.reply("GetRun", metadata_pb2.GetRunResponse(run=run_message()))
    api.run("r")
    yard.drops = 1
    assert api.run("r").name == "n"
    yard.drops = 5
    with pytest.raises(errors.Unavailable, match="does not answer"):
        api.run("r")
    away = runyard.Api("http://127.0.0.1:9")
    with pytest.raises(errors.Unavailable, match=r"http://127\.0\.0\.1:9 does not answer"):
        away.run("r")


def test_runs_are_paged_as_they_are_looked_at(yard: Yard, api: runyard.Api) -> None:
    """len, indexing, slices and iteration fetch the pages they need and no more."""

    def answer(path: str, body: bytes) -> tuple[int, str, bytes]:
        request = query_pb2.QueryRunsRequest.FromString(body)
        start = int(request.page_token or 0)
        numbers = range(start, min(start + request.page_size, 25))
        rows = [
            query_pb2.RunRow(run=run_message(run_id=f"r{n}"), summary_json=f'{{"n":{n}}}')
            for n in numbers
        ]
        token = str(numbers.stop) if numbers.stop < 25 else ""
        reply = query_pb2.QueryRunsResponse(runs=rows, next_page_token=token, total_count=25)
        return 200, "application/proto", reply.SerializeToString()

    yard.answers["QueryRuns"] = answer
    runs = api.runs("e/p", per_page=10)
    assert len(yard.requests) == 0
    assert (len(runs), runs[3].id, runs[3].summary) == (25, "r3", {"n": 3})
    assert len(yard.requests) == 1
    assert [run.id for run in runs[8:12]] == ["r8", "r9", "r10", "r11"]
    assert len(yard.requests) == 2
    assert [run.id for run in runs] == [f"r{n}" for n in range(25)]
    assert runs[-1].id == "r24" and len(yard.requests) == 3
    with pytest.raises(IndexError):
        _ = runs[25]


def test_filters_come_later(api: runyard.Api) -> None:
    """What is not offered yet is refused, not passed over."""
    with pytest.raises(errors.NotOffered, match="filters"):
        api.runs("e/p", filters={"state": "running"})
    with pytest.raises(errors.NotOffered, match="order"):
        api.runs("e/p", order="+created_at")


def test_update_writes_what_changed(yard: Yard, api: runyard.Api) -> None:
    """update() sends the changed fields with their mask, and nothing if nothing changed."""
    yard.reply("GetRun", metadata_pb2.GetRunResponse(run=run_message()))
    run = api.run("r")
    run.update()
    assert len(yard.requests) == 1
    run.name, run.tags = "new", ["a", "b"]
    run.config["big"] = 1
    yard.reply("UpdateRun", metadata_pb2.UpdateRunResponse(run=run_message(display_name="new")))
    run.update()
    request = metadata_pb2.UpdateRunRequest.FromString(yard.requests[1][2])
    assert sorted(request.update_mask.paths) == ["config_json", "display_name", "tags"]
    assert (request.run.display_name, list(request.run.tags)) == ("new", ["a", "b"])
    assert run.name == "new"


def test_history_asks_for_buckets(yard: Yard, api: runyard.Api) -> None:
    """history() returns rows of raw points, or the last points of buckets."""
    yard.reply("GetRun", metadata_pb2.GetRunResponse(run=run_message()))
    series = [
        query_pb2.BucketSeries(
            run_path="e/p/r1", metric="loss", width=1, is_raw=True, first_steps=[0, 2], last_steps=[0, 2],
            times_unix_ns=[10**9, 2 * 10**9], lasts=[1.0, 0.5],
        )
    ]  # fmt: skip
    yard.reply("QueryBuckets", query_pb2.QueryBucketsResponse(series=series))
    assert api.run("r").history(keys=["loss"], samples=7) == [
        {"_step": 0, "_timestamp": 1.0, "loss": 1.0},
        {"_step": 2, "_timestamp": 2.0, "loss": 0.5},
    ]
    request = query_pb2.QueryBucketsRequest.FromString(yard.requests[-1][2])
    assert (list(request.metrics), request.bucket_count_max) == (["loss"], 7)
    with pytest.raises(errors.InvalidArgument, match="samples=0"):
        api.run("r").history(samples=0)


def test_a_stop_says_who_how_and_why(yard: Yard, api: runyard.Api) -> None:
    """stop() sends the wishes, and returns the state; with a wait, once the run has ended."""
    yard.reply("GetRun", metadata_pb2.GetRunResponse(run=run_message()))
    run = api.run("r")
    stopping = run_message(stop=metadata_pb2.StopStatus(stage=metadata_pb2.STOP_STAGE_DRAINING))
    yard.reply("RequestStop", metadata_pb2.RequestStopResponse(run=stopping))
    state = run.stop("enough", grace_s=1.5, kill=True)
    assert (state.state, state.stage, state.is_live) == ("running", "draining", True)
    request = metadata_pb2.RequestStopRequest.FromString(yard.requests[-1][2])
    assert (request.run_path, request.reason, request.may_kill) == ("e/p/r1", "enough", True)
    assert request.grace.ToMilliseconds() == 1500 and "@" in request.requested_by
    ended = run_message(state=metadata_pb2.RUN_STATE_KILLED, exit_code=130)
    yard.reply("GetRun", metadata_pb2.GetRunResponse(run=ended))
    state = run.stop(wait_s=float("inf"))
    assert (state.state, state.exit_code, state.is_live) == ("killed", 130, False)
    request = metadata_pb2.RequestStopRequest.FromString(yard.requests[-2][2])
    assert not request.HasField("grace") and not request.may_kill


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"grace_s": -1.0}, r"-1 s: it must lie between 0 and 86400 s"),
        ({"grace_s": 86_401.0}, r"86401 s: it must"),
        ({"grace_s": float("nan")}, r"nan s: it must"),
        ({"wait_s": -1.0}, r"wait_s=-1\.0"),
        ({"wait_s": float("nan")}, r"wait_s=nan"),
    ],
)
def test_a_stop_that_cannot_be(
    yard: Yard, api: runyard.Api, wish: dict[str, float], message: str
) -> None:
    """Times that cannot be are refused here, with the limit; nothing is sent."""
    yard.reply("GetRun", metadata_pb2.GetRunResponse(run=run_message()))
    run = api.run("r")
    with pytest.raises(errors.InvalidArgument, match=message):
        run.stop(**wish)
    assert len(yard.requests) == 1


def test_paths_of_runs_to_delete_may_leave_defaults_out(yard: Yard, api: runyard.Api) -> None:
    """As everywhere; one that is none deletes nothing."""
    yard.reply("DeleteRuns", metadata_pb2.DeleteRunsResponse())
    api.delete_runs(["r1", "e/p/runs/r2"])
    request = metadata_pb2.DeleteRunsRequest.FromString(yard.requests[0][2])
    assert list(request.run_paths) == ["local/uncategorized/r1", "e/p/r2"]
    with pytest.raises(errors.InvalidArgument, match="a/b/c/d"):
        api.delete_runs(["r1", "a/b/c/d"])
    assert len(yard.requests) == 1


def test_history_of_keys_with_steps_of_their_own(yard: Yard, api: runyard.Api) -> None:
    """Rows that have all keys: from raw points at once; where one is in buckets, by reading both."""
    yard.reply("GetRun", metadata_pb2.GetRunResponse(run=run_message()))
    run = api.run("r")

    def bucket_series(metric: str, steps: list[int], is_raw: bool) -> query_pb2.BucketSeries:
        values, times = [float(step) for step in steps], [10**9 + step for step in steps]
        return query_pb2.BucketSeries(
            metric=metric, is_raw=is_raw, last_steps=steps, times_unix_ns=times, lasts=values
        )

    raw = [bucket_series("a", [0, 1, 2, 3], True), bucket_series("b", [1, 3, 5], True)]
    yard.reply("QueryBuckets", query_pb2.QueryBucketsResponse(series=raw))
    assert [row["_step"] for row in run.history(["a", "b"])] == [1, 3]
    assert [row["_step"] for row in run.history(["a", "b"], require="any")] == [0, 1, 2, 3, 5]
    assert run.history(["a", "b", "c"]) == []
    torn = [bucket_series("a", [9, 19], False), bucket_series("b", [4, 12], True)]
    yard.reply("QueryBuckets", query_pb2.QueryBucketsResponse(series=torn))
    whole = [
        query_pb2.Series(metric=name, steps=steps, times_unix_ns=steps, values=steps, writers=[1] * len(steps))
        for name, steps in (("a", list(range(20))), ("b", [4, 12]))
    ]  # fmt: skip
    yard.reply("QuerySeries", query_pb2.QuerySeriesResponse(series=whole))
    assert [(row["_step"], row["a"]) for row in run.history(["a", "b"])] == [(4, 4.0), (12, 12.0)]
    assert [row["_step"] for row in run.history(["a", "b"], samples=1)] == [12]
    whole[1].writers[:] = [2, 2]  # a row of history() is a step, whoever logged it
    yard.reply("QuerySeries", query_pb2.QuerySeriesResponse(series=whole))
    assert [row["_step"] for row in run.history(["a", "b"])] == [4, 12]
    assert list(run.scan_history(["a", "b"])) == []


def test_keys_that_every_row_has(yard: Yard, api: runyard.Api) -> None:
    """Asking for the step alone gives all rows; with a metric, the rows of the metric."""
    yard.reply("GetRun", metadata_pb2.GetRunResponse(run=run_message()))
    names = query_pb2.ListMetricsResponse(metrics=[query_pb2.MetricStats(name="a"), query_pb2.MetricStats(name="b")])  # fmt: skip
    yard.reply("ListMetrics", names)
    series = [
        query_pb2.Series(metric="a", steps=[1], times_unix_ns=[10**9], values=[0.5], writers=[1]),
        query_pb2.Series(metric="b", steps=[2], times_unix_ns=[2 * 10**9], values=[1.5], writers=[1]),
    ]  # fmt: skip
    yard.reply("QuerySeries", query_pb2.QuerySeriesResponse(series=series))
    rows = list(api.run("r").scan_history(keys=["_step"]))
    assert rows == [{"_step": 1, "_timestamp": 1.0}, {"_step": 2, "_timestamp": 2.0}]
    yard.reply("QuerySeries", query_pb2.QuerySeriesResponse(series=series[:1]))
    rows = list(api.run("r").scan_history(keys=["_step", "a", "_timestamp"]))
    assert rows == [{"_step": 1, "_timestamp": 1.0, "a": 0.5}]
    with pytest.raises(errors.InvalidArgument, match="require='most'"):
        api.run("r").history(["a"], require="most")


def test_receipts_say_what_is_missing() -> None:
    """A receipt names gaps."""
    writer = WriterReceipt(1, 8, 3, 10, ((4, 5),), 2, 16)
    receipt = Receipt(8, 9, (writer,))
    assert str(receipt) == "8 of 10 records durable; missing: 4-5"
    assert not receipt.is_gapless and (receipt.points_accepted, receipt.points_rejected) == (16, 2)
    assert str(Receipt(0, None, ())) == "0 of 0 records durable"


def test_a_path_that_is_no_text() -> None:
    """A path of another type is an error that names it, before any call."""
    with runyard.Api("http://127.0.0.1:9") as api:
        with pytest.raises(ValueError, match=r"'5' is of type int; it must be a string, .* a run"):
            api.run(5)  # type: ignore[arg-type]  # what is tested
        with pytest.raises(errors.InvalidArgument, match=r"type float.* a project"):
            api.runs(0.5)  # type: ignore[arg-type]  # what is tested
