"""A network between agent and server that cuts, delays, stalls, halves or swallows: nothing is lost, nothing doubled."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pytest

from tests.integration.readback import readback, wait_until
from tests.robustness.far import FAULTS, FarYard
from tests.robustness.traffic import Trainer, kill_agent
from tests.robustness.validate import check_run

ROWS, PAUSE_S = 500, 0.004
STRIKES = 2
FAULT_S = 0.7
DEADLINE_S = 120.0


@pytest.mark.parametrize("name", FAULTS)
def test_a_bad_network_loses_nothing(name: str, far: FarYard, tmp_path: Path) -> None:
    """The fault strikes while the script logs, and again; after it, all is readable, once, and the run finished."""
    root = tmp_path / "runyard"
    trainer = Trainer.start(
        name.replace(" ", "-"), tmp_path, far.environment(root), rows=ROWS, pause_s=PAUSE_S
    )
    try:
        for strike in range(1, STRIKES + 1):
            trainer.wait_for_rows(ROWS * strike // (STRIKES + 2))
            before = far.struck
            far.strike(name)
            wait_until(partial(far.has_struck, before), DEADLINE_S, "the fault to meet something")
            time.sleep(FAULT_S)
            far.heal()
        assert trainer.process.wait(DEADLINE_S) == 0, trainer.log()
        with readback(far.yard.grpc) as reader:
            reader.wait_for_state(trainer.path, "FINISHED", timeout_s=DEADLINE_S)
            assert check_run(reader, trainer) == ROWS
    finally:
        far.heal()
        trainer.stop()
        kill_agent(root)
