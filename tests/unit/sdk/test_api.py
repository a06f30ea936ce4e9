"""Reading back: rows out of columns, errors out of replies, connections that break, the command line."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from google.protobuf import message
from hypothesis import given
from hypothesis import strategies as st

import runyard
from runyard import cli, errors
from runyard.api_rows import merged_rows, scanned_rows
from runyard.records import Columns, Receipt, WriterReceipt
from runyard_protos.metadata.v1 import metadata_pb2
from runyard_protos.query.v1 import query_pb2

Points = dict[str, dict[int, float]]

points = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.dictionaries(st.integers(-20, 20), st.floats(allow_nan=False), max_size=12),
    max_size=3,
)


def columns_of(
    stored: Points, names: Sequence[str], first: int | None, last: int | None
) -> list[Columns]:
    found = []
    for name in names:
        steps = [
            s
            for s in sorted(stored.get(name, {}))
            if (first is None or s >= first) and (last is None or s <= last)
        ]
        times = [1_000_000_000 + s for s in steps]
        found.append(Columns(name, steps, times, [stored[name][s] for s in steps]))
    return found


def rows_of(stored: Points) -> list[dict[str, Any]]:
    """Returns the rows that the points make, in the plainest way."""
    steps = sorted({step for series in stored.values() for step in series})
    return [
        {"_step": step, "_timestamp": (1_000_000_000 + step) / 10**9}
        | {name: series[step] for name, series in stored.items() if step in series}
        for step in steps
    ]


class Store:
    """Answers like QuerySeries: a limit per series, and a step to go on from."""

    def __init__(self, stored: Points, cap: int = 1_000_000) -> None:
        self.stored, self.cap, self.calls = stored, cap, 0

    def __call__(
        self,
        path: str,
        metrics: Sequence[str],
        *,
        first_step: int | None,
        last_step: int | None,
        limit: int,
    ) -> tuple[list[Columns], int | None]:
        self.calls += 1
        columns = columns_of(self.stored, metrics, first_step, last_step)
        limit = min(limit, self.cap)
        cuts = [column.steps[limit] for column in columns if len(column.steps) > limit]
        if not cuts:
            return columns, None
        cut = min(cuts)
        return columns_of(self.stored, metrics, first_step, cut - 1), cut


@given(stored=points)
def test_rows_are_the_points_by_step(stored: Points) -> None:
    """Columns of any steps become one row per step, with the metrics that have a point there."""
    names = list(stored)
    assert list(merged_rows(columns_of(stored, names, None, None), keys=names)) == rows_of(stored)


@given(stored=points, page_size=st.integers(1, 7), width=st.integers(1, 3))
def test_scans_give_every_point_once(stored: Points, page_size: int, width: int) -> None:
    """However pages and metrics are cut, a scan is the rows of all points in step order."""
    names = list(stored)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("runyard.api_rows.METRICS_PER_CALL", width)
        rows = list(
            scanned_rows(
                Store(stored), "p", names, first_step=None, last_step=None, page_size=page_size
            )
        )
    assert rows == rows_of(stored)


def test_scans_of_a_range() -> None:
    """A scan keeps to its range."""
    stored = {"a": {step: float(step) for step in range(100)}}
    rows = scanned_rows(Store(stored), "p", ["a"], first_step=10, last_step=19, page_size=3)
    assert [row["_step"] for row in rows] == list(range(10, 20))


def test_times_have_no_noise() -> None:
    """A time of milliseconds reads as one."""
    column = Columns("a", [0], [1_795_555_740_242_000_000], [1.0])
    row = next(merged_rows([column], keys=["a"]))
    assert repr(row["_timestamp"]) == "1795555740.242"


def test_steps_of_several_writers_stand_once() -> None:
    """Where several writers logged a step, the row shows the last of them."""
    column = Columns("a", [0, 0, 1], [5, 6, 7], [1.0, 2.0, 3.0])
    assert list(merged_rows([column], keys=["a"])) == [
        {"_step": 0, "_timestamp": 6e-9, "a": 2.0},
        {"_step": 1, "_timestamp": 7e-9, "a": 3.0},
    ]


def test_metrics_called_like_keys_of_rows_do_not_hide_them() -> None:
    """The step and time of a row stand, whatever a metric is called."""
    step, late = Columns("_step", [3], [5], [77.0]), Columns("a", [4], [6], [1.0])
    assert list(merged_rows([step], keys=["_step"])) == [{"_step": 3, "_timestamp": 5e-9}]
    assert list(merged_rows([step, late], keys=["_step", "a"])) == [
        {"_step": 3, "_timestamp": 5e-9},
        {"_step": 4, "_timestamp": 6e-9, "a": 1.0},
    ]


Answer = Callable[[str, bytes], tuple[int, str, bytes]]


class Yard:
    """A real HTTP server on this machine that answers as the test says."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.drops = 0
        yard = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                yard.requests.append((self.path, dict(self.headers.items()), body))
                if yard.drops:
                    yard.drops -= 1
                    self.close_connection = True
                    return
                answer = yard.answers.get(self.path.rpartition("/")[2])
                status, kind, content = (
                    answer(self.path, body) if answer else (404, "text/plain", b"no such page")
                )
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def reply(self, method: str, reply: message.Message) -> None:
        content = reply.SerializeToString()
        self.answers[method] = lambda path, body: (200, "application/proto", content)

    def fail(self, method: str, status: int, fields: dict[str, Any]) -> None:
        content = json.dumps(fields).encode()
        self.answers[method] = lambda path, body: (status, "application/json", content)


@pytest.fixture
def yard() -> Iterator[Yard]:
    yard = Yard()
    thread = threading.Thread(target=yard.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield yard
    yard.server.shutdown()
    thread.join()
    yard.server.server_close()


@pytest.fixture
def api(yard: Yard) -> Iterator[runyard.Api]:
    api = runyard.Api(yard.url, api_key="secret")
    yield api
    api.close()


def run_message(**fields: Any) -> metadata_pb2.Run:
    defaults: dict[str, Any] = {
        "path": "e/p/r1", "entity": "e", "project": "p", "run_id": "r1", "display_name": "n", "run_key": 2**60,
        "state": metadata_pb2.RUN_STATE_RUNNING, "config_json": '{"big":18446744073709551615,"x":{"$float":"NaN"}}',
        "tags": ["t"],
    }  # fmt: skip
    return metadata_pb2.Run(**{**defaults, **fields})


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


def test_receipts_say_what_is_missing() -> None:
    """A receipt names gaps."""
    writer = WriterReceipt(1, 8, 3, 10, ((4, 5),), 2, 16)
    receipt = Receipt(8, 9, (writer,))
    assert str(receipt) == "8 of 10 records durable; missing: 4-5"
    assert not receipt.is_gapless and (receipt.points_accepted, receipt.points_rejected) == (16, 2)
    assert str(Receipt(0, None, ())) == "0 of 0 records durable"


def test_the_command_line_lists_runs(
    yard: Yard, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs ls prints a table, or JSON; errors go to stderr, or as JSON; exit codes tell."""
    monkeypatch.setenv("RUNYARD_BASE_URL", yard.url)
    row = query_pb2.RunRow(run=run_message(), summary_json="{}")
    yard.reply("QueryRuns", query_pb2.QueryRunsResponse(runs=[row], total_count=2))
    assert cli.main(["runs", "ls", "e/p"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[1].split() == ["r1", "n", "running", "e/p/r1"] and "+1 ..." in out
    assert cli.main(["runs", "ls", "e/p", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["path"] == "e/p/r1"
    yard.fail("QueryRuns", 404, {"code": "not_found", "message": "no project e/p", "details": []})
    assert cli.main(["runs", "ls", "e/p"]) == 1
    assert capsys.readouterr().err == "runyard: no project e/p\n"
    assert cli.main(["runs", "ls", "e/p", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"] == "NotFound"


def test_the_command_line_shows_journals(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Journal show prints one record a line and says where a damaged journal stops."""
    with runyard.init(mode="offline", dir=tmp_path, settings={"silent": True}) as run:
        run.log({"loss": float("nan")})
    assert cli.main(["journal", "show", "--json", str(next(tmp_path.glob("run-*")))]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["kind"] for line in lines] == ["START", "SCHEMA", "ROW", "FINISH"]
    assert lines[2]["values"] == {"loss": {"$float": "NaN"}}
    segment = next(tmp_path.rglob("*.seg"))
    content = bytearray(segment.read_bytes())
    content[-20] ^= 1
    segment.write_bytes(content)
    assert cli.main(["journal", "show", str(segment)]) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3 and "00000001.seg: a frame's checksum is wrong" in err
    assert cli.main(["journal", "show", str(tmp_path / "none")]) == 1


def test_version_and_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """The version is the distribution's; a wrong command is a usage error."""
    import importlib.metadata

    assert cli.main(["version", "--json"]) == 0
    version = json.loads(capsys.readouterr().out)["version"]
    assert version == runyard.__version__ == importlib.metadata.version("runyard")
    with pytest.raises(SystemExit) as caught:
        cli.main(["nonsense"])
    assert caught.value.code == 2
    assert cli.main(["sync", "/nonexistent/folder"]) == 1


def test_both_ways_of_asking_for_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`runyard --version` prints what `runyard version` prints."""
    assert cli.main(["version"]) == 0
    told = capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, told)


def test_a_path_that_is_no_text() -> None:
    """A path of another type is an error that names it, before any call."""
    with runyard.Api("http://127.0.0.1:9") as api:
        with pytest.raises(ValueError, match=r"'5' is of type int; it must be a string, .* a run"):
            api.run(5)  # type: ignore[arg-type]  # what is tested
        with pytest.raises(errors.InvalidArgument, match=r"type float.* a project"):
            api.runs(0.5)  # type: ignore[arg-type]  # what is tested
