"""The store of the services is gone, slow, stalled, or gone after it had accepted: writers wait, nothing is lost or doubled."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.integration.readback import readback, wait_until
from tests.robustness.behind import Behind
from tests.robustness.faults import Link
from tests.robustness.traffic import Trainer, kill_agent
from tests.robustness.validate import check_run

ROWS, PAUSE_S = 500, 0.004
FAULT_S = 1.0
DEADLINE_S = 120.0
FAULTS = {
    "gone": Link(is_refusing=True),
    "slow": Link(delay_s=0.1),
    "stalled": Link(is_stalled=True),
    "gone after it had accepted": Link(is_deaf=True),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_store_that_is_away_loses_nothing(name: str, behind: Behind, tmp_path: Path) -> None:
    """While the store is away the script goes on; when it is back all becomes durable, once."""
    root = tmp_path / "runyard"
    trainer = Trainer.start(
        "store-" + name.replace(" ", "-"),
        tmp_path,
        behind.yard.environment(root),
        rows=ROWS,
        pause_s=PAUSE_S,
    )
    try:
        trainer.wait_for_rows(ROWS // 5)
        before = behind.store.struck
        behind.store.set(FAULTS[name])
        if FAULTS[name].is_refusing:
            behind.store.cut()
        wait_until(lambda: behind.store.struck > before, DEADLINE_S, "the fault to meet something")
        logged = trainer.rows_logged()
        time.sleep(FAULT_S)
        wait_until(lambda: trainer.rows_logged() > logged, DEADLINE_S, "the script to go on")
        behind.store.set()
        assert trainer.process.wait(DEADLINE_S) == 0, trainer.log()
        with readback(behind.yard.grpc) as reader:
            reader.wait_for_state(trainer.path, "FINISHED", timeout_s=DEADLINE_S)
            assert check_run(reader, trainer) == ROWS
    finally:
        behind.store.set()
        trainer.stop()
        kill_agent(root)
