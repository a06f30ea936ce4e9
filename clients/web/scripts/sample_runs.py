"""Fills a running server with runs to look at: many, long-named, failed, crashed, alive, with NaN, spikes, 1,000 metrics.

`.venv/bin/python clients/web/scripts/sample_runs.py --grpc=127.0.0.1:8081 [--live-s=60]`; screenshots.py uses it.
It speaks to the services as an agent does, so that states and times can be chosen.
"""

from __future__ import annotations

import argparse
import json
import math
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc
import numpy as np

from runyard_protos.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from runyard_protos.metadata.v1 import metadata_pb2, metadata_pb2_grpc
from runyard_protos.monitor.v1 import monitor_pb2, monitor_pb2_grpc

ENTITY = "nico"
DEADLINE_S = 20
ROWS_PER_BATCH = 5_000
LIVE_PERIOD_S = 0.5
Columns = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Server:
    """Stubs of one server."""

    ingest: ingest_pb2_grpc.IngestServiceStub
    metadata: metadata_pb2_grpc.MetadataServiceStub
    monitor: monitor_pb2_grpc.MonitorServiceStub


@dataclass(slots=True)
class Writer:
    """One run's writer and how far it has counted."""

    run: metadata_pb2.Run
    writer: int
    sequence: int = 0


def main() -> None:
    """Fills the server, then keeps two runs alive for as long as asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--grpc", default="127.0.0.1:8081")
    parser.add_argument("--live-s", type=float, default=0, help="keep two runs alive for so long")
    arguments = parser.parse_args()
    channel = grpc.insecure_channel(arguments.grpc)
    server = Server(
        ingest_pb2_grpc.IngestServiceStub(channel),
        metadata_pb2_grpc.MetadataServiceStub(channel),
        monitor_pb2_grpc.MonitorServiceStub(channel),
    )
    fill_comparison(server)
    fill_odd_runs(server)
    fill_wide_run(server)
    fill_long_run(server)
    live = [start(server, "vision", "alive-and-well-1"), start(server, "odd-runs", "")]
    sys.stdout.write("sample runs written\n")
    sys.stdout.flush()
    keep_alive(server, live, arguments.live_s)


def fill_comparison(server: Server) -> None:
    """Twelve ended runs of one project, comparable."""
    rng = np.random.default_rng(1)
    for i in range(12):
        lr = float(10 ** rng.uniform(-4, -1))
        optimizer = ["adam", "sgd", "lion"][i % 3]
        config: dict[str, object] = {
            "lr": lr,
            "optimizer": {"name": optimizer, "momentum": 0.9},
            "batch_size": int(2 ** rng.integers(4, 9)),
            "layers": int(rng.integers(2, 12)),
            "dataset": "cifar100-aug-v3",
            "seed": 2**63 - 1 - i,
        }
        writer = start(server, "vision", f"sweep-{optimizer}-{i + 1}", config=config)
        write(server, writer, curves(400 + 37 * i, lr=lr, seed=i))
        exit_code = 1 if i in (4, 9) else 0
        evidence = (
            "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB" if exit_code else ""
        )
        finish(server, writer, exit_code, evidence)


def fill_odd_runs(server: Server) -> None:
    """A long name, NaN and infinities, a spike, a crash, a run without data."""
    writer = start(
        server,
        "odd-runs",
        "a-very-long-run-name-that-says-everything-about-the-experiment-lr-0.0003-bs-4096-seed-1234567890",
        config={
            "prompt": "x" * 300,
            "nothing": None,
            "on": True,
            "list": [1, 2.5, "three"],
            "limit": math.inf,
        },
        tags=["baseline", "paper-figure-3", "do-not-delete"],
        notes="First full run after the data fix.\nLoss spikes at 300 are the corrupted shard; see the report.",
    )
    steps = np.arange(1_000)
    loss = 2 * np.exp(-steps / 200) + 0.02 * np.random.default_rng(5).standard_normal(1_000)
    spiky = loss.copy()
    spiky[300] = 5_000
    broken = loss.copy()
    broken[400:440] = np.nan
    broken[[600, 640]] = np.inf
    broken[700] = -np.inf
    write(
        server,
        writer,
        {
            "loss": loss,
            "loss_with_spike": spiky,
            "loss_with_nan": broken,
            "always_nan": np.full(1_000, np.nan),
            "constant": np.full(1_000, 3.0),
            "tiny": loss * 1e-9,
            "huge": loss * 3e11,
            "negative": -loss - 5,
            "a/metric/with/many/slashes/and_a_really_long_name_that_does_not_fit_into_a_panel": loss,
        },
    )
    finish(server, writer, 0, "")
    crashed = start(server, "odd-runs", "crashed-in-the-night-7", config={"lr": 0.1})
    write(server, crashed, curves(120, lr=0.1, seed=3))
    verdict = metadata_pb2.RecordTransitionRequest(
        run_key=crashed.run.run_key,
        to=metadata_pb2.RUN_STATE_CRASHED,
        cause=metadata_pb2.TRANSITION_CAUSE_HEARTBEAT_LOST,
        evidence="no heartbeat for 60 s; last one at step 119",
        actor="monitor",
        attempt_count=1,
    )
    # `from` is a word of Python's.
    setattr(verdict, "from", state_of(server, crashed))
    server.metadata.RecordTransition(verdict, timeout=DEADLINE_S)
    one_point = start(server, "odd-runs", "one-point-only-3")
    write(server, one_point, {"loss": np.array([0.5])})
    finish(server, one_point, 255, "KeyboardInterrupt")
    finish(server, start(server, "odd-runs", "logged-nothing-4"), 0, "")


def fill_wide_run(server: Server) -> None:
    """One run with 1,000 metrics in sections."""
    writer = start(server, "wide", "thousand-metrics-1", config={f"key_{i}": i for i in range(120)})
    rng = np.random.default_rng(2)
    columns: Columns = {
        f"layer.{i // 20}/{'grad' if i % 2 else 'weight'}_norm.{i % 20}": np.cumsum(
            rng.standard_normal(60)
        )
        for i in range(1_000)
    }
    write(server, writer, columns)
    finish(server, writer, 0, "")


def fill_long_run(server: Server) -> None:
    """One series of 300,000 points with detail at every scale."""
    steps = np.arange(300_000)
    rng = np.random.default_rng(4)
    wave = np.sin(steps / 900) * np.exp(-steps / 400_000) + 0.3 * rng.standard_normal(len(steps))
    writer = start(server, "long", "three-hundred-thousand-2", config={"lr": 3e-4})
    write(
        server, writer, {"train/loss": wave + 2, "train/lr": 3e-4 * np.cos(steps / 300_000 * 1.5)}
    )
    finish(server, writer, 0, "")


def curves(count: int, *, lr: float, seed: int) -> Columns:
    """What a usual training run logs: 64 metrics in sections."""
    rng = np.random.default_rng(seed)
    x = np.arange(count)
    decay = np.exp(-x / (count * (0.1 + 0.1 * rng.random())))

    def noisy(values: np.ndarray, size: float) -> np.ndarray:
        return values + size * rng.standard_normal(count)

    columns = {
        "epoch": np.floor(x / 40),
        "train/loss": noisy(2.3 * decay + 0.2 * rng.random() + 0.1, 0.06),
        "train/accuracy": np.clip(noisy(1 - 0.8 * decay - 0.1 * rng.random(), 0.015), 0, 1),
        "train/lr": lr * (1 + np.cos(x / count * math.pi)) / 2,
        "val/loss": noisy(2.3 * decay + 0.4 + 0.2 * (x / count) ** 2, 0.03),
        "val/accuracy": np.clip(noisy(0.95 - 0.85 * decay, 0.01), 0, 1),
        "val/f1": np.clip(noisy(0.9 - 0.85 * decay, 0.01), 0, 1),
        "perf/samples_per_s": noisy(np.full(count, 12_400.0 + 900 * rng.random()), 300),
    }
    for layer in range(28):
        columns[f"grad_norm/layer.{layer}"] = np.abs(
            noisy(np.exp(-x / count) * (layer + 1) / 9, 0.08)
        )
        columns[f"weights/layer.{layer}.std"] = noisy(
            0.02 + 0.0004 * layer + x / count / 90, 0.0003
        )
    return columns


def start(
    server: Server,
    project: str,
    name: str,
    *,
    config: dict[str, object] | None = None,
    tags: Sequence[str] = (),
    notes: str = "",
) -> Writer:
    """Starts a run."""
    request = metadata_pb2.StartRunRequest(
        request_id=secrets.token_hex(16),
        entity=ENTITY,
        project=project,
        display_name=name,
        config_json=extended_json(config or {}),
        tags=tags,
        notes=notes,
        host=metadata_pb2.Host(
            hostname="gpu-17.lab.internal",
            username="nico",
            os="Linux-6.1.0-18-amd64-x86_64-with-glibc2.36",
            python_version="3.11.9",
            python_executable="/opt/conda/bin/python",
            command="train.py --config configs/base.yaml --lr 0.0003",
            working_directory="/home/nico/projects/vision",
            pid=41_207,
            client_version="runyard-python/0.1.0",
            cpu_count=64,
        ),
    )
    request.start_time.GetCurrentTime()
    answer = server.metadata.StartRun(request, timeout=DEADLINE_S)
    writer = Writer(answer.run, answer.writer)
    beat(server, writer)
    return writer


def extended_json(config: dict[str, object]) -> str:
    """Returns the config with infinities as extended JSON writes them."""
    return json.dumps(
        {
            key: {"$float": "Infinity"} if value == math.inf else value
            for key, value in config.items()
        }
    )


def write(server: Server, writer: Writer, columns: Columns, first_step: int = 0) -> None:
    """Writes rows, one record each, with a time each of a tenth of a second."""
    names = list(columns)
    count = len(columns[names[0]])
    end_ns = time.time_ns()
    batch_rows = max(1, min(ROWS_PER_BATCH, 200_000 // len(names)))
    for start_row in range(0, count, batch_rows):
        rows = min(batch_rows, count - start_row)
        first = writer.sequence + 1
        writer.sequence += rows
        request = ingest_pb2.WriteBatchRequest(
            run_key=writer.run.run_key,
            writer=writer.writer,
            first_sequence=first,
            last_sequence=writer.sequence,
            metric_names=names,
        )
        steps = range(first_step + start_row, first_step + start_row + rows)
        request.tables.add(
            metric_indexes=range(len(names)),
            steps=steps,
            times_unix_ns=[end_ns - (count - start_row - i) * 100_000_000 for i in range(rows)],
            sequences=range(first, writer.sequence + 1),
            values=np.concatenate(
                [columns[name][start_row : start_row + rows] for name in names]
            ).tolist(),
        )
        server.ingest.WriteBatch(request, timeout=DEADLINE_S)


def finish(server: Server, writer: Writer, exit_code: int, evidence: str) -> None:
    """Ends a run."""
    cause = "FINISH_CALLED" if exit_code == 0 else "UNHANDLED_EXCEPTION"
    request = metadata_pb2.FinishRunRequest(
        run_key=writer.run.run_key,
        writer=writer.writer,
        last_sequence=writer.sequence,
        exit_code=exit_code,
        cause=metadata_pb2.TransitionCause.Value(f"TRANSITION_CAUSE_{cause}"),
        evidence=evidence,
    )
    request.end_time.GetCurrentTime()
    server.metadata.FinishRun(request, timeout=DEADLINE_S)


def beat(server: Server, writer: Writer) -> None:
    """Sends a heartbeat."""
    server.monitor.Heartbeat(
        monitor_pb2.HeartbeatRequest(
            agent_id="sample",
            beats=[
                monitor_pb2.Beat(
                    run_key=writer.run.run_key,
                    writer=writer.writer,
                    is_process_alive=True,
                    records_written=writer.sequence,
                    records_durable=writer.sequence,
                )
            ],
        ),
        timeout=DEADLINE_S,
    )


def state_of(server: Server, writer: Writer) -> int:
    """Returns the run's state as the server has it."""
    request = metadata_pb2.GetRunRequest(run_key=writer.run.run_key)
    return int(server.metadata.GetRun(request, timeout=DEADLINE_S).run.state)


def keep_alive(server: Server, writers: Sequence[Writer], for_s: float) -> None:
    """Goes on logging to the runs until the time is over, then leaves them to their fate."""
    end = time.monotonic() + for_s
    step = 0
    rows: Callable[[int], Columns] = lambda at: {  # noqa: E731
        "train/loss": np.array([2 * math.exp(-at / 60) + 0.1 * math.sin(at)]),
        "train/accuracy": np.array([1 - math.exp(-at / 40)]),
        "wall_clock_s": np.array([time.time() % 1e5]),
    }
    while time.monotonic() < end:
        for writer in writers:
            write(server, writer, rows(step), first_step=step)
            beat(server, writer)
        step += 1
        time.sleep(LIVE_PERIOD_S)


if __name__ == "__main__":
    main()
