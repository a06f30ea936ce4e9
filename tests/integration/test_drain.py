"""SIGTERM under load: what was taken is stored, the process ends with 0 in time, and a restart goes on where it was."""

from __future__ import annotations

import time
from pathlib import Path

from tests.integration.readback import readback, wait_until
from tests.integration.yard import Yard
from tests.robustness.traffic import Trainer, kill_agent
from tests.robustness.validate import check_run

ROWS = 800
STOP_LIMIT_S = 25.0


def test_a_stop_under_load_loses_nothing(tmp_path: Path) -> None:
    """The server drains and ends with code 0 while a script logs; after a restart every row is there, once."""
    folder = tmp_path / "load"
    folder.mkdir()
    root = folder / "runyard"
    with Yard(tmp_path / "yard") as yard:
        trainer = Trainer.start("drained", folder, yard.environment(root), rows=ROWS, pause_s=0.005)
        try:
            with readback(yard.grpc) as reader:
                wait_until(lambda: bool(reader.metrics(trainer.path)), 20, "the first points")
            began = time.monotonic()
            assert yard.stop() == {"server": 0}
            assert time.monotonic() - began < STOP_LIMIT_S
            yard.start()
            assert trainer.process.wait(90) == 0, (folder / "drained.log").read_text()
            with readback(yard.grpc) as reader:
                reader.wait_for_state(trainer.path, "FINISHED", timeout_s=20)
                assert check_run(reader, trainer) == ROWS
        finally:
            trainer.stop()
            kill_agent(root)
