"""A disk that is full or read-only under the journal: one warning, and training goes on."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.readback import readback
from tests.integration.yard import Yard
from tests.robustness.small_disks import small_disk
from tests.robustness.traffic import kill_agent

SCRIPT = """
import runyard
run = runyard.init(entity="robust", project="disk", id="fulldisk")
for step in range(20000):
    run.log({f"metric{n}": step * 0.5 for n in range(50)})
print("trained to the end")
"""
# Fills the disk to the last block while nothing is sent, then waits until rows are kept again.
FILLING_SCRIPT = """
import os, sys, time, runyard
run = runyard.init(entity="robust", project="disk", id="filling")
row = {f"m{n}": 0.5 for n in range(50)}
run.log(row)
end_s = time.monotonic() + 30
while run.receipt().records_durable < run.receipt().records_written and time.monotonic() < end_s:
    time.sleep(0.05)
print("running", flush=True)
sys.stdin.readline()
while not run.receipt().records_dropped:
    run.log(row)
with open(os.path.join(sys.argv[1], "checkpoint"), "wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(4096))
    except OSError:
        pass
print("full", flush=True)
sys.stdin.readline()
before, end_s = run.receipt().records_written, time.monotonic() + 60
while run.receipt().records_written < before + 100 and time.monotonic() < end_s:
    run.log(row)
    time.sleep(0.001)
run.finish()
receipt = run.receipt()
print(receipt.records_dropped, receipt.records_written - before, receipt.records_written, receipt.records_durable)
"""
DISK_BYTES = 2 << 20
SCRIPT_TIMEOUT_S = 120


def run_script(environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SCRIPT_TIMEOUT_S,
    )


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    with small_disk(tmp_path / "small", DISK_BYTES) as folder:
        yield folder


def test_a_full_disk_stops_no_training(disk: Path, tmp_path: Path) -> None:
    """When the disk fills up, the script says so once, goes on, and ends well."""
    # Nobody listens there: nothing is sent, so nothing is freed.
    environment = Yard(tmp_path / "yard").environment(disk / "runyard", RUNYARD_MODE="offline")
    done = run_script(environment, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "trained to the end" in done.stdout
    told = [line for line in done.stderr.splitlines() if "No space left" in line]
    assert len(told) == 1, done.stderr


def test_a_full_disk_is_sent_and_freed(disk: Path, tmp_path: Path) -> None:
    """With the server back, the agent gets the mark onto the full disk, frees what is durable, and rows are kept again."""
    root = disk / "runyard"
    with Yard(tmp_path / "yard") as yard, readback(yard.grpc) as reader:
        environment = yard.environment(root, RUNYARD_FINISH_TIMEOUT_S="30", RUNYARD_QUIET="1")
        process = subprocess.Popen(
            [sys.executable, "-c", FILLING_SCRIPT, disk],
            env=environment, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "running\n"
            server = yard.parts["server"].process
            assert server is not None
            server.send_signal(signal.SIGSTOP)
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "full\n"
            assert shutil.disk_usage(disk).free == 0
            server.send_signal(signal.SIGCONT)
            out, told = process.communicate("\n", timeout=SCRIPT_TIMEOUT_S)
        finally:
            process.kill()
            kill_agent(root)
        assert process.returncode == 0, told
        dropped, again, written, durable = map(int, out.split())
        assert dropped > 0 and again > 0 and written == durable, (out, told)
        assert f"{dropped:,} records were dropped" in told
        reader.wait_for_state("robust/disk/filling", "FINISHED", timeout_s=10)
        receipt = reader.receipt("robust/disk/filling")
        assert receipt.records_durable == written
        steps = [step for step, _ in reader.history("robust/disk/filling")["m0"]]
        assert len(set(steps)) == len(steps), "I2"


def test_a_limit_of_journals(tmp_path: Path) -> None:
    """With RUNYARD_JOURNAL_BYTES_MAX the root stays below it, drops are counted, and all that is kept is sent."""
    root = tmp_path / "runyard"
    with Yard(tmp_path / "yard") as yard, readback(yard.grpc) as reader:
        environment = yard.environment(
            root, RUNYARD_MODE="offline", RUNYARD_JOURNAL_BYTES_MAX="3 MiB"
        )
        done = run_script(environment, tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("may take 3.0 MiB (RUNYARD_JOURNAL_BYTES_MAX)") == 1, done.stderr
        used_bytes = sum(path.stat().st_size for path in root.rglob("*.seg"))
        assert 2 << 20 < used_bytes <= (3 << 20) + (256 << 10)
        sync = [sys.executable, "-m", "runyard", "sync", "--json", str(root)]
        sent = subprocess.run(sync, env=environment, capture_output=True, text=True, timeout=60)
        (told,) = json.loads(sent.stdout)
        assert sent.returncode == 0 and told["records_durable"] == told["records_written"] > 4000
        receipt = reader.receipt("robust/disk/fulldisk")
        assert receipt.records_durable == told["records_durable"]
        assert reader.state("robust/disk/fulldisk") == "FINISHED"
        dropped = 20_000 - len(reader.history("robust/disk/fulldisk")["metric0"])
        assert f"{dropped:,} records were dropped" in done.stderr


def test_a_folder_that_cannot_be_written_stops_no_training(tmp_path: Path) -> None:
    """Where no journal can be made, the script says so once and trains to the end."""
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a folder")
    environment = Yard(tmp_path / "yard").environment(in_the_way / "runyard", TMPDIR=str(tmp_path))
    try:
        done = run_script(environment, tmp_path)
    finally:
        # The journal goes to the folder of temporary files; its agent would wait for a server that never comes.
        for root in tmp_path.glob("runyard-*"):
            kill_agent(root)
    assert done.returncode == 0, done.stderr
    assert "trained to the end" in done.stdout
    told = [line for line in done.stderr.splitlines() if str(in_the_way) in line]
    assert len(told) == 1, done.stderr
