"""Deletion from the command line to the disk, with real processes: the trash, the receipt, and what the folders say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import runyard
from runyard.errors import FailedPrecondition
from tests.integration import scripts
from tests.integration.readback import readback, wait_until
from tests.integration.yard import CallError, Yard

PROGRAM = Path(sys.executable).parent / "runyard"
FILE_BYTES = 4 << 20
ROWS, METRICS = 400, 500
MEASURED_ROWS = 4000
"""So many that the tolerance is small beside what they take."""
PURGE_TIMEOUT_S = 300.0
BODY = f"""
import os, random, sys
import runyard
run = runyard.init(entity="nico", project=sys.argv[1], id=sys.argv[2])
chance = random.Random(sys.argv[2])
names = [f"m{{i}}" for i in range({METRICS})]
for step in range(int(sys.argv[3])):
    run.log({{name: chance.random() for name in names}})
with open("model.bin", "wb") as file:
    file.write(os.urandom({FILE_BYTES}))
run.save("model.bin")
"""


def train(yard: Yard, folder: Path, project: str, run_id: str, rows: int = ROWS) -> str:
    """Logs a run with points and a file; returns its path."""
    folder.mkdir(exist_ok=True)
    script = folder / f"{run_id}.py"
    script.write_text(BODY)
    done = subprocess.run(
        [sys.executable, script, project, run_id, str(rows)],
        env=yard.environment(folder / "runyard"),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return f"nico/{project}/{run_id}"


def cli(yard: Yard, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `runyard` as a person without a terminal would."""
    return subprocess.run(
        [PROGRAM, *arguments],
        env=yard.environment(folder / "runyard"),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def trash(yard: Yard, folder: Path, project: str) -> dict[str, dict[str, Any]]:
    """Returns what `runyard trash --purged --json` says, by path."""
    told = cli(yard, folder, "trash", f"nico/{project}", "--purged", "--json")
    assert told.returncode == 0, told.stderr
    return {run["path"]: run for run in json.loads(told.stdout)}


def await_purged(yard: Yard, folder: Path, project: str, *paths: str) -> list[dict[str, Any]]:
    """Returns the receipts once the runs are purged."""

    def are_purged() -> bool:
        found = trash(yard, folder, project)
        return all(found[path]["is_purged"] for path in paths)

    wait_until(are_purged, PURGE_TIMEOUT_S, f"{paths} to be purged")
    found = trash(yard, folder, project)
    return [found[path] for path in paths]


def is_at_most(folder: Path, limit: int) -> bool:
    """Returns whether the folder takes no more of the disk than that."""
    return disk_bytes(folder) <= limit


def disk_bytes(folder: Path) -> int:
    """Returns what a folder takes on the disk."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += Path(parent, name).lstat().st_blocks * 512
            except FileNotFoundError:
                continue
    return total


def by_store(receipt: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns the receipt's stores by name."""
    return {one["store"]: one for one in receipt["stores"]}


def test_the_trash_and_back(yard: Yard, tmp_path: Path) -> None:
    """Asks first, deletes by pattern, hides at once, gives back bit-equal, and an id that was purged stays taken."""
    project = f"trash-{yard.shape}"
    keep, drop = (train(yard, tmp_path, project, run_id) for run_id in ("keep-1", "drop-1"))
    unasked = cli(yard, tmp_path, "runs", "delete", f"nico/{project}", "--match", "^drop")
    assert unasked.returncode == 1 and "--yes" in unasked.stderr
    with readback(yard.grpc) as reader:
        wait_until(
            lambda: (
                {run.id for run in runyard.Api(yard.base_url).runs(f"nico/{project}")}
                == {"keep-1", "drop-1"}
            ),
            20,
            "both in the list",
        )
        before = {path: reader.history(path) for path in (keep, drop)}
        deleted = cli(
            yard, tmp_path, "runs", "delete", f"nico/{project}", "--match", "^drop", "--yes"
        )
        assert deleted.returncode == 0 and f"{drop}: in the trash until" in deleted.stdout
        assert [path.name for path in (tmp_path / "runyard").glob("run-*drop-1")] == []
        assert len(list((tmp_path / "runyard").glob("run-*keep-1"))) == 1
        with pytest.raises(CallError, match="deleted"):
            yard.call("metadata.v1.MetadataService/GetRun", {"path": drop})
        with runyard.Api(yard.base_url) as api:
            wait_until(
                lambda: [run.id for run in api.runs(f"nico/{project}")] == ["keep-1"],
                5,
                "one listed",
            )
            assert [run.path for run in api.deleted_runs(f"nico/{project}")] == [drop]
            assert api.restore(drop).state == "finished"
            assert reader.history(drop) == before[drop]
            assert api.run(drop).file("model.bin").size == FILE_BYTES
            api.run(drop).delete(now=True)
            await_purged(yard, tmp_path, project, drop)
            with pytest.raises(FailedPrecondition, match="purged"):
                api.restore(drop)
        code, output = scripts.run(
            f"import runyard\nrunyard.init(entity='nico', project={project!r}, id='drop-1')",
            tmp_path,
            yard.environment(tmp_path / "again"),
        )
        assert code != 0 and "deleted" in output
        assert reader.history(keep) == before[keep]
    assert runyard.Api(yard.base_url).run(keep).file("model.bin").size == FILE_BYTES


def test_the_receipt_is_what_the_folders_say(tmp_path: Path) -> None:
    """Rows and objects exactly, bytes by the folders before the run, with it, and after it; the neighbour stays bit-equal.

    A folder also holds parts that were merged before the deletion, so it may shrink by more than the receipt says; that
    is held from above by what random numbers must take. Tolerance: 15 % and 2 MiB, for logs of the stores' own.
    """
    with Yard(tmp_path / "yard") as yard, readback(yard.grpc) as reader:
        folder = tmp_path / "training"
        keep = train(yard, folder, "measure", "keep")
        data = tmp_path / "yard/server"
        empty = {name: disk_bytes(data / name) for name in ("clickhouse", "s3")}
        drop = train(yard, folder, "measure", "drop", MEASURED_ROWS)
        for path in (keep, drop):
            reader.wait_for_state(path, "FINISHED", timeout_s=30)
        points = MEASURED_ROWS * METRICS
        assert points == sum(one.points_accepted for one in reader.receipt(drop).writers)
        before = reader.history(keep)
        sizes = {name: disk_bytes(data / name) for name in ("clickhouse", "s3")}
        assert cli(yard, folder, "runs", "delete", drop, "--now", "--yes").returncode == 0
        (receipt,) = await_purged(yard, folder, "measure", drop)
        stores = by_store(receipt)
        assert stores["objects"]["objects"] == 1
        assert FILE_BYTES <= stores["objects"]["bytes"] < FILE_BYTES + 4096
        assert stores["clickhouse"]["rows"] >= points
        # random() gives 53 random bits, which nothing can compress; eight bytes and a quarter more hold it.
        assert 53 / 8 * points < stores["clickhouse"]["bytes"] < 1.25 * 8 * points
        assert stores["sql"]["rows"] >= 3

        for name, store in (("s3", "objects"), ("clickhouse", "clickhouse")):
            told = stores[store]["bytes"]
            slack = int(0.15 * told) + (2 << 20)
            limit = min(empty[name] + slack, sizes[name] - told + slack)
            wait_until(
                partial(is_at_most, data / name, limit),
                PURGE_TIMEOUT_S,
                f"{name} to shrink from {sizes[name]} to {limit}; the receipt says {told}",
            )
            after = disk_bytes(data / name)
            print(f"{name}: {empty[name]}, {sizes[name]}, {after}; receipt {told}")
        assert reader.history(keep) == before
