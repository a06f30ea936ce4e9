"""Times the sampling of system metrics: CPU of one sample, and so the share of a core that an agent spends on it.

Usage: python bench/bench_system.py [--out FILE] [--samples N]

The measured process samples as the agent does: the machine once, then each training process with its descendants. The trees
are real processes that wait. The baseline of 20 trees is one tree. GPUs are asked where there are any.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
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
    options = parser.parse_args()
    results = measure(options.samples)
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
