"""Files: one of 1 GiB and 2,000 of 10 KiB, from the call of finish() until each is durable, beside the bare S3 client on the same server.

The baseline is the `minio` client with its own defaults (three parts at once; of small files 16 threads), into the same S3
server, before and after; it hashes what it sends, too. runyard's time holds all the rest of finish() as well: reading the file
for its SHA-256, announcing, completing, and the end of the run.

    python bench/bench_files.py [--mib 1024] [--count 2000] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from figure import Result
from minio import Minio

MIB = 1 << 20
SMALL_BYTES = 10 * 1024
SMALL_THREADS = 16
TARGET_RATIO = 0.8
START_S = 90.0
SCRIPT_S = 900.0
BIN = Path(sys.executable).parent

SCRIPT = """
import json, sys, time
import runyard
run = runyard.init(project="bench", settings={"finish_timeout_s": 800.0})
saved = run.save(sys.argv[1], policy="end", base_path=sys.argv[2])
time.sleep(2)
began = time.time()
run.finish()
print(json.dumps({"count": len(saved), "seconds": time.time() - began, "path": run.path}))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mib", type=int, default=1024, help="size of the large file")
    parser.add_argument("--count", type=int, default=2000, help="number of small files")
    parser.add_argument(
        "--rounds", type=int, default=3, help="pairs of runyard and baseline; the medians are told"
    )
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="runyard-bench-") as name:
        folder = Path(name)
        with server(folder) as base_url:
            results += large(folder, base_url, arguments.mib, arguments.rounds)
            results += small(folder, base_url, arguments.count, arguments.rounds)
    for result in results:
        beside = (
            f"  ({result.baseline}: {result.baseline_value:,.1f})" if result.baseline_value else ""
        )
        target = "" if result.is_met is None else "  met" if result.is_met else "  MISSED"
        print(f"{result.name:<52} {result.value:>10,.1f} {result.unit}{beside}{target}")
    if arguments.out:
        arguments.out.write_text(json.dumps([r.as_json() for r in results], indent=1) + "\n")
    return 0


def large(folder: Path, base_url: str, mib: int, rounds: int) -> list[Result]:
    path = folder / "large" / "model.bin"
    path.parent.mkdir()
    client, bucket = bare_client(folder)
    ours, theirs, agents = [], [], []
    for _ in range(rounds):
        with path.open("wb") as file:
            for _ in range(mib):
                file.write(os.urandom(MIB))
        before = bare_large(client, bucket, path)
        seconds, agent = save(folder, base_url, str(path), path.parent)
        ours.append(seconds)
        theirs.append((before + bare_large(client, bucket, path)) / 2)
        agents.append(agent)
        print(
            f"  {mib} MiB: runyard {seconds:.2f} s, bare {theirs[-1]:.2f} s, agent {agent}",
            flush=True,
        )
    path.unlink()
    rate, bare = mib / statistics.median(ours), mib / statistics.median(theirs)
    return [
        Result(
            f"one file of {mib} MiB, finish() to durable",
            rate,
            "MiB/s",
            "minio client",
            bare,
            TARGET_RATIO * bare,
            rate >= TARGET_RATIO * bare,
        ),
        Result("memory of the agent, largest", max(a["rss_mb"] for a in agents), "MB"),
        Result("CPU of the agent", statistics.median(a["cpu_s"] for a in agents), "s"),
    ]


def bare_large(client: Minio, bucket: str, path: Path) -> float:
    """Returns how long the client takes for the file."""
    began = time.monotonic()
    client.fput_object(bucket, "large", str(path))
    seconds = time.monotonic() - began
    client.remove_object(bucket, "large")
    return seconds


def small(folder: Path, base_url: str, count: int, rounds: int) -> list[Result]:
    client, bucket = bare_client(folder)
    ours, theirs = [], []
    for number in range(rounds):
        parent = folder / f"small{number}"
        parent.mkdir()
        for index in range(count):
            (parent / f"f{index:05}.bin").write_bytes(os.urandom(SMALL_BYTES))
        paths = sorted(parent.iterdir())
        began = time.monotonic()
        with ThreadPoolExecutor(SMALL_THREADS) as threads:
            list(
                threads.map(
                    lambda path, n=number: client.fput_object(
                        bucket, f"s{n}/{path.name}", str(path)
                    ),
                    paths,
                )
            )
        theirs.append(time.monotonic() - began)
        seconds, agent = save(folder, base_url, f"{parent}/*.bin", parent)
        ours.append(seconds)
        print(
            f"  {count} files: runyard {seconds:.2f} s, bare {theirs[-1]:.2f} s, agent {agent}",
            flush=True,
        )
    rate, bare = count / statistics.median(ours), count / statistics.median(theirs)
    return [
        Result(
            f"{count} files of 10 KiB, finish() to durable",
            rate,
            "files/s",
            f"minio client, {SMALL_THREADS} threads",
            bare,
        )
    ]


def save(folder: Path, base_url: str, pattern: str, base: Path) -> tuple[float, dict[str, float]]:
    """Saves by a script of its own with an agent of its own; returns seconds of finish(), and what the agent used."""
    journals = Path(tempfile.mkdtemp(dir=folder))
    environ = {k: v for k, v in os.environ.items() if not k.startswith("RUNYARD_")}
    environ |= {
        "RUNYARD_DIR": str(journals),
        "RUNYARD_BASE_URL": base_url,
        "RUNYARD_SILENT": "1",
        "RUNYARD_CONSOLE": "off",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, pattern, str(base)],
        env=environ,
        cwd=journals,
        stdout=subprocess.PIPE,
        timeout=SCRIPT_S,
        check=True,
    )
    agent = psutil.Process(int((journals / "agent.lock").read_text().strip()))
    peak_kb = next(
        int(line.split()[1])
        for line in Path(f"/proc/{agent.pid}/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    times = agent.cpu_times()
    used = {"rss_mb": peak_kb / 1024, "cpu_s": times.user + times.system}
    agent.terminate()
    agent.wait(30)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    import runyard

    stored = list(runyard.Api(base_url).run(told["path"]).files())
    missing = told["count"] - sum(1 for file in stored if file.name.endswith(".bin"))
    if missing:
        raise SystemExit(
            f"{missing} of {told['count']} files are not stored: the figures would mean nothing"
        )
    return float(told["seconds"]), used


def bare_client(folder: Path) -> tuple[Minio, str]:
    """Returns a client of the S3 server that the runyard server started for itself, and a bucket for it."""
    kept = next((folder / "data").rglob("s3.json"))
    credentials = json.loads(kept.read_text())["identities"][0]["credentials"][0]
    ports = json.loads((kept.parent / "ports.json").read_text())
    client = Minio(
        f"127.0.0.1:{ports['s3.port']}",
        access_key=credentials["accessKey"],
        secret_key=credentials["secretKey"],
        region="us-east-1",
        secure=False,
    )
    if not client.bucket_exists("bench"):
        client.make_bucket("bench")
    return client, "bench"


@contextmanager
def server(folder: Path) -> Iterator[str]:
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
        end = time.monotonic() + START_S
        while b"ready http=" not in (folder / "server.log").read_bytes():
            if time.monotonic() > end or process.poll() is not None:
                raise SystemExit(f"the server did not come up within {START_S:.0f} s")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{http}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
