"""Logs in archives, through real processes and object stores: archived after the end, dropped from ClickHouse, read all the same."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import runyard
from tests.integration.readback import wait_until
from tests.integration.yard import SHAPES, Yard

PROGRAM = Path(sys.executable).parent / "runyard"
TIMEOUT_S = 60
SETTINGS = (
    "console.keep_days=0.000001",
    "console.archive_delay=200ms",
    "console.poll_interval=300ms",
    "console.live_recheck=500ms",
    "console.retry_pause=1s",
    "console.lease=3s",
)
SCRIPT = """
import sys, runyard
run = runyard.init(project="archives", id=sys.argv[1], resume="allow")
for number in range(int(sys.argv[2])):
    print(f"step {number} \\x1b[3{number % 8}ml\\x1b[0moss {number * 7919 % 1000}")
print("an error", file=sys.stderr)
run.finish()
"""


@pytest.fixture(scope="module", params=SHAPES)
def yard(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Yard]:
    folder = tmp_path_factory.mktemp(f"yard-archives-{request.param}")
    with Yard(folder, request.param, settings=SETTINGS) as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    with Yard(tmp_path_factory.mktemp("yard-archives-one"), settings=SETTINGS) as running:
        yield running


def train(yard: Yard, folder: Path, run_id: str, count: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, run_id, str(count)],
        cwd=folder,
        env=yard.environment(folder / "runs"),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr


def logs_state(yard: Yard) -> tuple[int, int]:
    """Returns the latest block seen of any run, and of how many runs lines are still in ClickHouse."""
    (name,) = [one for one in ("server", "files") if one in yard.parts]
    file = yard.folder / name / "runyard.sqlite"
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        row = database.execute(
            "SELECT coalesce(max(seen_block), 0), coalesce(sum(dropped_block < seen_block), 0) FROM console_logs"
        ).fetchone()
    return int(row[0]), int(row[1])


def await_drop(yard: Yard, since: tuple[int, int]) -> None:
    """Returns when lines that came after `since` are in archives only."""

    def is_done() -> bool:
        seen, waiting = logs_state(yard)
        return seen > since[0] and waiting == 0

    wait_until(is_done, 60, "the lines to be dropped")


def command(yard: Yard, *arguments: str) -> str:
    done = subprocess.run(
        [PROGRAM, "logs", "--base-url", yard.base_url, *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_dropped_log_is_read_as_ever(yard: Yard, tmp_path: Path) -> None:
    """A log whose lines left ClickHouse is paged, searched, counted; a resumed run's lines join it; the run's files show nothing of it."""
    run_id = f"r-{yard.shape}"
    path = f"local/archives/{run_id}"
    before = logs_state(yard)
    train(yard, tmp_path, run_id, 3_000)
    await_drop(yard, before)
    with runyard.Api(yard.base_url) as api:
        run = api.run(path)

        def check(times: int) -> None:
            lines = [line.text for line in run.logs()]
            assert len(lines) == times * 3_001
            assert [line.text for line in run.logs("Loss 999")] == [
                text for text in lines if text.endswith("oss 999")
            ]
            assert len(list(run.logs(regex=r"^step \d+ loss 1\d\d$"))) == times * 300
            assert [line.text for line in run.logs("an error", streams="stderr")] == [
                "an error"
            ] * times
            (last,) = run.logs(streams="stdout", tail=1)
            assert last.text.startswith("step 2999 ")
            near = list(run.logs("step 1500 ", context=2))
            assert len(near) == times * 5
            file = run.download_logs(tmp_path / "whole.log", labels=times > 1)
            assert len(file.read_text().splitlines()) == len(lines)
            assert "\x1b" not in file.read_text()
            counted = yard.call("query.v1.QueryService/GetConsole", {"runPath": path})
            assert [one["linesDurable"] for one in counted["writers"]] == ["3001"] * times

        check(1)
        assert list(run.files()) == []
        before = logs_state(yard)
        train(yard, tmp_path, run_id, 3_000)
        check(2)
        await_drop(yard, before)
        check(2)
    assert "step 2999 loss" in command(yard, path, "--tail", "1", "--stream", "stdout")
    assert len(command(yard, path).splitlines()) == 6_002
    command(yard, path, "-o", str(tmp_path / "own.log"), "--plain", "--stream", "stderr")
    assert (tmp_path / "own.log").read_text() == "main: an error\nmain: an error\n"
    absent = subprocess.run(
        [PROGRAM, "logs", "--base-url", yard.base_url, "local/archives/none", "-o", "none.log"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert absent.returncode == 1 and "none" in absent.stderr
    assert not (tmp_path / "none.log").exists()


def test_a_kill_while_archiving_loses_nothing(server: Yard, tmp_path: Path) -> None:
    """The server is killed again and again while it archives and drops; in the end the log is whole, and in archives."""
    run_id = "killed"
    before = logs_state(server)
    train(server, tmp_path, run_id, 20_000)
    for _ in range(3):
        server.kill()
        server.start()
    await_drop(server, before)
    with runyard.Api(server.base_url) as api:
        lines = list(api.run(f"local/archives/{run_id}").logs())
    assert sorted(line.line for line in lines) == list(range(1, 20_002))


def test_a_purge_removes_the_archive(server: Yard, tmp_path: Path) -> None:
    """A deleted run's archive goes with it, and is counted in the receipt."""
    run_id = "purged"
    path = f"local/archives/{run_id}"
    before = logs_state(server)
    train(server, tmp_path, run_id, 10)
    await_drop(server, before)
    with runyard.Api(server.base_url) as api:
        api.delete_runs([path], now=True)

        def objects() -> int:
            found = api.deleted_runs("local/archives", with_purged=True)
            (one,) = [one for one in found if one.path == path]
            return sum(store.objects for store in one.stores) if one.is_purged else -1

        wait_until(lambda: objects() >= 0, 90, "the purge")
        assert objects() == 1
