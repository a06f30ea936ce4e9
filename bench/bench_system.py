"""Times the sampling of system metrics: CPU of one sample, and so the share of a core that an agent spends on it.

Usage: python bench/bench_system.py [--out FILE] [--samples N] [--offline-s S]

The measured process samples as the agent does: the machine once, then each training process with its descendants. The trees
are real processes that wait. The baseline of 20 trees is one tree. GPUs are asked where there are any. For offline runs the
process that samples beside a real script is watched for a while; the baseline of init() is that of a run that is not sampled.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from figure import Result

from runyard.agent.system.amd import AmdSampler
from runyard.agent.system.nvidia import NvidiaSampler
from runyard.agent.system.sampler import ProcessSampler, SystemSampler

INTERVAL_S = 10.0
TREE_COUNTS = (1, 20)
CHILDREN = 8
"""Workers that load data, of each training process."""
SHARE_MAX = 0.01
START_S = 12.0
"""Until the process that samples has begun, its first samples taken."""
INIT_COUNT = 5
OFFLINE = """
import sys, time
import runyard
start_s = time.perf_counter()
run = runyard.init(mode="offline", settings={"system_interval_s": float(sys.argv[1])})
print(time.perf_counter() - start_s, flush=True)
sys.stdin.readline()
"""
TREE = """
import os, sys
for _ in range(int(sys.argv[1])):
    if os.fork() == 0:
        sys.stdin.read()
        os._exit(0)
print("up", flush=True)
sys.stdin.read()
for _ in range(int(sys.argv[1])):
    os.wait()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--offline-s", type=float, default=60.0)
    options = parser.parse_args()
    results = measure(options.samples) + measure_offline(options.offline_s)
    for result in results:
        print(f"{result.name:70} {result.value:10.4f} {result.unit}")
    if options.out:
        options.out.write_text(json.dumps([r.as_json() for r in results], indent=2) + "\n")


def measure(samples: int) -> list[Result]:
    """Returns CPU of a sample and its share of a core, for each number of trees."""
    results: list[Result] = []
    one_tree_ms = None
    for count in TREE_COUNTS:
        with trees(count) as pids:
            cpu_s, process_count = time_samples(pids, samples)
        many = f"{count} process trees" if count > 1 else "1 process tree"
        name = f"CPU of a sample, {many} of {1 + CHILDREN} among {process_count} processes"
        baseline = {"baseline": "1 process tree", "baseline_value": one_tree_ms}
        results.append(Result(name, cpu_s * 1000, "ms", **(baseline if one_tree_ms else {})))  # type: ignore[arg-type]  # one of two shapes
        one_tree_ms = one_tree_ms or cpu_s * 1000
        share = cpu_s / INTERVAL_S
        name = f"share of a core, {many}, a sample each {INTERVAL_S:g} s"
        results.append(
            Result(name, 100 * share, "%", target=100 * SHARE_MAX, is_met=share < SHARE_MAX)
        )
    return results


def measure_offline(watched_s: float) -> list[Result]:
    """Returns what sampling costs beside an offline run: CPU of its process, its memory, and init() with and without it."""
    with tempfile.TemporaryDirectory() as folder:
        with offline(folder, interval_s=INTERVAL_S) as init_s:
            root = Path(folder, "runyard")
            pid = _sampler_pid(root)
            time.sleep(START_S)
            start_s, start_cpu_s = time.monotonic(), cpu_of(pid)
            time.sleep(watched_s)
            share = (cpu_of(pid) - start_cpu_s) / (time.monotonic() - start_s)
            rss_mib = _rss_mib(pid)
    inits = {0.0: [], INTERVAL_S: [init_s]}
    for _ in range(INIT_COUNT):
        for interval_s, times in inits.items():
            with (
                tempfile.TemporaryDirectory() as other,
                offline(other, interval_s=interval_s) as one_s,
            ):
                times.append(one_s)
    name = f"share of a core, beside an offline run, a sample each {INTERVAL_S:g} s"
    return [
        Result(name, 100 * share, "%", target=100 * SHARE_MAX, is_met=share < SHARE_MAX),
        Result("CPU of that process until it samples", start_cpu_s * 1000, "ms"),
        Result("memory of that process", rss_mib, "MiB"),
        Result(
            "init() of an offline run that is sampled, median",
            1000 * statistics.median(inits[INTERVAL_S]),
            "ms",
            baseline="not sampled",
            baseline_value=1000 * statistics.median(inits[0.0]),
        ),
    ]


@contextmanager
def offline(folder: str, *, interval_s: float) -> Iterator[float]:
    """Runs a script that is offline; gives the time of its init()."""
    environment = {**os.environ, "RUNYARD_DIR": f"{folder}/runyard"}
    process = subprocess.Popen(
        [sys.executable, "-c", OFFLINE, str(interval_s)],
        env=environment,
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield float(process.stdout.readline())
    finally:
        process.communicate("\n")
        _await_end(Path(folder, "runyard"))


def _sampler_pid(root: Path) -> int:
    while True:
        for path in root.glob("sampling-*.lock"):
            if text := path.read_text().strip():
                return int(text)
        time.sleep(0.05)


def _await_end(root: Path) -> None:
    """Returns when the process that samples is gone; its folder is removed next."""
    while list(root.glob("sampling-*.lock")):
        time.sleep(0.1)


def cpu_of(pid: int) -> float:
    """Returns the CPU time of a process's threads, exactly: clock ticks are too coarse for so little."""
    return sum(
        int(path.read_text().split()[0]) / 1e9
        for path in Path(f"/proc/{pid}/task").glob("*/schedstat")
    )


def _rss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise LookupError(pid)


def time_samples(pids: list[int], samples: int) -> tuple[float, int]:
    """Returns the CPU time of one sample of all, and how many processes the machine had."""
    system, nvidia, amd = SystemSampler(("/", str(Path.cwd()))), NvidiaSampler(), AmdSampler()
    processes = [ProcessSampler(pid) for pid in pids]
    node = system.sample()
    began_s = 0.0
    for number in range(samples + 1):
        if number == 1:  # the first imports and looks for drivers
            began_s = time.process_time()
        node = system.sample()
        gpus = nvidia.sample(), amd.sample()
        for process in processes:
            metrics = process.sample(node)
            for gpu in gpus:
                metrics.update({**gpu.metrics, **gpu.of_processes(process.pids)})
            assert metrics["system/proc.count"] == 1 + CHILDREN, "a tree is not whole"
    spent_s = (time.process_time() - began_s) / samples
    assert system.failure_count == 0, "a part of the sample was left out"
    return spent_s, len(node.processes)


@contextmanager
def trees(count: int) -> Iterator[list[int]]:
    """Starts trees of waiting processes; they end with the block."""
    roots: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(count):
            root = subprocess.Popen(
                [sys.executable, "-c", TREE, str(CHILDREN)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
            roots.append(root)
            assert root.stdout is not None and root.stdout.readline() == b"up\n"
        yield [root.pid for root in roots]
    finally:
        for root in roots:
            assert root.stdin is not None
            root.stdin.close()  # the end of input ends the whole tree
            root.wait(30)
            if root.stdout is not None:
                root.stdout.close()


if __name__ == "__main__":
    main()
