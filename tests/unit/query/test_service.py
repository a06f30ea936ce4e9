"""The query service over stores in memory, through its handler: what goes over the wire is what was stored."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from runyard_protos.metadata.v1 import metadata_pb2
from runyard_protos.query.v1 import query_pb2 as pb
from runyard_server.domain.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from runyard_server.domain.points import Journal, SummaryChange
from runyard_server.domain.projects import Project
from runyard_server.domain.run import (
    Cut,
    HistoryPart,
    MetricDefinition,
    RunDocument,
    RunKey,
    RunState,
    TransitionCause,
)
from runyard_server.domain.tables import TableFile
from runyard_server.domain.writers import Writer, WriterEnd
from runyard_server.query.handler import QueryHandler
from runyard_server.query.packed import pack_columns
from runyard_server.query.service import QueryConfig, build
from runyard_server.storage.archive.layered import LayeredConsole
from runyard_server.storage.memory.points import MemoryPoints
from runyard_server.storage.memory.runs import MemoryRunIndex
from runyard_server.storage.memory.tables import MemoryTables
from runyard_server.storage.ports.points import BlockEntry, BucketColumns
from tests.contract.archives import NoArchives
from tests.stores import ManualClock, batch, new_run_key


class Metadata:
    """Knows runs that the index does not know yet, and counts how often it is asked."""

    def __init__(self) -> None:
        self.documents: list[RunDocument] = []
        self.projects: list[Project] = []
        self.writers: list[Writer] = []
        self.written: dict[int, int] = {}
        self.is_away = False
        self.asked = 0

    async def get_run(
        self, *, path: str | None = None, run_key: RunKey | None = None
    ) -> RunDocument:
        self.asked += 1
        for document in self.documents:
            if path == document.path or run_key == document.run_key:
                if document.is_deleted:
                    raise FailedPrecondition("RUN_DELETED", "it was deleted")
                return document
        raise NotFound("RUN_NOT_FOUND", f"no run {path or run_key}", metadata={"run": path})

    async def get_project(self, path: str) -> Project:
        self.asked += 1
        for project in self.projects:
            if path == project.path:
                return project
        raise NotFound("PROJECT_NOT_FOUND", f"no project {path}", metadata={"project": path})

    async def list_writers(self, run_key: RunKey) -> list[Writer]:
        if self.is_away:
            raise Unavailable("SERVICE_UNAVAILABLE", "metadata does not answer")
        return [writer for writer in self.writers if writer.run_key == run_key]

    async def written_records(self, run_path: str) -> dict[int, int]:
        if self.is_away:
            raise Unavailable("SERVICE_UNAVAILABLE", "the monitor does not answer")
        return self.written

    async def get_file(self, run_path: str, name: str) -> TableFile:
        """Returns the one file there is."""
        if name != "t.parquet":
            raise NotFound("FILE_NOT_FOUND", f"{run_path} has no file {name}")
        return TableFile(name, 1, "00", "http://127.0.0.1/t")


class World:
    """A query service and what it reads."""

    def __init__(self) -> None:
        self.points = MemoryPoints()
        self.tables = MemoryTables()
        self.index = MemoryRunIndex()
        self.metadata = Metadata()
        self.clock = ManualClock()
        service = build(
            QueryConfig(cache_count_max=100),
            points=self.points,
            console=LayeredConsole(self.points.console, NoArchives()),
            system=self.points.system,
            media=self.points.media,
            tables=self.tables,
            runs=self.index,
            siblings=self.metadata,
            clock=self.clock,
            system_keep_days=30.0,
        )
        self.rpc = QueryHandler(service)

    async def add_run(self, run_id: str, **changes: object) -> RunDocument:
        document = RunDocument(
            new_run_key(), "e", "p", run_id, f"name-{run_id}", RunState.RUNNING, version=1
        )
        document = dataclasses.replace(document, **changes)  # type: ignore[arg-type]  # names are the fields'
        await self.index.publish([document])
        return document

    async def log(
        self, run: RunDocument, metrics: dict[str, list[tuple[int, float]]], **more: int
    ) -> None:
        await self.points.insert_block([BlockEntry(batch(run.run_key, metrics, **more))])  # type: ignore[arg-type]  # writer and sequence


@pytest.fixture
def world() -> World:
    return World()


def test_merged_columns_equal_those_set_one_by_one() -> None:
    """Packing by wire form gives the message that setting each element gives."""
    steps = np.array([-(2**63), -1, 0, 2**63 - 1], np.int64)
    values = np.array([math.nan, -0.0, math.inf, 5e-324])
    writers = np.array([0, 1, 2**32 - 1, 7], np.uint32)
    packed = pb.Series(metric="m")
    fields = pb.Series.DESCRIPTOR.fields_by_name
    pack_columns(
        packed,
        [
            (fields["steps"].number, steps),
            (fields["values"].number, values),
            (fields["writers"].number, writers),
            (fields["times_unix_ns"].number, steps[:0]),
        ],
    )
    plain = pb.Series(metric="m", steps=steps.tolist(), values=values.tolist(), writers=writers.tolist())  # fmt: skip
    assert plain.SerializeToString(deterministic=True) == packed.SerializeToString(
        deterministic=True
    )


def test_all_packed_fields_are_of_fixed_width() -> None:
    """The handler's columns go over the wire as eight bytes an element: double, fixed64 or sfixed64."""
    fields = pb.BucketSeries.DESCRIPTOR.fields_by_name
    names = [field.name for field in dataclasses.fields(BucketColumns)]
    columns = [name for name in names if name not in ("width", "is_raw")]
    assert {fields[name].type for name in columns} <= {1, 6, 16}


async def test_series_come_in_the_order_asked(world: World) -> None:
    """One entry per requested metric, in that order, twice if asked twice, empty if there is none."""
    run = await world.add_run("r")
    await world.log(run, {"a": [(0, 1.0), (5, 2.0)], "b": [(0, 9.0)]})
    request = pb.QuerySeriesRequest(run_path="e/p/r", metrics=["b", "none", "a", "b"])
    reply = await world.rpc.QuerySeries(request, None)
    found = [(one.metric, list(one.steps), list(one.values)) for one in reply.series]
    assert found == [
        ("b", [0], [9.0]),
        ("none", [], []),
        ("a", [0, 5], [1.0, 2.0]),
        ("b", [0], [9.0]),
    ]
    assert not reply.HasField("next_step")


async def test_pages_of_series_join_to_the_whole(world: World) -> None:
    """The same request with range.first_step = next_step continues where the limit cut."""
    run = await world.add_run("r")
    await world.log(run, {"a": [(step, step * 0.5) for step in range(10)]})
    request = pb.QuerySeriesRequest(run_path="e/p/r", metrics=["a"], limit=4)
    steps: list[int] = []
    while True:
        reply = await world.rpc.QuerySeries(request, None)
        steps += reply.series[0].steps
        if not reply.HasField("next_step"):
            break
        request.range.first_step = reply.next_step
    assert steps == list(range(10))


async def test_buckets_name_run_and_metric(world: World) -> None:
    """Each metric of each run that has points; the non-finite columns are there if any bucket has such."""
    one, two = await world.add_run("one"), await world.add_run("two")
    await world.log(one, {"a": [(step, float(step)) for step in range(8)]})
    await world.log(two, {"a": [(0, math.nan), (1, 1.0)], "b": [(0, 0.0)]})
    request = pb.QueryBucketsRequest(
        run_paths=["e/p/two", "e/p/one"], metrics=["a", "b"], bucket_count_max=4
    )
    reply = await world.rpc.QueryBuckets(request, None)
    found = [(s.run_path, s.metric, s.width, s.is_raw, s.point_count) for s in reply.series]
    assert found == [
        ("e/p/two", "a", 1, True, 2),
        ("e/p/two", "b", 1, True, 1),
        ("e/p/one", "a", 2, False, 8),
    ]
    assert list(reply.series[0].nan_counts) == [1, 0]
    assert not reply.series[1].nan_counts
    assert list(reply.series[2].highs) == [1, 3, 5, 7]


async def test_metrics_are_paged_by_name(world: World) -> None:
    """Page tokens lead through all, and fit only the request that they came from."""
    run = await world.add_run("r")
    await world.log(run, {name: [(0, 1.0)] for name in ("b", "a", "C", "ab")})
    request = pb.ListMetricsRequest(run_path="e/p/r", page_size=2)
    first = await world.rpc.ListMetrics(request, None)
    request.page_token = first.next_page_token
    second = await world.rpc.ListMetrics(request, None)
    assert [m.name for m in (*first.metrics, *second.metrics)] == ["C", "a", "ab", "b"]
    assert (first.total_count, second.total_count, second.next_page_token) == (4, 4, "")
    request.name_contains = "a"
    with pytest.raises(InvalidArgument) as caught:
        await world.rpc.ListMetrics(request, None)
    assert caught.value.reason == "PAGE_TOKEN_INVALID"


async def test_a_summary_follows_definitions_and_entries(world: World) -> None:
    """What the script set wins; other metrics follow their definition, last by default."""
    definitions = (MetricDefinition("acc*", summaries=("max", "mean")),)
    run = await world.add_run("r", metric_definitions=definitions)
    await world.log(run, {"acc": [(0, 0.25), (1, 0.75), (2, 0.5)], "loss": [(0, 2.0), (1, 1.0)]})
    entry = SummaryChange(sequence=9, key="best", value_json='{"epoch":18446744073709551615}')
    changed = dataclasses.replace(
        batch(run.run_key, {}, first_sequence=9), last_sequence=9, summary_changes=(entry,)
    )
    await world.points.insert_block([BlockEntry(changed)])
    reply = await world.rpc.GetSummary(pb.GetSummaryRequest(run_path="e/p/r"), None)
    assert json.loads(reply.summary_json) == {
        "acc.max": 0.75,
        "acc.mean": 0.5,
        "loss": 1,
        "best": {"epoch": 2**64 - 1},
    }
    short = pb.GetSummaryRequest(run_path="e/p/r", metric_count_max=1)
    assert (await world.rpc.GetSummary(short, None)).omitted_count == 1


async def test_a_receipt_says_what_is_durable(world: World) -> None:
    """Receipts of all writers, gaps named, and the largest step; nothing of a run without data."""
    run = await world.add_run("r")
    empty = await world.rpc.GetReceipt(pb.GetReceiptRequest(run_path="e/p/r"), None)
    assert (len(empty.writers), empty.records_durable, empty.HasField("last_step")) == (0, 0, False)
    await world.log(run, {"a": [(0, 1.0), (7, 2.0)]}, writer=1, first_sequence=1)
    await world.log(run, {"a": [(3, 1.0)]}, writer=1, first_sequence=5)
    reply = await world.rpc.GetReceipt(pb.GetReceiptRequest(run_path="e/p/r"), None)
    (writer,) = reply.writers
    assert (reply.records_durable, reply.last_step) == (3, 7)
    assert (writer.contiguous_sequence, writer.last_sequence, writer.points_accepted) == (2, 5, 3)
    assert [(gap.first, gap.last) for gap in writer.gaps] == [(3, 4)]


async def test_a_receipt_says_what_was_written_too(world: World) -> None:
    """By the writer's end, or while it lives by its beats; a writer without durable data is there; siblings away take only that."""
    run = await world.add_run("r")
    end = WriterEnd(
        RunState.FINISHED, TransitionCause.FINISH_CALLED, 0, "", 0, 9, records_refused=2
    )
    ended = Writer(
        run.run_key, 1, "q1", "rank0", 1, is_resumed=False, start_time_unix_ns=0, end=end
    )
    living = Writer(run.run_key, 2, "q2", "rank1", 2, is_resumed=True, start_time_unix_ns=0)
    world.metadata.writers = [ended, living]
    world.metadata.written = {2: 30}
    await world.log(run, {"a": [(0, 1.0), (7, 2.0)]}, writer=1, first_sequence=1)
    request = pb.GetReceiptRequest(run_path="e/p/r")
    reply = await world.rpc.GetReceipt(request, None)
    assert [
        (w.label, w.attempt, w.records_durable, w.records_written, w.records_refused, w.has_ended)
        for w in reply.writers
    ] == [("rank0", 1, 2, 9, 2, True), ("rank1", 2, 0, 30, 0, False)]
    world.metadata.is_away = True
    (writer,) = (await world.rpc.GetReceipt(request, None)).writers
    assert (
        writer.records_durable,
        writer.HasField("records_written"),
        writer.label,
    ) == (2, False, "")


async def test_a_rewound_run_shows_its_current_history(world: World) -> None:
    """Superseded points are in no read but that of all attempts; a writer's own are read by its number."""
    run = await world.add_run("r")
    await world.log(run, {"a": [(0, 1.0), (5, 2.0)], "gone": [(6, 9.0)]}, writer=1)
    await world.log(run, {"a": [(3, 3.0), (4, 4.0)]}, writer=2)
    parts = (HistoryPart(run.run_key, cuts=(Cut(1, 2),)),)
    await world.index.publish([dataclasses.replace(run, history_parts=parts, version=2)])
    ask = pb.QuerySeriesRequest(run_path="e/p/r", metrics=["a"])
    current = (await world.rpc.QuerySeries(ask, None)).series[0]
    assert (list(current.steps), list(current.writers)) == ([0, 3, 4], [1, 2, 2])
    ask.attempts = pb.ATTEMPT_SELECTION_ALL
    assert list((await world.rpc.QuerySeries(ask, None)).series[0].steps) == [0, 3, 4, 5]
    ask.attempts = pb.ATTEMPT_SELECTION_CURRENT
    ask.writers.append(2)
    assert list((await world.rpc.QuerySeries(ask, None)).series[0].steps) == [3, 4]
    metrics = await world.rpc.ListMetrics(pb.ListMetricsRequest(run_path="e/p/r"), None)
    assert [(m.name, m.first_step, m.last_step, m.last) for m in metrics.metrics] == [
        ("a", 0, 4, 4.0)
    ]
    summary = await world.rpc.GetSummary(pb.GetSummaryRequest(run_path="e/p/r"), None)
    assert json.loads(summary.summary_json) == {"a": 4}
    assert (await world.rpc.GetReceipt(pb.GetReceiptRequest(run_path="e/p/r"), None)).last_step == 4
    buckets = await world.rpc.QueryBuckets(
        pb.QueryBucketsRequest(run_paths=["e/p/r"], metrics=["a", "gone"]), None
    )
    assert [(s.metric, list(s.first_steps)) for s in buckets.series] == [("a", [0, 3, 4])]


async def test_a_resume_counts_on_from_what_a_rewind_left_though_the_index_lags(
    world: World,
) -> None:
    """The last step before an attempt is asked of metadata: the index does not know yet of the rewind a moment ago."""
    run = await world.add_run("r")
    await world.log(run, {"a": [(0, 1.0), (2, 2.0), (9, 3.0)]}, writer=1)
    await world.log(run, {"a": [(3, 3.0)]}, writer=2)
    await world.rpc.GetReceipt(pb.GetReceiptRequest(run_path="e/p/r"), None)
    parts = (HistoryPart(run.run_key, cuts=(Cut(1, 2),)),)
    world.metadata.documents.append(dataclasses.replace(run, history_parts=parts, version=2))
    ask = pb.GetReceiptRequest(run_path="e/p/r", writer_max=2)
    assert (await world.rpc.GetReceipt(ask, None)).last_step == 3


async def test_a_fork_shows_its_parents_points_up_to_the_fork(world: World) -> None:
    """A child's history is its parent's up to the step, then its own; all attempts are its own points alone."""
    parent = await world.add_run("parent")
    await world.log(parent, {"a": [(0, 1.0), (5, 2.0), (9, 3.0)]}, writer=1)
    key = new_run_key()
    parts = (HistoryPart(key), HistoryPart(parent.run_key, last_step=5, writer_max=1))
    child = await world.add_run("child", run_key=key, history_parts=parts)
    await world.log(child, {"a": [(6, 7.0)]}, writer=1)
    ask = pb.QuerySeriesRequest(run_path="e/p/child", metrics=["a"])
    found = (await world.rpc.QuerySeries(ask, None)).series[0]
    assert (list(found.steps), list(found.writers)) == ([0, 5, 6], [0, 0, 1])
    ask.attempts = pb.ATTEMPT_SELECTION_ALL
    assert list((await world.rpc.QuerySeries(ask, None)).series[0].steps) == [6]


async def test_ranks_that_share_steps_are_one_bucket_a_step(world: World) -> None:
    """The same metric of three ranks is one line: lowest, highest and mean over them at each step; one rank on demand."""
    run = await world.add_run("r")
    for writer in (1, 2, 3):
        points = {"loss": [(0, float(writer)), (1, 10.0 * writer)]}
        await world.log(run, points, writer=writer)
    ask = pb.QueryBucketsRequest(run_paths=["e/p/r"], metrics=["loss"])
    (series,) = (await world.rpc.QueryBuckets(ask, None)).series
    assert (
        series.width,
        series.is_raw,
        list(series.first_steps),
        list(series.counts),
    ) == (1, False, [0, 1], [3, 3])
    assert (
        list(series.lows),
        list(series.highs),
        list(series.means),
    ) == ([1.0, 10.0], [3.0, 30.0], [2.0, 20.0])
    ask.writers.append(2)
    (one,) = (await world.rpc.QueryBuckets(ask, None)).series
    assert (one.is_raw, list(one.lasts)) == (True, [2.0, 20.0])
    ask.run_paths.append("e/p/other")
    with pytest.raises(InvalidArgument, match="one run at a time"):
        await world.rpc.QueryBuckets(ask, None)


async def test_runs_come_with_the_asked_keys_only(world: World) -> None:
    """Newest first, paged; config and summary hold what was asked for."""
    runs = [await world.add_run(f"r{i}", config_json=f'{{"lr":{i},"seed":1}}') for i in range(3)]
    for number, run in enumerate(runs):
        await world.log(run, {"loss": [(0, float(number))], "acc": [(0, 0.5)]})
    request = pb.QueryRunsRequest(
        project_path="e/p", page_size=2, config_keys=["lr"], summary_keys=["loss", "none"]
    )
    page = await world.rpc.QueryRuns(request, None)
    found = [(r.run.run_id, r.run.config_json, r.summary_json) for r in page.runs]
    assert found == [("r2", '{"lr":2}', '{"loss":2}'), ("r1", '{"lr":1}', '{"loss":1}')]
    assert page.total_count == 3
    rest = pb.QueryRunsRequest(project_path="e/p", page_size=2, page_token=page.next_page_token)
    last = await world.rpc.QueryRuns(rest, None)
    assert [(r.run.run_id, r.run.config_json, r.summary_json) for r in last.runs] == [
        ("r0", "", "")
    ]
    everything = pb.QueryRunsRequest(project_path="e/p", config_keys=["*"], summary_keys=["*"])
    (row, *_) = (await world.rpc.QueryRuns(everything, None)).runs
    assert (row.run.config_json, row.summary_json) == ('{"lr":2,"seed":1}', '{"acc":0.5,"loss":2}')


async def test_a_project_that_does_not_exist_is_told_from_an_empty_one(world: World) -> None:
    """No such project is an error; one without runs, or without runs that match, is an empty page."""
    with pytest.raises(NotFound) as caught:
        await world.rpc.QueryRuns(pb.QueryRunsRequest(project_path="e/none"), None)
    assert caught.value.reason == "PROJECT_NOT_FOUND"
    world.metadata.projects.append(Project("e", "p"))
    reply = await world.rpc.QueryRuns(pb.QueryRunsRequest(project_path="e/p"), None)
    assert (len(reply.runs), reply.total_count, world.metadata.asked) == (0, 0, 2)
    await world.add_run("r")
    for name in ("", "name-r", "other"):
        request = pb.QueryRunsRequest(project_path="e/p", name_contains=name)
        assert len((await world.rpc.QueryRuns(request, None)).runs) == (name != "other")
    assert world.metadata.asked == 2


async def test_an_unknown_state_is_refused(world: World) -> None:
    """A number that is no state is an error, not an empty page."""
    request = pb.QueryRunsRequest(project_path="e/p", states=[metadata_pb2.RUN_STATE_UNSPECIFIED])
    with pytest.raises(InvalidArgument):
        await world.rpc.QueryRuns(request, None)


async def test_a_run_newer_than_the_index_is_asked_of_metadata_once(world: World) -> None:
    """A path that the index does not know is looked up in metadata, remembered for a while, then looked up again."""
    document = RunDocument(new_run_key(), "e", "p", "new", "n", RunState.RUNNING)
    world.metadata.documents.append(document)
    request = pb.GetReceiptRequest(run_path="e/p/new")
    await world.rpc.GetReceipt(request, None)
    await world.rpc.GetReceipt(request, None)
    assert world.metadata.asked == 1
    world.clock.advance(31)
    await world.rpc.GetReceipt(request, None)
    assert world.metadata.asked == 2


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("e/p/missing", "RUN_NOT_FOUND"),
        ("e/p/gone", "RUN_DELETED"),
        ("e/p", "FIELD_INVALID"),
        ("", "FIELD_INVALID"),
        ("e/p/r/x", "FIELD_INVALID"),
        ("e/p/a#b", "FIELD_INVALID"),
    ],
)
async def test_paths_that_name_no_run_are_refused(world: World, path: str, reason: str) -> None:
    """Missing, deleted and impossible runs have errors of their own, alone or among others."""
    gone = await world.add_run("gone", is_deleted=True)
    world.metadata.documents.append(gone)
    await world.add_run("there")
    with pytest.raises((NotFound, FailedPrecondition, InvalidArgument)) as caught:
        await world.rpc.GetReceipt(pb.GetReceiptRequest(run_path=path), None)
    assert caught.value.reason == reason
    request = pb.QueryBucketsRequest(run_paths=["e/p/there", path], metrics=["a"])
    with pytest.raises((NotFound, FailedPrecondition, InvalidArgument)) as caught:
        await world.rpc.QueryBuckets(request, None)
    assert caught.value.reason == reason


async def test_system_metrics_come_with_what_is_shown_of_them(world: World) -> None:
    """In the order of the table, each with unit, chart and section; and for how many days they are kept."""
    run = await world.add_run("r")
    names = ["system/network.sentRate", "system/gpu.1.temp", "system/gpu.0.temp", "system/proc.cpu"]
    samples = batch(run.run_key, {name: [(1, 2.0), (2, 4.0)] for name in names})
    samples = dataclasses.replace(samples, journal=Journal.SYSTEM)
    await world.points.insert_block([BlockEntry(samples)])
    reply = await world.rpc.ListSystemMetrics(pb.ListSystemMetricsRequest(run_path="e/p/r"), None)
    assert reply.keep_days == 30.0
    assert [(one.name, one.item, one.is_of_process) for one in reply.metrics] == [
        ("system/gpu.0.temp", "GPU 0", False),
        ("system/gpu.1.temp", "GPU 1", False),
        ("system/proc.cpu", "", True),
        ("system/network.sentRate", "sent", False),
    ]
    first = reply.metrics[0]
    assert (first.unit, first.title) == ("°C", "GPU temperature")
    assert (first.section, first.description) == (
        pb.SYSTEM_SECTION_GPU,
        "Temperature of the GPU",
    )
