"""The command line and Python tell how far each writer of a live run is, and say so when the monitor cannot be asked."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

import runyard
from tests.integration.readback import wait_until
from tests.integration.test_writers import await_word, finish, start
from tests.integration.yard import BIN, Yard

PATH = "nico/lags/many"
RANKS = 3
STEPS = 500
RANK = f"""
import os, runyard
rank = int(os.environ["RANK"])
run = runyard.init(entity="nico", project="lags", id="many")
for step in range({STEPS} if rank else 20):
    run.log({{"loss": 1.0}})
print("up", flush=True)
input()
"""


def cli(yard: Yard, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs `runyard …`."""
    return subprocess.run(
        [BIN / "runyard", *words], env=yard.environment(Path("/nowhere")), capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip


def test_writers_that_lag_and_a_monitor_that_is_away(tmp_path: Path) -> None:
    """Step, lag and heartbeat of each rank as the monitor has them; without it the rest, and a word about it."""
    with Yard(tmp_path / "yard", "apart") as yard, runyard.Api(yard.base_url) as api:
        ranks = [
            start(yard, tmp_path, RANK, RANK=str(rank), WORLD_SIZE=str(RANKS), RUNYARD_SHARED="1")
            for rank in range(RANKS)
        ]
        for process in ranks:
            await_word(process, "up")
        assert cli(yard, "projects", "settings", "nico/lags", "--straggler-steps", "50").returncode == 0  # fmt: skip
        run = api.run(PATH)

        def is_known() -> bool:
            told = run.liveness()
            steps = sorted(one.last_step or 0 for one in told.writers)
            lagging = sum(one.is_straggler for one in told.writers)
            return (steps, lagging, told.straggler_steps) == ([19, STEPS - 1, STEPS - 1], 1, 50)

        wait_until(is_known, 60, "the beats of all ranks")
        table = cli(yard, "runs", "writers", PATH).stdout.splitlines()
        assert table[0].split() == [
            "LABEL", "ATTEMPT", "STATE", "EXIT", "STEP", "BEHIND", "HEARTBEAT", "NODE", "PID", "GPUS", "START", "END",
        ]  # fmt: skip
        lines = {line.split()[0]: " ".join(line.split()[1:]) for line in table[1:-1]}
        assert lines["rank0"].startswith(f"1 running 19 {STEPS - 20}, lagging "), lines
        assert (
            lines["rank1"].startswith(f"1 running {STEPS - 1} 0 ") and " s ago " in lines["rank1"]
        )
        assert table[-1] == f"median step {STEPS - 1}; lagging from 50 steps behind"
        told = json.loads(cli(yard, "runs", "writers", PATH, "--json").stdout)
        lags = {one["label"]: one["liveness"]["steps_behind"] for one in told}
        assert lags == {"rank0": STEPS - 20, "rank1": 0, "rank2": 0}
        assert all(one["liveness"]["is_process_alive"] for one in told)

        yard.kill("monitor")
        done = cli(yard, "runs", "writers", PATH)
        assert done.returncode == 0 and "steps and heartbeats are not known now" in done.stderr, (
            done
        )
        assert len(done.stdout.splitlines()) == 1 + RANKS and " running " in done.stdout, done
        told = json.loads(cli(yard, "runs", "writers", PATH, "--json").stdout)
        assert [one["liveness"] for one in told] == [None] * RANKS
        with pytest.raises(runyard.errors.Unavailable):
            run.liveness()
        yard.start()
        for process in ranks:
            finish(process)
        done = cli(yard, "runs", "writers", PATH)
        assert done.stdout.count("finished") == RANKS and not done.stderr, done
