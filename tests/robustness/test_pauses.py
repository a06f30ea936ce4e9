"""Processes that stand still for a while (SIGSTOP, a laptop that sleeps, a machine that swaps) and go on."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.integration.readback import readback
from tests.robustness.far import FarYard
from tests.robustness.traffic import Trainer, agent_pid, kill_agent
from tests.robustness.validate import check_run

ROWS, PAUSE_S = 500, 0.004
PAUSE_TIME_S = 1.5
DEADLINE_S = 120.0


def pid_of(what: str, trainer: Trainer, root: Path, far: FarYard) -> int:
    """Returns the process to be stopped; waits for an agent."""
    if what == "trainer":
        return trainer.process.pid
    if what == "server":
        process = far.yard.parts["server"].process
        assert process is not None
        return process.pid
    deadline = time.monotonic() + DEADLINE_S
    while (pid := agent_pid(root)) is None:
        assert time.monotonic() < deadline, "no agent came up"
        time.sleep(0.05)
    return pid


@pytest.mark.parametrize("what", ["trainer", "agent", "server"])
def test_a_process_that_stands_still_loses_nothing(what: str, far: FarYard, tmp_path: Path) -> None:
    """Stopped and continued in the middle of the load: the run finishes, and all is readable, once."""
    root = tmp_path / "runyard"
    trainer = Trainer.start(
        f"pause-{what}", tmp_path, far.environment(root), rows=ROWS, pause_s=PAUSE_S
    )
    try:
        trainer.wait_for_rows(ROWS // 4)
        pid = pid_of(what, trainer, root, far)
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(PAUSE_TIME_S)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert trainer.process.wait(DEADLINE_S) == 0, trainer.log()
        with readback(far.yard.grpc) as reader:
            reader.wait_for_state(trainer.path, "FINISHED", timeout_s=DEADLINE_S)
            assert check_run(reader, trainer) == ROWS
    finally:
        trainer.stop()
        kill_agent(root)
