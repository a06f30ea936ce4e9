"""Archives of logs where the archiver's disk is full, and of a log of millions of lines: nothing is lost, memory stays bounded."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import runyard
from tests.integration.readback import wait_until
from tests.integration.test_console_archives import SETTINGS, await_drop, logs_state
from tests.integration.yard import Yard
from tests.robustness.small_disks import BALLAST, fill, free, small_disk

MIB = 1 << 20
TIMEOUT_S = 180
LINE_COUNT = 60_000
RANDOM_LINES = f"""
import random, runyard
with runyard.init(project="disk", id="full"):
    chance = random.Random(7)
    for number in range({LINE_COUNT}):
        print(number, chance.randbytes(50).hex())
"""


def train(yard: Yard, folder: Path, script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env=yard.environment(folder / "runs", RUNYARD_CONSOLE_BYTES_PER_S_MAX="100 MiB"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr


def failures(yard: Yard) -> list[dict[str, Any]]:
    """Returns what the log says of archives that failed."""
    found = []
    for line in yard.parts["server"].log_path.read_text().splitlines():
        with contextlib.suppress(ValueError):
            fields = json.loads(line)
            if fields.get("event") == "console_archive_failed":
                found.append(fields)
    return found


@pytest.mark.parametrize("room_bytes", [0, MIB])
def test_a_full_disk_of_the_archiver_loses_nothing(tmp_path: Path, room_bytes: int) -> None:
    """Full at once, or halfway: lines stay where they are and can be read, the log says why, and it is made once there is room."""
    with small_disk(tmp_path / "disk", 16 * MIB) as disk:
        settings = (*SETTINGS, f"console.work_dir={disk}")
        with Yard(tmp_path / "yard", settings=settings) as yard:
            before = logs_state(yard)
            fill(disk)
            with (disk / BALLAST).open("r+b") as ballast:
                ballast.truncate((disk / BALLAST).stat().st_size - room_bytes)
            train(yard, tmp_path, RANDOM_LINES)
            wait_until(lambda: len(failures(yard)) >= 2, 60, "two archives to fail")
            assert str(disk) in failures(yard)[-1]["message"]
            assert "No space left on device" in failures(yard)[-1]["message"]
            assert logs_state(yard)[1] == 1, "its lines are still in ClickHouse"
            with runyard.Api(yard.base_url) as api:
                run = api.run("local/disk/full")
                texts = [line.text for line in run.logs()]
                assert len(texts) == LINE_COUNT
                free(disk)
                await_drop(yard, before)
                assert [line.text for line in run.logs()] == texts
            assert yard.parts["server"].is_running
            wait_until(lambda: not list(disk.iterdir()), 10, "nothing to be left on the disk")


MANY_LINES = """
import runyard
with runyard.init(project="disk", id="many"):
    for start in range(0, 2_000_000, 1000):
        print("\\n".join(f"step {number} loss {number * 7919 % 100_000 / 1000} lr 0.0003" for number in range(start, start + 1000)))
"""


def peak_bytes(pid: int) -> int:
    """Returns the most memory that a process has held so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(peak) * 1024


def test_an_archive_of_millions_of_lines_takes_bounded_memory(tmp_path: Path) -> None:
    """Two million lines: the service that archives them never holds more than a few of their pages."""
    with Yard(tmp_path / "yard", "apart", settings=SETTINGS) as yard:
        files = yard.parts["files"].process
        assert files is not None
        before, idle_bytes = logs_state(yard), peak_bytes(files.pid)
        train(yard, tmp_path, MANY_LINES)
        await_drop(yard, before)
        with runyard.Api(yard.base_url) as api:
            run = api.run("local/disk/many")
            (last,) = run.logs(tail=1)
            assert last.line == 2_000_000 and last.text.startswith("step 1999999 loss")
        taken_bytes = peak_bytes(files.pid) - idle_bytes
        print(f"archiving took {taken_bytes / MIB:.0f} MiB")
        assert taken_bytes < 200 * MIB
