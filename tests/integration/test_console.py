"""What real processes print, and what their machine does, seen at the server: live, searched, after kills and without a server."""

from __future__ import annotations

import json
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
SCRIPT = """
import os, subprocess, sys
import runyard
run = runyard.init(project="console", id=sys.argv[1], config={"n": 1})
print("first \\x1b[31mred\\x1b[0m", flush=True)
print("a warning", file=sys.stderr, flush=True)
subprocess.run(["sh", "-c", "echo from a child"])
sys.stderr.write("\\r10%"); sys.stderr.flush()
sys.stdin.readline()
sys.stderr.write("\\r100%\\n"); sys.stderr.flush()
print("last, with", os.environ["SOME_TOKEN"], flush=True)
if sys.argv[2] == "killed":
    os.kill(os.getpid(), 9)
"""


@pytest.fixture(scope="module", params=SHAPES)
def yard(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Yard]:
    with Yard(tmp_path_factory.mktemp(f"yard-console-{request.param}"), request.param) as running:
        yield running


def begin(yard: Yard, folder: Path, run_id: str, end: str, **more: str) -> subprocess.Popen[str]:
    environment = yard.environment(
        folder / "runs", SOME_TOKEN="hunter2hunter2", RUNYARD_SYSTEM_INTERVAL_S="0.2", **more
    )
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, run_id, end],
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stop(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait(TIMEOUT_S)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def command(yard: Yard, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, "logs", "--base-url", yard.base_url, *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )


@pytest.mark.parametrize("end", ["finished", "killed"])
def test_lines_are_seen_live_and_to_the_last(yard: Yard, tmp_path: Path, end: str) -> None:
    """Lines are at the server while the script runs, a bar moves, and the last words of a killed process are there."""
    run_id = f"live-{end}-{yard.shape}"
    process = begin(yard, tmp_path, run_id, end)
    try:
        with runyard.Api(yard.base_url) as api:
            path = f"local/console/{run_id}"

            def texts() -> list[str]:
                try:
                    return sorted(line.text for line in api.run(path).logs())
                except runyard.Error:
                    return []

            live = sorted(["first \x1b[31mred\x1b[0m", "a warning", "from a child", "10%"])
            wait_until(lambda: texts() == live, 20, "the first lines")
            wait_until(
                lambda: len(api.run(path).system_metrics(["system/proc.cpu"])) >= 2,
                20,
                "samples of the machine",
            )
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.close()
            process.wait(TIMEOUT_S)
            state = {"finished": "finished", "killed": "crashed"}[end]
            wait_until(lambda: api.run(path).state == state, 30, f"the run to be {state}")
            assert (
                sorted(
                    [
                        *(text for text in live if text != "10%"),
                        "100%",
                        "last, with [redacted SOME_TOKEN]",
                    ]
                )
                == texts()
            )
            run = api.run(path)
            (line,) = run.logs(streams="stdout", tail=1)
            assert line.text.startswith("last")
            assert [line.text for line in run.logs("WARN", context=0)] == ["a warning"]
            assert run.receipt().is_gapless
            rows = run.system_metrics()
            assert max(row.get("system/proc.memory.rssMB", 0) for row in rows) > 5
            assert "system/proc.cpu" not in run.metrics
    finally:
        stop(process)


def test_the_command_shows_searches_and_follows(yard: Yard, tmp_path: Path) -> None:
    """`runyard logs` follows a run to its end, finds text with what is around it, and tells what it cannot read."""
    run_id = f"command-{yard.shape}"
    path = f"local/console/{run_id}"
    process = begin(yard, tmp_path, run_id, "finished")
    try:
        wait_until(lambda: "first" in command(yard, path).stdout, 20, "the first line")
        follower = subprocess.Popen(
            [PROGRAM, "logs", "--base-url", yard.base_url, "--follow", path],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert follower.stdout is not None
        assert follower.stdout.readline() == "first red\n"
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.close()
        process.wait(TIMEOUT_S)
        rest, _ = follower.communicate(timeout=TIMEOUT_S)
        assert follower.returncode == 0
        assert "last, with [redacted SOME_TOKEN]\n" in rest
    finally:
        stop(process)
    found = command(yard, path, "--regex", "^first", "--json")
    line = json.loads(found.stdout)
    assert (line["line"], line["stream"], line["writer"]) == (1, "stdout", 1)
    wrong = command(yard, path, "--regex", "(")
    assert wrong.returncode == 1 and "regular expression" in wrong.stderr
    assert command(yard, "local/console/absent").returncode == 1


def test_offline_lines_are_synced_once(yard: Yard, tmp_path: Path) -> None:
    """What was printed offline is there after a sync, once, also after a second one."""
    run_id = f"offline-{yard.shape}"
    process = begin(yard, tmp_path, run_id, "finished", RUNYARD_MODE="offline")
    process.communicate("go\n", timeout=TIMEOUT_S)
    for _ in range(2):
        synced = subprocess.run(
            [PROGRAM, "sync", tmp_path / "runs"],
            env=yard.environment(tmp_path / "runs"),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        assert synced.returncode == 0, synced.stdout + synced.stderr
        with runyard.Api(yard.base_url) as api:
            lines = list(api.run(f"local/console/{run_id}").logs())
        assert sorted(line.line for line in lines) == [1, 2, 3, 4, 5]
    assert not list((tmp_path / "runs").glob("run-*/console/*.seg"))
