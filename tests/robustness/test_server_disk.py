"""The server's disk is full: nothing is acknowledged that is not kept, the server says why, and all arrives once there is room."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.integration.readback import readback
from tests.integration.yard import Yard, YardError
from tests.robustness.small_disks import fill, free, small_disk
from tests.robustness.traffic import Trainer, kill_agent
from tests.robustness.validate import check_run

DISK_BYTES = 256 << 20
ROWS, PAUSE_S = 9_000, 0.005
TIMEOUT_S = 180


def test_a_full_disk_of_the_server_loses_nothing(tmp_path: Path) -> None:
    """It fills under live runs and one that begins; the server, killed, cannot start; with room again all is there, once."""
    root = tmp_path / "runyard"
    with small_disk(tmp_path / "small", DISK_BYTES) as disk:
        yard = Yard(tmp_path / "yard")
        # Its data alone lies on the small disk, and not its log.
        (tmp_path / "yard" / "server").symlink_to(disk)
        environment = yard.environment(root, RUNYARD_FINISH_TIMEOUT_S=str(TIMEOUT_S))
        trainers: list[Trainer] = []

        def start(run_id: str) -> Trainer:
            trainers.append(
                Trainer.start(run_id, tmp_path, environment, rows=ROWS, pause_s=PAUSE_S)
            )
            return trainers[-1]

        try:
            with yard, readback(yard.grpc) as reader:
                for run_id in ("before0", "before1"):
                    start(run_id).wait_for_rows(200)
                fill(disk)
                assert shutil.disk_usage(disk).free == 0
                start("meanwhile").wait_for_rows(200)
                for trainer in trainers:
                    trainer.wait_for_rows(trainer.rows_logged() + 300)
                yard.kill()
                fill(disk)
                with pytest.raises(YardError, match="is full: 0 MiB are free"):
                    yard.start()
                free(disk)
                yard.start()
                for trainer in trainers:
                    assert trainer.process.wait(TIMEOUT_S) == 0, trainer.log()
                    reader.wait_for_state(trainer.path, "FINISHED", timeout_s=60)
                    assert check_run(reader, trainer) == ROWS
        finally:
            for trainer in trainers:
                trainer.stop()
            kill_agent(root)
