"""A disk that is full or read-only under the journal: one warning, and training goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.yard import Yard
from tests.robustness.traffic import kill_agent

SCRIPT = """
import runyard
run = runyard.init(entity="robust", project="disk", id="fulldisk")
for step in range(20000):
    run.log({f"metric{n}": step * 0.5 for n in range(50)})
print("trained to the end")
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
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("a small file system needs root and mount")
    command = [mount, "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, timeout=10)
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], timeout=10, check=True)


def test_a_full_disk_stops_no_training(small_disk: Path, tmp_path: Path) -> None:
    """When the disk fills up, the script says so once, goes on, and ends well."""
    # Nobody listens there: nothing is sent, so nothing is freed.
    environment = Yard(tmp_path / "yard").environment(
        small_disk / "runyard", RUNYARD_MODE="offline"
    )
    done = run_script(environment, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "trained to the end" in done.stdout
    told = [line for line in done.stderr.splitlines() if "No space left" in line]
    assert len(told) == 1, done.stderr


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
