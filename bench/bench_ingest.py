"""Ingest: points a second acknowledged durable through real gRPC, beside direct insert_arrow of the same rows.

One process serves the ingest service over an embedded ClickHouse, as the all-in-one server does; another sends batches over
the loopback, 128 in flight. The baseline inserts the same rows with `insert_arrow` into the same table, at its best
block size and number of inserters, in a process of its own. Both fsync settings are on and merges run in all of them.

    python bench/bench_ingest.py [--seconds 60] [--out FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import psutil
import pyarrow as pa

from runyard_protos.ingest.v1 import ingest_pb2
from runyard_server.domain.addresses import Address
from runyard_server.domain.clock import SystemClock
from runyard_server.domain.points import metric_ids
from runyard_server.domain.run import RunDocument, RunKey, RunState, make_run_key
from runyard_server.ingest import service as ingest
from runyard_server.rpc.interceptors import EdgeConfig
from runyard_server.rpc.listener import Listener, ListenerConfig
from runyard_server.storage.clickhouse.console_hot import ClickHouseConsoleDropper
from runyard_server.storage.clickhouse.engine import ClickHouse, ClickHouseConfig
from runyard_server.storage.clickhouse.points_write import ClickHousePointWriter
from runyard_server.storage.clickhouse.purge import STREAM_TABLES, ClickHousePurger

METHOD = "/runyard.ingest.v1.IngestService/WriteBatch"
METRICS = 100
ROWS = 200
POINTS = METRICS * ROWS
RUNS = 4
IN_FLIGHT = 128
PHASES = 32
BASELINE_BLOCKS = (200_000, 400_000, 800_000)
BASELINE_INSERTERS = (2,)
TARGET_RATIO = 0.85
TARGET_BYTES_PER_POINT = 6.0
TARGET_RSS_BYTES = 1_500_000_000
NAMES = [f"train/layer_{index // 10}/stat_{index % 10}" for index in range(METRICS)]
RUN_KEYS = [make_run_key(1_760_000_000_000 + index, index) for index in range(RUNS)]
STEP_NS = 87_000_000


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long ingest is loaded")
    parser.add_argument("--out", type=Path, help="file for the measurements as JSON")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--direct", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--blocks", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--inserters", type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return asyncio.run(serve(arguments.serve))
    if arguments.direct:
        print(json.dumps(insert_directly(arguments)))
        return 0
    folder = Path(tempfile.mkdtemp(prefix="runyard-bench-"))
    try:
        measurements = measure(folder, arguments.seconds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print_table(measurements)
    if arguments.out:
        arguments.out.write_text(json.dumps(measurements, indent=1) + "\n")
    return 0


def measure(folder: Path, seconds: float) -> list[dict[str, Any]]:
    """Returns the measurements; the baseline runs before and after, so that a change of the machine shows."""
    probes = {
        (rows, inserters): run_direct(folder / "probe", rows, inserters, max(seconds / 6, 2.0))
        for rows in BASELINE_BLOCKS
        for inserters in BASELINE_INSERTERS
    }
    for (rows, inserters), probe in probes.items():
        print(
            f"  direct, blocks of {rows:,}, {inserters} inserter(s): {probe['rate']:,.0f} points/s",
            flush=True,
        )
    rows, inserters = max(probes, key=lambda key: probes[key]["rate"])
    before = run_direct(folder / "direct", rows, inserters, seconds)
    loaded = load_server(folder / "served", seconds)
    after = run_direct(folder / "direct", rows, inserters, seconds)
    print(
        f"  direct at its best: {before['rate']:,.0f} before, {after['rate']:,.0f} after",
        flush=True,
    )
    direct = (before["rate"] + after["rate"]) / 2
    direct_cpu_s = (before["cpu_s_per_million"] + after["cpu_s_per_million"]) / 2
    baseline = f"direct insert_arrow, blocks of {rows:,}, {inserters} inserter(s)"
    ratio = loaded["rate"] / direct
    return [
        {
            "name": "points acknowledged durable", "value": round(loaded["rate"]), "unit": "points/s",
            "baseline": baseline, "baseline_value": round(direct), "ratio": round(ratio, 3),
            "target": f">= {TARGET_RATIO} of the baseline", "is_met": ratio >= TARGET_RATIO,
        },
        single("acknowledgement under full load, median", loaded["median_s"] * 1e3, "ms"),
        single("acknowledgement under full load, 99th percentile", loaded["p99_s"] * 1e3, "ms"),
        single("acknowledgement of a lone batch of 100 points, median", loaded["lone_s"] * 1e3, "ms"),
        {
            "name": "CPU of the process, merges included", "value": round(loaded["cpu_s_per_million"], 3),
            "unit": "s/million points", "baseline": baseline, "baseline_value": round(direct_cpu_s, 3),
            "ratio": round(loaded["cpu_s_per_million"] / direct_cpu_s, 3), "target": None, "is_met": None,
        },
        single("peak memory of the server", loaded["peak_bytes"] / 1e6, "MB", TARGET_RSS_BYTES / 1e6),
        single("disk after merges", loaded["bytes_per_point"], "bytes/point", TARGET_BYTES_PER_POINT),
    ]  # fmt: skip


def single(name: str, value: float, unit: str, limit: float | None = None) -> dict[str, Any]:
    return {
        "name": name, "value": round(value, 2), "unit": unit, "baseline": None, "baseline_value": None, "ratio": None,
        "target": None if limit is None else f"<= {limit:g}", "is_met": None if limit is None else value <= limit,
    }  # fmt: skip


def print_table(measurements: list[dict[str, Any]]) -> None:
    for one in measurements:
        text = f"{one['name']:<56}{one['value']:>14,} {one['unit']}"
        if one["ratio"] is not None:
            text += f"  = {one['ratio']} of {one['baseline_value']:,} ({one['baseline']})"
        if one["target"] is not None:
            text += f"  target {one['target']}: {'met' if one['is_met'] else 'MISSED'}"
        print(text)


# ---- the rows ------------------------------------------------------------------------------------------------------------


def make_curves() -> np.ndarray[Any, np.dtype[np.float64]]:
    """Returns PHASES x METRICS x ROWS values of the kinds that training logs."""
    random = np.random.default_rng(17)
    shape = (PHASES, ROWS)
    steps = np.arange(PHASES * ROWS).reshape(shape)
    curves = np.empty((PHASES, METRICS, ROWS))
    for metric in range(METRICS):
        kind = metric % 10
        if kind < 5:  # a loss in single precision
            noise = random.normal(scale=0.05, size=shape)
            column = (2.0 / (1 + steps / 500) + noise).astype(np.float32).astype(np.float64)
        elif kind < 7:  # a mean in double precision
            column = 0.9 - 0.5 * np.exp(-steps / 2000) + random.normal(scale=0.01, size=shape)
        elif kind == 7:  # a schedule
            column = 1e-3 * (1 + np.cos(steps / (PHASES * ROWS) * np.pi)) / 2
        elif kind == 8:  # a counter
            column = steps.astype(np.float64)
        else:  # a constant
            column = np.full(shape, 0.1)
        curves[:, metric, :] = column
    return curves


def row_columns(batch_number: int) -> tuple[Any, Any, Any]:
    """Returns steps, times in Unix ns and sequences of the rows of a run's batch."""
    steps = np.arange(batch_number * ROWS, (batch_number + 1) * ROWS, dtype=np.int64)
    jitter = np.random.default_rng(batch_number).integers(0, STEP_NS // 10, ROWS)
    times = 1_760_000_000_000_000_000 + steps * STEP_NS + jitter
    return steps, times, (steps + 1).astype(np.uint64)


# ---- the server, as a process -----------------------------------------------------------------------------------------------


class AnyRun:
    """Knows every run."""

    async def get_run(
        self, *, path: str | None = None, run_key: RunKey | None = None
    ) -> RunDocument:
        assert run_key is not None
        return RunDocument(run_key, "local", "bench", str(run_key), "bench", RunState.RUNNING)


async def serve(folder: Path) -> int:
    """Serves ingest until SIGTERM, then says what it used and how large the table is after merges."""
    clock = SystemClock()
    store = ClickHouse.open_embedded(folder, ClickHouseConfig())
    await store.migrate()
    service = ingest.build(
        ingest.IngestConfig(),
        points=ClickHousePointWriter(store, clock=clock),
        purger=ClickHousePurger(store, tables=STREAM_TABLES, clock=clock),
        dropper=ClickHouseConsoleDropper(store),
        siblings=AnyRun(),
        clock=clock,
    )
    listener = Listener(ListenerConfig(), EdgeConfig(), clock=clock)
    address = listener.bind(Address("127.0.0.1", 0), is_explicit=True)
    listener.register([service])
    running = asyncio.create_task(service.run())
    await listener.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    cpu_before_s = cpu_seconds()
    print(address.port, flush=True)
    await stop.wait()
    await listener.stop(5.0)
    running.cancel()
    cpu_s = cpu_seconds() - cpu_before_s
    peak_bytes = peak_rss_bytes()
    threads = busiest_threads()
    await store.command("OPTIMIZE TABLE points FINAL", timeout_s=600.0)
    table = await store.query_arrow(
        "SELECT sum(rows) AS rows, sum(bytes_on_disk) AS bytes FROM system.parts WHERE active AND table = 'points'"
    )
    rows, size_bytes = (int(table[name][0].as_py()) for name in ("rows", "bytes"))
    report = {
        "peak_bytes": peak_bytes, "cpu_s": cpu_s, "rows": rows, "bytes": size_bytes, "threads": threads,
    }  # fmt: skip
    print(json.dumps(report), flush=True)
    await store.close()
    return 0


def peak_rss_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return psutil.Process().memory_info().rss


def cpu_seconds() -> float:
    """Returns CPU seconds of this process, all threads."""
    times = psutil.Process().cpu_times()
    return float(times.user + times.system)


def busiest_threads() -> dict[str, float]:
    """Returns CPU seconds by thread name, the largest eight."""
    seconds: dict[str, float] = {}
    for thread in psutil.Process().threads():
        try:
            name = Path(f"/proc/self/task/{thread.id}/comm").read_text().strip()
        except OSError:
            continue
        seconds[name] = seconds.get(name, 0.0) + thread.user_time + thread.system_time
    return dict(sorted(seconds.items(), key=lambda item: -item[1])[:8])


# ---- the load -----------------------------------------------------------------------------------------------------------------


def load_server(folder: Path, seconds: float) -> dict[str, float]:
    """Returns what the server acknowledged under load, and what it took."""
    server = subprocess.Popen(
        [sys.executable, __file__, "--serve", folder], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    try:
        port = int(server.stdout.readline())
        loaded = asyncio.run(send_batches(port, seconds))
        server.send_signal(signal.SIGTERM)
        report = json.loads(server.stdout.readline())
        server.wait(30)
    finally:
        server.kill()
        server.wait()
    print(f"  server threads, CPU s: {report['threads']}", flush=True)
    assert report["rows"] == loaded["points"], (report["rows"], loaded["points"])
    return {
        "rate": loaded["rate"],
        "median_s": loaded["median_s"],
        "p99_s": loaded["p99_s"],
        "lone_s": loaded["lone_s"],
        "peak_bytes": report["peak_bytes"],
        "cpu_s_per_million": report["cpu_s"] / report["rows"] * 1e6,
        "bytes_per_point": report["bytes"] / report["rows"],
    }


async def send_batches(port: int, seconds: float) -> dict[str, float]:
    """Keeps IN_FLIGHT batches in flight for that long; returns rate and times of answers."""
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
    call = channel.unary_unary(METHOD)
    curves = make_curves()
    numbers = iter(range(10**9))
    taken_s: list[float] = []

    async def send(until_s: float) -> None:
        while time.perf_counter() < until_s:
            number = next(numbers)
            run, batch_number = number % RUNS, number // RUNS
            began_s = time.perf_counter()
            reply = await call(
                wire_batch(RUN_KEYS[run], batch_number, curves[batch_number % PHASES])
            )
            taken_s.append(time.perf_counter() - began_s)
            assert b"\x20\x01" not in reply[-2:], "taken for a repeat"

    await asyncio.gather(*(send(time.perf_counter() + 1.0) for _ in range(IN_FLIGHT)))  # warm up
    warm = len(taken_s)
    began_s = time.perf_counter()
    await asyncio.gather(*(send(began_s + seconds) for _ in range(IN_FLIGHT)))
    elapsed_s = time.perf_counter() - began_s
    full_load = sorted(taken_s[warm:])
    lone = [await send_lone(call, number) for number in range(20)]
    await channel.close()
    return {
        "rate": len(full_load) * POINTS / elapsed_s,
        "points": len(taken_s) * POINTS + len(lone) * METRICS,
        "median_s": statistics.median(full_load),
        "p99_s": full_load[int(len(full_load) * 0.99)],
        "lone_s": statistics.median(lone),
    }


async def send_lone(call: Callable[[bytes], Any], number: int) -> float:
    """Returns how long one row of METRICS points takes when nothing else is sent."""
    await asyncio.sleep(0.05)
    request = ingest_pb2.WriteBatchRequest(
        run_key=make_run_key(1_760_000_100_000, 1), writer=1, first_sequence=number + 1,
        last_sequence=number + 1, metric_names=NAMES,
    )  # fmt: skip
    table = request.tables.add()
    table.metric_indexes.extend(range(METRICS))
    table.steps.append(number)
    table.times_unix_ns.append(1_760_000_000_000_000_000)
    table.sequences.append(number + 1)
    table.values.extend([1.0] * METRICS)
    began_s = time.perf_counter()
    await call(request.SerializeToString())
    return time.perf_counter() - began_s


def wire_batch(run_key: int, batch_number: int, values: np.ndarray[Any, Any]) -> bytes:
    """Returns a WriteBatchRequest as bytes: packed columns are little-endian, so NumPy's bytes are the field's."""
    steps, times, sequences = row_columns(batch_number)
    head = ingest_pb2.WriteBatchRequest(
        run_key=run_key, writer=1, first_sequence=int(sequences[0]), last_sequence=int(sequences[-1]),
        metric_names=NAMES,
    )  # fmt: skip
    indexes = bytes(range(METRICS))
    columns = (
        (1, indexes),
        (2, steps.tobytes()),
        (3, times.tobytes()),
        (4, sequences.tobytes()),
        (5, values.tobytes()),
    )
    table = b"".join(field(number, column) for number, column in columns)
    return head.SerializeToString() + field(6, table)


def field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + varint(len(content)) + content


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


# ---- the baseline ---------------------------------------------------------------------------------------------------------------


def run_direct(folder: Path, rows: int, inserters: int, seconds: float) -> dict[str, float]:
    """Returns what direct inserts reach in a process of its own, over a fresh folder."""
    shutil.rmtree(folder, ignore_errors=True)
    command = [
        sys.executable, __file__, "--direct", folder, "--blocks", str(rows), "--inserters", str(inserters),
        "--seconds", str(seconds),
    ]  # fmt: skip
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, timeout=seconds + 120, check=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def insert_directly(arguments: argparse.Namespace) -> dict[str, float]:
    """Inserts blocks that are ready in memory, with as many threads as asked for."""
    store = ClickHouse.open_embedded(arguments.direct, ClickHouseConfig())
    asyncio.run(store.migrate())
    clients = [link.client for link in store._inserts._links]
    blocks = iter(DirectBlocks(arguments.blocks))
    until_s = time.perf_counter() + arguments.seconds

    def work(client: Any) -> int:
        points = 0
        while time.perf_counter() < until_s:
            block = next(blocks)
            client.insert_arrow("points", block)
            points += block.num_rows
        return points

    cpu_before_s = cpu_seconds()
    began_s = time.perf_counter()
    with ThreadPoolExecutor(arguments.inserters) as threads:
        points = sum(threads.map(work, clients[: arguments.inserters]))
    elapsed_s = time.perf_counter() - began_s
    cpu_s = cpu_seconds() - cpu_before_s
    return {"rate": points / elapsed_s, "cpu_s_per_million": cpu_s / points * 1e6}


class DirectBlocks:
    """Yields blocks of the rows that the server gets, in key order; threads share it."""

    def __init__(self, rows: int) -> None:
        self._per_series = rows // (RUNS * METRICS)
        self._ids = np.sort(metric_ids(NAMES))
        curves = make_curves()
        phases = np.concatenate(list(curves), axis=1)
        # Each block has other values, as the server's have: parts of equal values would compress better when merged.
        offsets = range(0, phases.shape[1] - self._per_series + 1, self._per_series)
        self._values = [
            np.tile(phases[:, offset : offset + self._per_series], (RUNS, 1)).reshape(-1)
            for offset in offsets
        ]
        self._numbers = iter(range(10**9))

    def __iter__(self) -> Iterator[pa.Table]:
        return self

    def __next__(self) -> pa.Table:
        number = next(self._numbers)
        rows = self._per_series
        shape = (RUNS * METRICS, rows)
        steps = np.arange(number * rows, (number + 1) * rows, dtype=np.int64)
        jitter = np.random.default_rng(number).integers(0, STEP_NS // 10, rows)
        times = (1_760_000_000_000_000_000 + steps * STEP_NS + jitter) // 1_000_000
        return pa.table(
            {
                "run": np.repeat(np.array(RUN_KEYS, np.uint64), METRICS * rows),
                "metric": np.tile(np.repeat(self._ids, rows), RUNS),
                "step": np.broadcast_to(steps, shape).reshape(-1),
                "writer": np.ones(shape[0] * rows, np.uint32),
                "time": np.broadcast_to(times, shape).reshape(-1),
                "value": self._values[number % len(self._values)],
                "sequence": np.broadcast_to((steps + 1).astype(np.uint64), shape).reshape(-1),
                "block": np.full(shape[0] * rows, number, np.uint64),
            }
        )


if __name__ == "__main__":
    sys.exit(main())
