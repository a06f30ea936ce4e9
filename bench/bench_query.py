"""Times reads through the real RPC: an in-process server over embedded ClickHouse, a real gRPC client beside it.

Usage: python bench/bench_query.py [--out FILE] [--points N] [--rounds N]

Baselines are taken in the same run over the same rows: reading the points with plain SQL, and a read without stored buckets.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import pyarrow as pa

from runyard_protos.query.v1 import query_pb2 as pb
from runyard_protos.query.v1 import query_pb2_grpc as pb_grpc
from runyard_server.domain.clock import SystemClock
from runyard_server.domain.errors import NotFound
from runyard_server.domain.points import metric_id
from runyard_server.domain.projects import Project
from runyard_server.domain.run import (
    Cut,
    HistoryPart,
    RunDocument,
    RunKey,
    RunState,
    make_run_key,
)
from runyard_server.query.service import QueryConfig, build
from runyard_server.storage.clickhouse.console_read import ClickHouseConsoleReader
from runyard_server.storage.clickhouse.engine import ClickHouse
from runyard_server.storage.clickhouse.media_read import ClickHouseMediaReader
from runyard_server.storage.clickhouse.points_read import ClickHousePointReader
from runyard_server.storage.clickhouse.rollup import RollupConfig, build_rollup
from runyard_server.storage.clickhouse.runs import ClickHouseRunIndex
from runyard_server.storage.clickhouse.system_read import ClickHouseSystemReader
from runyard_server.storage.memory.tables import MemoryTables

RUNS = 40
SHORT_POINTS = 10_000
BLOCK_ROWS = 400_000
BUCKETS = 1_500
LIVE_POINTS = 200_000
RANKS, RANK_STEPS = 1_000, 1_000
REPLY_BYTES_MAX = 64 * 1024 * 1024
ENTITY, PROJECT = "bench", "query"


@dataclass(frozen=True, slots=True)
class Result:
    """One figure beside its baseline; see the brief of bench/."""

    name: str
    value: float
    unit: str
    baseline: str
    baseline_value: float
    target: float | None

    def as_json(self) -> dict[str, Any]:
        ratio = self.value / self.baseline_value if self.baseline_value else None
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "baseline": self.baseline,
            "baseline_value": self.baseline_value,
            "ratio": ratio,
            "target": self.target,
            "is_met": None if self.target is None else self.value <= self.target,
        }


class NoMetadata:
    """Stands where metadata would be: every run of the bench is in the index."""

    async def get_run(
        self, *, path: str | None = None, run_key: RunKey | None = None
    ) -> RunDocument:
        raise NotFound("RUN_NOT_FOUND", f"no run {path or run_key}", metadata={"run": path})

    async def get_project(self, path: str) -> Project:
        raise NotFound("PROJECT_NOT_FOUND", f"no project {path}", metadata={"project": path})


class Bench:
    """A store, the query service over it, and a client."""

    def __init__(self, store: ClickHouse, stub: Any, rounds: int) -> None:
        self.store = store
        self.stub = stub
        self.rounds = rounds

    async def median_ms(self, ask: Callable[[], Awaitable[Any]], *, rounds: int = 0) -> float:
        """Returns the median time of a call, the first (cold) one left out."""
        await ask()
        times_ms = []
        for _ in range(rounds or self.rounds):
            started = time.perf_counter()
            await ask()
            times_ms.append((time.perf_counter() - started) * 1000)
        return statistics.median(times_ms)

    async def buckets(self, paths: list[str], metric: str) -> pb.QueryBucketsResponse:
        request = pb.QueryBucketsRequest(
            run_paths=paths, metrics=[metric], bucket_count_max=BUCKETS
        )
        reply: pb.QueryBucketsResponse = await self.stub.QueryBuckets(request, timeout=60)
        assert len(reply.series) == len(paths), len(reply.series)
        return reply

    async def series(
        self, path: str, metric: str, *, first_step: int, limit: int
    ) -> pb.QuerySeriesResponse:
        request = pb.QuerySeriesRequest(run_path=path, metrics=[metric], limit=limit)
        request.range.first_step = first_step
        reply: pb.QuerySeriesResponse = await self.stub.QuerySeries(request, timeout=60)
        return reply

    async def rank(self, path: str, metric: str, writer: int) -> pb.QueryBucketsResponse:
        """One writer alone."""
        request = pb.QueryBucketsRequest(
            run_paths=[path], metrics=[metric], bucket_count_max=BUCKETS, writers=[writer]
        )
        reply: pb.QueryBucketsResponse = await self.stub.QueryBuckets(request, timeout=60)
        assert len(reply.series) == 1, len(reply.series)
        return reply

    async def metrics(self, path: str) -> pb.ListMetricsResponse:
        request = pb.ListMetricsRequest(run_path=path, page_size=100)
        reply: pb.ListMetricsResponse = await self.stub.ListMetrics(request, timeout=60)
        assert len(reply.metrics) >= 1, len(reply.metrics)
        return reply

    async def sql(self, text: str) -> pa.Table:
        return await self.store.query_arrow(text, timeout_s=60)


async def main() -> None:
    """Runs the bench and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--points", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="runyard-bench-") as folder:
        store = ClickHouse.open_embedded(Path(folder))
        try:
            results = await measure(store, options.points, options.rounds)
        finally:
            await store.close()
    print_table(results)
    if options.out:
        options.out.write_text(json.dumps([r.as_json() for r in results], indent=2) + "\n")


async def measure(store: ClickHouse, points: int, rounds: int) -> list[Result]:
    """Fills the store and times all queries."""
    await store.migrate()
    clock = SystemClock()
    index = ClickHouseRunIndex(store)
    service = build(
        QueryConfig(),
        points=ClickHousePointReader(store),
        console=ClickHouseConsoleReader(store),
        system=ClickHouseSystemReader(store),
        media=ClickHouseMediaReader(store),
        tables=MemoryTables(),
        runs=index,
        siblings=NoMetadata(),
        clock=clock,
    )
    options = [
        ("grpc.max_receive_message_length", REPLY_BYTES_MAX),
        ("grpc.max_send_message_length", REPLY_BYTES_MAX),
    ]
    server = grpc.aio.server(options=options)
    service.register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        bench = Bench(store, pb_grpc.QueryServiceStub(channel), rounds)
        long_key, keys = await fill(store, index, points, clock.now_unix_ns())
        results = await measure_short(bench, keys)
        results += await measure_long(bench, long_key, points)
        results += await measure_rewound(bench, index, long_key, points)
        results += await measure_ranks(bench, index, clock.now_unix_ns())
    await server.stop(1)
    return results


async def fill(
    store: ClickHouse, index: ClickHouseRunIndex, points: int, now_unix_ns: int
) -> tuple[RunKey, list[RunKey]]:
    """Stores one long series and forty short ones; blocks are an hour old, so that they count as settled."""
    block = now_unix_ns - 3_600 * 10**9
    now_ms = now_unix_ns // 10**6
    rng = np.random.default_rng(1)
    long_key, *keys = (make_run_key(now_ms, number) for number in range(RUNS + 1))
    await index.publish([document(key) for key in (long_key, *keys)])
    print(f"inserting {points:,} points and {RUNS} x {SHORT_POINTS:,}", file=sys.stderr)
    for start in range(0, points, BLOCK_ROWS):
        steps = np.arange(start, min(points, start + BLOCK_ROWS))
        await insert(store, long_key, "long", steps, rng=rng, block=block + start)
    for key in keys:
        await insert(store, key, "loss", np.arange(SHORT_POINTS), rng=rng, block=block)
    await store.command("OPTIMIZE TABLE points FINAL", timeout_s=120)
    await store.command(
        "INSERT INTO series SELECT run, metric, 'name', min(step), max(step), min(value), max(value),"
        " min((step, writer, 0, time, value)), max((step, writer, 0, time, value)) FROM points GROUP BY run, metric"
    )
    return long_key, keys


async def insert(
    store: ClickHouse,
    key: RunKey,
    metric: str,
    steps: np.ndarray,
    *,
    rng: np.random.Generator,
    block: int,
) -> None:
    """Inserts a noisy falling curve."""
    count = len(steps)
    values = np.exp(-steps / 3e6) + rng.normal(0, 0.05, count)
    table = {
        "run": np.full(count, key, np.uint64),
        "metric": np.full(count, metric_id(metric), np.uint64),
        "step": steps.astype(np.int64),
        "writer": np.zeros(count, np.uint32),
        "time": 1_790_000_000_000 + steps * 20 + rng.integers(0, 5, count),
        "value": values,
        "sequence": (steps + 1).astype(np.uint64),
        "block": np.full(count, block, np.uint64),
    }
    await store.insert_arrow("points", pa.table(table), timeout_s=60)


async def measure_short(bench: Bench, keys: list[RunKey]) -> list[Result]:
    """Times reads of series of 10,000 points."""
    paths = [path_of(key) for key in keys]
    loss = metric_id("loss")
    one_sql = f"SELECT step, time, value FROM points FINAL WHERE run = {keys[0]} AND metric = {loss} ORDER BY step"
    many = ", ".join(str(key) for key in keys)
    many_sql = (
        f"SELECT run, step, time, value FROM points FINAL WHERE run IN ({many}) AND metric = {loss}"
    )
    one_ms = await bench.median_ms(lambda: bench.sql(one_sql))
    many_ms = await bench.median_ms(lambda: bench.sql(many_sql))
    plain = "the same points by SQL, unbucketed"
    return [
        Result("10,000-point series, raw", await bench.median_ms(
            lambda: bench.series(paths[0], "loss", first_step=0, limit=SHORT_POINTS)
        ), "ms", plain, one_ms, 30),
        Result("10,000-point series to 1,500 buckets", await bench.median_ms(
            lambda: bench.buckets(paths[:1], "loss")
        ), "ms", plain, one_ms, 30),
        Result("40 runs x 10,000 to 1,500 buckets", await bench.median_ms(
            lambda: bench.buckets(paths, "loss")
        ), "ms", plain, many_ms, 150),
        Result("tail: last 100 steps of 10,000", await bench.median_ms(
            lambda: bench.series(paths[0], "loss", first_step=SHORT_POINTS - 100, limit=SHORT_POINTS)
        ), "ms", plain, one_ms, None),
    ]  # fmt: skip


async def measure_long(bench: Bench, key: RunKey, points: int) -> list[Result]:
    """Times reads of the long series before and after its buckets are stored, and after late points."""
    path = path_of(key)
    name = f"{points:,}-point series"
    raw_ms = await bench.median_ms(lambda: bench.buckets([path], "long"), rounds=5)
    raw_reply = await bench.buckets([path], "long")
    task = build_rollup(
        RollupConfig(series_per_round_max=1), store=bench.store, clock=SystemClock()
    )
    started = time.perf_counter()
    assert await task.run_round() == 1, "the long series was not rolled up"
    rollup_ms = (time.perf_counter() - started) * 1000
    stored_ms = await bench.median_ms(lambda: bench.buckets([path], "long"))
    assert await bench.buckets([path], "long") == raw_reply, "stored buckets changed the answer"
    late = np.arange(0, points, max(1, points // 20))
    await insert(bench.store, key, "long", late, rng=np.random.default_rng(2), block=time.time_ns())
    late_ms = await bench.median_ms(lambda: bench.buckets([path], "long"))
    for start in range(points, points + LIVE_POINTS, 10_000):
        steps = np.arange(start, start + 10_000)
        await insert(
            bench.store, key, "long", steps, rng=np.random.default_rng(3), block=time.time_ns()
        )
    live_ms = await bench.median_ms(lambda: bench.buckets([path], "long"))
    tail_ms = await bench.median_ms(
        lambda: bench.series(path, "long", first_step=points - 100, limit=SHORT_POINTS)
    )
    baseline = "the same read from points, no stored buckets"
    return [
        Result(f"{name} to 1,500 buckets", stored_ms, "ms", baseline, raw_ms, 150),
        Result(f"{name}, 20 late points in 20 buckets", late_ms, "ms", baseline, raw_ms, 150),
        Result(
            f"{name}, and {LIVE_POINTS:,} newer ones not stored yet",
            live_ms,
            "ms",
            baseline,
            raw_ms,
            150,
        ),
        Result(f"{name}: storing its buckets, once", rollup_ms, "ms", baseline, raw_ms, None),
        Result(f"{name}: last 100 steps", tail_ms, "ms", baseline, raw_ms, None),
    ]


async def measure_rewound(
    bench: Bench, index: ClickHouseRunIndex, key: RunKey, points: int
) -> list[Result]:
    """Times reads of the long series as a fork has them that begins in it, after it was rewound by a tenth."""
    fork = make_run_key(time.time_ns() // 10**6, RUNS + 1)
    step = points * 9 // 10
    ancestor = HistoryPart(key, last_step=points, cuts=(Cut(writer_max=0, last_step=step),))
    await index.publish([document(fork, (HistoryPart(fork), ancestor))])
    whole = [path_of(key)]
    plain_ms = await bench.median_ms(lambda: bench.buckets(whole, "long"))
    plain_metrics_ms = await bench.median_ms(lambda: bench.metrics(whole[0]))
    path = path_of(fork)
    buckets_ms = await bench.median_ms(lambda: bench.buckets([path], "long"))
    metrics_ms = await bench.median_ms(lambda: bench.metrics(path), rounds=5)
    name, baseline = f"{points:,}-point series, forked, its last tenth rewound", "the same, plain"
    return [
        Result(f"{name}: to 1,500 buckets", buckets_ms, "ms", baseline, plain_ms, None),
        Result(f"{name}: its metrics", metrics_ms, "ms", baseline, plain_metrics_ms, None),
    ]


async def measure_ranks(bench: Bench, index: ClickHouseRunIndex, now_unix_ns: int) -> list[Result]:
    """Times reads of one metric that a thousand writers logged: the band over all, and one alone."""
    key = make_run_key(now_unix_ns // 10**6, RUNS + 2)
    await index.publish([document(key)])
    rng = np.random.default_rng(4)
    writers = np.arange(1, RANKS + 1, dtype=np.uint32)
    block = now_unix_ns - 3_600 * 10**9
    for start in range(0, RANK_STEPS, 100):
        steps = np.arange(start, start + 100)
        table = {
            "run": np.full(RANKS * 100, key, np.uint64),
            "metric": np.full(RANKS * 100, metric_id("loss"), np.uint64),
            "step": np.repeat(steps, RANKS).astype(np.int64),
            "writer": np.tile(writers, 100),
            "time": np.repeat(1_790_000_000_000 + steps * 20, RANKS),
            "value": rng.normal(1.0, 0.05, RANKS * 100),
            "sequence": np.repeat(steps + 1, RANKS).astype(np.uint64),
            "block": np.full(RANKS * 100, block + start, np.uint64),
        }
        await bench.store.insert_arrow("points", pa.table(table), timeout_s=60)
    path, loss = path_of(key), metric_id("loss")
    one_sql = f"SELECT step, time, value FROM points FINAL WHERE run = {key} AND metric = {loss} AND writer = 17"
    sql_ms = await bench.median_ms(lambda: bench.sql(one_sql))
    raw_ms = await bench.median_ms(lambda: bench.buckets([path], "loss"))
    name = f"{RANKS:,} writers x {RANK_STEPS:,} steps"
    task = build_rollup(
        RollupConfig(series_per_round_max=1), store=bench.store, clock=SystemClock()
    )
    assert await task.roll_up((int(key), loss), now_unix_ns), "the ranks' series was not rolled up"
    stored_ms = await bench.median_ms(lambda: bench.buckets([path], "loss"))
    rank_ms = await bench.median_ms(lambda: bench.rank(path, "loss", 17))
    by_sql = "the same points by SQL"
    return [
        Result(f"{name}: band over all, from points", raw_ms, "ms", by_sql, sql_ms, None),
        Result(f"{name}: band over all, stored", stored_ms, "ms", by_sql, sql_ms, None),
        Result(f"{name}: one writer alone", rank_ms, "ms", by_sql, sql_ms, None),
    ]


def document(key: RunKey, history_parts: tuple[HistoryPart, ...] = ()) -> RunDocument:
    """Returns a run of the bench's project."""
    return RunDocument(
        key,
        ENTITY,
        PROJECT,
        run_id(key),
        run_id(key),
        RunState.FINISHED,
        version=1,
        history_parts=history_parts,
    )


def run_id(key: RunKey) -> str:
    """Returns an id of 8 characters or more."""
    return f"r{key % 2**22:08}"


def path_of(key: RunKey) -> str:
    """Returns the run's path."""
    return f"{ENTITY}/{PROJECT}/{run_id(key)}"


def print_table(results: list[Result]) -> None:
    """Prints one line per figure."""
    print(f"{'query, through the RPC (median)':60} {'ms':>8} {'target':>7}  baseline")
    for result in results:
        target = "" if result.target is None else f"{result.target:.0f}"
        verdict = (
            "" if result.target is None else ("ok" if result.value <= result.target else "MISSED")
        )
        print(
            f"{result.name:60} {result.value:8.1f} {target:>7}  {result.baseline_value:.1f} ms {result.baseline} {verdict}"
        )


if __name__ == "__main__":
    asyncio.run(main())
