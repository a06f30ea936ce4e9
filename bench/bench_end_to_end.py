"""End to end: four SDK processes log 100 metrics a row through one agent into an all-in-one server on the same cores.

The clock runs from the first log() to the last finish() that returned, and finish() returns when everything is durable;
afterwards the receipts are read back. The baseline is the same four processes with mode="offline": what the machine
does if nothing is sent.

    python bench/bench_end_to_end.py [--rows 50000] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

PROCESSES = 4
METRICS = 100
TARGET_POINTS_PER_S = 700_000
SERVER_START_S = 90.0
CHILD_TIMEOUT_S = 600.0
BIN = Path(sys.executable).parent

TRAINER = """
import json, math, sys, time
from pathlib import Path
import runyard
number, rows, metrics, folder = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
run = runyard.init(project="bench", settings={"finish_timeout_s": 500.0})
names = [f"train/layer_{i // 10}/stat_{i % 10}" for i in range(metrics)]
# Curves with noise, some of which stand still: 64 phases, so that making them costs the bench little.
phases = [
    {name: math.exp(-0.05 * p) * (1 + i) + ((p * 2654435761 + i * 40503) % 1000) * 1e-6 for i, name in enumerate(names)}
    for p in range(64)
]
(folder / f"ready{number}").touch()
while not (folder / "go").exists():
    time.sleep(0.001)
first = time.time()
for step in range(rows):
    run.log(phases[step & 63])
logged = time.time()
run.finish()
print(json.dumps({"first": first, "logged": logged, "finished": time.time(), "path": run.path}))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=50_000, help="rows that each process logs")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="runyard-bench-") as name:
        folder = Path(name)
        offline = log_rows(folder / "offline", arguments.rows, {"RUNYARD_MODE": "offline"})
        with server(folder) as (base_url, process):
            with usage(process.pid, folder / "online") as used:
                environment = {"RUNYARD_BASE_URL": base_url}
                online = log_rows(folder / "online", arguments.rows, environment)
            stored = stored_points(base_url, online["paths"])
    points = PROCESSES * METRICS * arguments.rows
    if stored != points:
        print(f"stored {stored:,} points, logged {points:,}: the figures below mean nothing")
        return 1
    entries = measurements(points, online, offline, used)
    print_table(entries)
    if arguments.out:
        arguments.out.write_text(json.dumps(entries, indent=1) + "\n")
    return 0


def measurements(
    points: int, online: dict[str, Any], offline: dict[str, Any], used: dict[str, float]
) -> list[dict[str, Any]]:
    rate = points / online["wall_s"]
    offline_rate = points / offline["wall_s"]
    entries = [
        entry(
            "points from first log() to last finish()",
            rate,
            "points/s",
            baseline=("the same, offline", offline_rate),
            target=TARGET_POINTS_PER_S,
            is_met=rate >= TARGET_POINTS_PER_S,
        ),
        entry("last finish() after last log()", online["tail_s"], "s"),
    ]
    for name, seconds in used.items():
        if name.endswith("_cpu_s"):
            who = name[: -len("_cpu_s")]
            entries.append(entry(f"CPU of the {who}", seconds / (points / 1e6), "s/million points"))
    entries.append(entry("memory of the agent, largest", used["agent_rss_bytes"] / 1e6, "MB"))
    entries.append(entry("memory of the server, largest", used["server_rss_bytes"] / 1e6, "MB"))
    return entries


def entry(
    name: str,
    value: float,
    unit: str,
    *,
    baseline: tuple[str, float] | None = None,
    target: float | None = None,
    is_met: bool | None = None,
) -> dict[str, Any]:
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "baseline": baseline[0] if baseline else None,
        "baseline_value": baseline[1] if baseline else None,
        "ratio": value / baseline[1] if baseline else None,
        "target": target,
        "is_met": is_met,
    }


def print_table(entries: list[dict[str, Any]]) -> None:
    for e in entries:
        beside = f"  ({e['baseline']}: {e['baseline_value']:,.0f})" if e["baseline"] else ""
        target = (
            f"  target {e['target']:,.0f}: {'met' if e['is_met'] else 'MISSED'}"
            if e["target"]
            else ""
        )
        print(f"{e['name']:<44} {e['value']:>14,.3f} {e['unit']}{beside}{target}")


def log_rows(folder: Path, rows: int, environment: dict[str, str]) -> dict[str, Any]:
    """Returns what the trainers measured; each waits until all have begun their runs."""
    folder.mkdir()
    environ = {k: v for k, v in os.environ.items() if not k.startswith("RUNYARD_")}
    environ |= {"RUNYARD_DIR": str(folder / "runyard"), "RUNYARD_SILENT": "1", **environment}
    trainers = [
        subprocess.Popen(
            [sys.executable, "-c", TRAINER, str(number), str(rows), str(METRICS), str(folder)],
            env=environ,
            stdout=subprocess.PIPE,
            cwd=folder,
        )
        for number in range(PROCESSES)
    ]
    try:
        wait_for(lambda: len(list(folder.glob("ready*"))) == PROCESSES, "the trainers")
        (folder / "go").touch()
        outputs = [trainer.communicate(timeout=CHILD_TIMEOUT_S)[0] for trainer in trainers]
    finally:
        for trainer in trainers:
            trainer.kill()
    told = [json.loads(output.splitlines()[-1]) for output in outputs]
    last = max(t["finished"] for t in told)
    return {
        "wall_s": last - min(t["first"] for t in told),
        "tail_s": last - max(t["logged"] for t in told),
        "paths": [t["path"] for t in told],
    }


@contextmanager
def server(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Runs an all-in-one server on free ports."""
    http, grpc = free_port(), free_port()
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [
                BIN / "runyard-server",
                "--target=all",
                f"--data-dir={folder / 'data'}",
                f"--http=127.0.0.1:{http}",
                f"--grpc=127.0.0.1:{grpc}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        text = folder / "server.log"
        wait_for(lambda: b"ready http=" in text.read_bytes(), "the server")
        yield f"http://127.0.0.1:{http}", process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()


@contextmanager
def usage(server_pid: int, folder: Path) -> Iterator[dict[str, float]]:
    """Samples CPU time and memory of the server and of the agent until left."""
    used = {
        "server_rss_bytes": 0.0,
        "agent_rss_bytes": 0.0,
        "server_cpu_s": 0.0,
        "agent_cpu_s": 0.0,
    }
    stopped = threading.Event()
    served = psutil.Process(server_pid)
    before = cpu_s(served)

    def sample() -> None:
        agent: psutil.Process | None = None
        while not stopped.wait(0.2):
            try:
                used["server_rss_bytes"] = max(used["server_rss_bytes"], served.memory_info().rss)
                used["server_cpu_s"] = cpu_s(served) - before
                if agent is None:
                    pid = (folder / "runyard" / "agent.lock").read_text().strip()
                    agent = psutil.Process(int(pid))
                used["agent_rss_bytes"] = max(used["agent_rss_bytes"], agent.memory_info().rss)
                used["agent_cpu_s"] = cpu_s(agent)
            except (psutil.Error, OSError, ValueError):
                agent = None

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield used
    finally:
        stopped.set()
        thread.join()


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def stored_points(base_url: str, paths: list[str]) -> int:
    os.environ["RUNYARD_BASE_URL"] = base_url
    import runyard

    api = runyard.Api()
    return sum(api.run(path).receipt().points_accepted for path in paths)


def wait_for(is_there: Any, what: str) -> None:
    end = time.monotonic() + SERVER_START_S
    while not is_there():
        if time.monotonic() > end:
            raise SystemExit(f"{what} did not come up within {SERVER_START_S:.0f} s")
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
