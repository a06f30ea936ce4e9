"""Files that are cut off on their way: by kill -9 of the agent and of the server, by a full disk; what has arrived is not sent again."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import runyard
from runyard.agent.content_upload import PART_BYTES
from tests.integration import scripts
from tests.integration.readback import readback, wait_until
from tests.integration.yard import Yard
from tests.robustness.small_disks import small_disk
from tests.robustness.traffic import kill_agent

FILE_BYTES = 24 * PART_BYTES + 7
DEADLINE_S = 120.0
SAVE = """
import runyard
run = runyard.init(entity="robust", project="files", settings={"finish_timeout_s": 90.0})
run.save("big.bin", policy="end")
run.finish()
"""


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    with Yard(tmp_path_factory.mktemp("yard")) as yard:
        yield yard


@pytest.fixture
def big(tmp_path: Path) -> Path:
    path = tmp_path / "big.bin"
    path.write_bytes(random.Random(7).randbytes(FILE_BYTES))
    return path


def start(yard: Yard, folder: Path, run_id: str) -> subprocess.Popen[str]:
    environment = yard.environment(folder / "runyard", RUNYARD_RUN_ID=run_id)
    return subprocess.Popen(
        [sys.executable, "-c", SAVE],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def bytes_done(folder: Path) -> int:
    """Returns how much of the run's file has been sent, as the mark says."""
    for path in (folder / "runyard").glob("run-*/mark.json"):
        try:
            fields: dict[str, Any] = json.loads(path.read_text())
        except ValueError:
            continue
        return int(fields.get("file_bytes_done") or 0)
    return 0


def wait_until_halfway(folder: Path) -> None:
    wait_until(lambda: bytes_done(folder) >= FILE_BYTES // 4, DEADLINE_S, "the upload to begin")
    assert bytes_done(folder) < FILE_BYTES, "it was over before it could be cut off"


def continued(yard: Yard) -> float:
    """Returns how many uploads went on where an earlier try ended."""
    wanted = 'runyard_uploads_total{result="continued"}'
    with urllib.request.urlopen(f"{yard.base_url}/metrics", timeout=30) as reply:
        lines = reply.read().decode().splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith(wanted))


def check(yard: Yard, run_id: str, big: Path) -> None:
    path = f"robust/files/{run_id}"
    with readback(yard.grpc) as reader:
        reader.wait_for_state(path, "FINISHED", timeout_s=DEADLINE_S)
    file = runyard.Api(yard.base_url).run(path).file("big.bin")
    assert file.download(big.parent / "back").read_bytes() == big.read_bytes()


def test_a_killed_agent_is_followed_by_one_that_goes_on(
    yard: Yard, big: Path, tmp_path: Path
) -> None:
    """Kill -9 in the middle of a large file: the next agent sends the parts that are missing, and the run ends."""
    before = continued(yard)
    process = start(yard, tmp_path, "agentkill")
    wait_until_halfway(tmp_path)
    assert kill_agent(tmp_path / "runyard")
    output, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, output
    check(yard, "agentkill", big)
    assert continued(yard) > before, "it began from the start"


def test_a_killed_machine_is_followed_by_sync(yard: Yard, big: Path, tmp_path: Path) -> None:
    """Kill -9 of script and agent together, as when the power goes: `runyard sync` sends the rest."""
    before = continued(yard)
    process = start(yard, tmp_path, "machinekill")
    wait_until_halfway(tmp_path)
    process.kill()
    assert kill_agent(tmp_path / "runyard")
    process.communicate(timeout=10)
    done = subprocess.run(
        [sys.executable, "-m", "runyard", "sync", str(tmp_path / "runyard")],
        env=yard.environment(tmp_path / "runyard"),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    file = runyard.Api(yard.base_url).run("robust/files/machinekill").file("big.bin")
    assert file.download(tmp_path / "back").read_bytes() == big.read_bytes()
    assert continued(yard) > before, "it began from the start"


def test_a_killed_server_takes_the_rest_when_it_is_back(big: Path, tmp_path: Path) -> None:
    """Kill -9 of the server and its object store: nothing that had arrived is sent again, and finish() waits."""
    with Yard(tmp_path / "yard") as yard:
        process = start(yard, tmp_path, "serverkill")
        wait_until_halfway(tmp_path)
        yard.kill()
        yard.start()
        output, _ = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0, output
        check(yard, "serverkill", big)
        assert continued(yard) > 0, "it began from the start"


FULL = """
import os, runyard
run = runyard.init(entity="robust", project="files", id="fulldisk")
run.save("big.bin", policy="now")
run.save("small.txt", policy="now")
assert os.listdir(run.dir) == ["small.txt"], os.listdir(run.dir)
"""


def test_a_full_disk_costs_the_copy_only(yard: Yard, big: Path, tmp_path: Path) -> None:
    """A copy for which there is no room is warned of and leaves nothing half; other files and the run are as usual."""
    (tmp_path / "small.txt").write_text("small")
    with small_disk(tmp_path / "disk", FILE_BYTES // 2) as disk:
        code, output = scripts.run(FULL, tmp_path, yard.environment(disk / "runyard"))
        assert code == 0, output
        assert "cannot be read or copied" in output
        assert "No space left" in output
    names = [file.name for file in runyard.Api(yard.base_url).run("robust/files/fulldisk").files()]
    assert "small.txt" in names
    assert "big.bin" not in names
