"""Where a run came from, seen through the Api and the command line: a dirty repository, packages, source; and none of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import runyard
from tests.integration import scripts
from tests.integration.yard import ORIGIN_OFF, Yard

PROGRAM = Path(sys.executable).parent / "runyard"
GIT_TIMEOUT_S = 30
ORIGIN_ON = dict.fromkeys(ORIGIN_OFF, "1")

# Trains until the process beside it is done, as nearly every script does.
TRAIN = """
import pathlib, time, runyard
run = runyard.init(entity="nico", project="origins")
origin = pathlib.Path(run.dir).with_name("origin.json")
end_s = time.monotonic() + 60
while not origin.exists() and time.monotonic() < end_s:
    run.log({"loss": 1.0})
    time.sleep(0.05)
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository whose script was changed since its commit."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "train.py").write_text("# as committed\n")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "remote", "add", "origin", "https://me:geheim@git.example/o/r.git")
    git(folder, "add", ".")
    git(folder, "-c", "user.name=n", "-c", "user.email=e@f", "commit", "-q", "-m", "first")
    return folder


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, check=True, capture_output=True, text=True, timeout=GIT_TIMEOUT_S
    )  # fmt: skip
    return done.stdout.strip()


def train(yard: Yard, repository: Path, run_id: str, **more: str) -> str:
    """Runs the script to its end and returns the run's path."""
    journals = repository / "runyard"
    environment = yard.environment(journals, RUNYARD_RUN_ID=run_id, **more)
    code, output = scripts.run(TRAIN, repository, environment)
    assert code == 0, output
    return f"nico/origins/{run_id}"


def read(yard: Yard, path: str, folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns the run's metadata, and its files' texts by name."""
    with runyard.Api(yard.base_url) as api:
        run = api.run(path)
        texts = {}
        for file in run.files():
            file.download(str(folder), replace=True)
            texts[file.name] = (folder / file.name).read_text()
        return run.metadata, texts


def test_a_dirty_repository(yard: Yard, repository: Path, tmp_path: Path) -> None:
    """Commit, branch, remote, changes, source, packages and environment are in the metadata, files can be read, and a list has them too."""
    more = {**ORIGIN_ON, "OMP_NUM_THREADS": "3", "CUDA_API_KEY": "geheimgeheim"}
    path = train(yard, repository, f"dirty-{yard.shape}", **more)
    metadata, files = read(yard, path, tmp_path / "files")
    found = metadata["git"]
    assert (found["branch"], found["remote"]) == ("main", "https://git.example/o/r.git")
    assert (found["commit"], found["is_dirty"]) == (git(repository, "rev-parse", "HEAD"), True)
    assert found["diff"]["file"] == "diff.patch" and "-# as committed" in files["diff.patch"]
    assert metadata["source"]["file"] == "source/train.py" and files["source/train.py"] == TRAIN
    requirements = files["requirements.txt"].splitlines()
    assert any(line.startswith("protobuf==") for line in requirements)
    assert metadata["requirements"]["count"] > 10
    assert metadata["program"].endswith("train.py") and metadata["machine"]["memory_bytes"] > 0
    assert metadata["environment"]["OMP_NUM_THREADS"] == "3"
    assert "CUDA_API_KEY" not in metadata["environment"] and "geheim" not in json.dumps(metadata)
    with runyard.Api(yard.base_url) as api:
        (listed,) = (run for run in api.runs("nico/origins") if run.path == path)
        assert listed.record.host["hostname"] and "git" not in listed.record.host
        assert listed.metadata == metadata
    shown = subprocess.run(
        [PROGRAM, "runs", "show", path], env=yard.environment(tmp_path), cwd=tmp_path,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert f"main at {found['commit'][:10]}, 1 file changed (diff.patch)" in shown.stdout


def test_switched_off(yard: Yard, repository: Path, tmp_path: Path) -> None:
    """With every part switched off nothing of it is told, no file is made, and the run is whole all the same."""
    off = {**ORIGIN_OFF, "RUNYARD_SAVE_COMMAND": "0", "RUNYARD_SAVE_ENVIRONMENT": "0"}
    run_id = f"off-{yard.shape}"
    environment = yard.environment(repository / "runyard", RUNYARD_RUN_ID=run_id, **off)
    code, output = scripts.run(
        TRAIN.replace("+ 60", "+ 0"), repository, {**environment, "CUDA_VISIBLE_DEVICES": ""}
    )
    assert code == 0, output
    metadata, files = read(yard, f"nico/origins/{run_id}", tmp_path / "files")
    assert files == {}
    assert set(metadata) <= {
        "hostname", "username", "os", "python_version", "python_executable", "working_directory", "pid", "client_version",
    }  # fmt: skip


def test_a_resumed_run(yard: Yard, repository: Path, tmp_path: Path) -> None:
    """A resumed run tells where its latest attempt came from."""
    run_id = f"again-{yard.shape}"
    path = train(yard, repository, run_id, **ORIGIN_ON, OMP_NUM_THREADS="1")
    first, _ = read(yard, path, tmp_path / "files")
    git(
        repository,
        "-c",
        "user.name=n",
        "-c",
        "user.email=e@f",
        "commit",
        "-q",
        "-a",
        "-m",
        "second",
    )
    train(yard, repository, run_id, **ORIGIN_ON, OMP_NUM_THREADS="2")
    second, files = read(yard, path, tmp_path / "files")
    assert first["git"]["commit"] != second["git"]["commit"] == git(repository, "rev-parse", "HEAD")
    assert (first["git"]["is_dirty"], second["git"]["is_dirty"]) == (True, False)
    assert "diff" not in second["git"] and second["environment"]["OMP_NUM_THREADS"] == "2"
    assert "source/train.py" in files


def test_offline_then_sync(yard: Yard, repository: Path, tmp_path: Path) -> None:
    """An offline run has found out where it came from by itself, and `runyard sync` sends it with the files."""
    run_id = f"later-{yard.shape}"
    path = train(yard, repository, run_id, **ORIGIN_ON, RUNYARD_MODE="offline")
    synced = subprocess.run(
        [PROGRAM, "sync", repository / "runyard"], env=yard.environment(tmp_path), cwd=tmp_path,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=90,
    )  # fmt: skip
    assert synced.returncode == 0, synced.stdout + synced.stderr
    metadata, files = read(yard, path, tmp_path / "files")
    assert set(files) == {"diff.patch", "requirements.txt", "source/train.py"}
    assert metadata["git"]["is_dirty"]
