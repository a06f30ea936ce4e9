"""Full queues: ingest answers RESOURCE_EXHAUSTED with a delay, the agent waits and sends again, and nothing is lost."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from pathlib import Path

from tests.integration.readback import readback
from tests.integration.yard import Yard
from tests.robustness.faults import Link, Proxy
from tests.robustness.traffic import kill_agent

RUNS, ROWS, METRICS = 3, 400, 40
QUEUE_MAX = "96KiB"
SCRIPT_TIMEOUT_S = 180
SCRIPT = """
import sys, runyard
run = runyard.init(entity="pressure", project="queue", id=sys.argv[1])
for step in range(int(sys.argv[2])):
    run.log({f"metric{n}": step + n / 100 for n in range(int(sys.argv[3]))})
"""
REFUSED = re.compile(rb'runyard_ingest_batches_refused_total{reason="QUEUE_FULL"} ([0-9.]+)')


def refused_count(yard: Yard) -> int:
    """Returns how many batches ingest refused because its queue was full."""
    address = yard.parts["ingest"].ready_line
    http = re.search(r"http=(\S+)", address)
    assert http is not None, address
    with urllib.request.urlopen(f"http://{http[1]}/metrics", timeout=30) as reply:
        found = REFUSED.search(reply.read())
    return int(float(found[1])) if found else 0


def test_full_queues_delay_and_lose_nothing(tmp_path: Path) -> None:
    """With a slow store and a small queue batches are refused for now; each run ends whole."""
    root = tmp_path / "runyard"
    settings = [f"ingest.queue_bytes_max={QUEUE_MAX}", "ingest.inserts_max=1"]
    with Proxy() as store:
        yard = Yard(
            tmp_path / "yard", "apart",
            settings=[*settings, f"clickhouse.url=http://{store.address}"],
        )  # fmt: skip
        store.target = f"127.0.0.1:{yard.parts['clickhouse'].command[-1]}"
        with yard, readback(yard.grpc) as reader:
            store.set(Link(delay_s=0.03))
            scripts = [
                subprocess.Popen(
                    [sys.executable, "-c", SCRIPT, f"run{n}", str(ROWS), str(METRICS)],
                    env=yard.environment(root),
                    cwd=tmp_path,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                )
                for n in range(RUNS)
            ]
            try:
                for script in scripts:
                    _, told = script.communicate(timeout=SCRIPT_TIMEOUT_S)
                    assert script.returncode == 0, told
                for n in range(RUNS):
                    path = f"pressure/queue/run{n}"
                    reader.wait_for_state(path, "FINISHED", timeout_s=SCRIPT_TIMEOUT_S)
                    reader.assert_receipt_is_whole(path, points=ROWS * METRICS)
                assert refused_count(yard) > 0
            finally:
                for script in scripts:
                    script.kill()
                    script.communicate(timeout=10)
                kill_agent(root)
