"""kill -9 of a service aimed at five moments: before an insert, during, after it and before the answer, in a drain, in a migration.

The moment is met by the proxy before the store, which sees the insert, or its answer, pass.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.readback import readback
from tests.integration.yard import YardError
from tests.robustness.behind import Behind, yard_behind
from tests.robustness.faults import Trap
from tests.robustness.traffic import Trainer, kill_agent
from tests.robustness.validate import check_run

ROWS, PAUSE_S = 400, 0.004
DEADLINE_S = 120.0
INSERT = re.compile(rb"INSERT INTO (`?\w+`?\.)?`?(points|receipts|series)")
MIGRATION = re.compile(rb"CREATE (TABLE|MATERIALIZED VIEW|VIEW)")
MIGRATION_KILLS = (2, 6)


@dataclass(frozen=True)
class Moment:
    """When ingest is killed."""

    is_reply: bool = False
    share: float = 0.0
    is_draining: bool = False


MOMENTS = {
    "before the insert": Moment(share=0.0),
    "during the insert": Moment(share=0.5),
    "after the insert, before the answer": Moment(is_reply=True),
    "during a drain": Moment(share=0.5, is_draining=True),
}


def killer(behind: Behind, name: str) -> Callable[[], None]:
    """Returns what kills the part, at once."""

    def kill() -> None:
        process = behind.yard.parts[name].process
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)

    return kill


@pytest.mark.parametrize("name", MOMENTS)
def test_a_kill_at_the_worst_moment_loses_nothing(
    name: str, behind: Behind, tmp_path: Path
) -> None:
    """Whatever of the insert was done and whoever was told: all that was logged is readable, once."""
    moment = MOMENTS[name]
    yard = behind.yard
    ingest = yard.parts["ingest"]
    root = tmp_path / "runyard"
    trainer = Trainer.start(
        "kill-" + re.sub(r"\W+", "-", name), tmp_path, yard.environment(root), rows=ROWS, pause_s=PAUSE_S
    )  # fmt: skip
    try:
        trainer.wait_for_rows(ROWS // 5)
        trap = behind.store.arm(
            Trap(INSERT, moment.is_reply, killer(behind, "ingest"), moment.share)
        )
        if moment.is_draining:
            assert ingest.process is not None
            ingest.process.send_signal(signal.SIGTERM)
        is_sprung = trap.sprung.wait(DEADLINE_S if not moment.is_draining else 5.0)
        assert ingest.process is not None
        code = ingest.process.wait(DEADLINE_S)
        ingest.kill()  # it is gone; this closes what was held of it
        if not moment.is_draining:
            assert is_sprung, "no insert passed"
        assert code == (-signal.SIGKILL if is_sprung else 0)
        behind.store.disarm()
        yard.start()
        assert trainer.process.wait(DEADLINE_S) == 0, trainer.log()
        with readback(yard.grpc) as reader:
            reader.wait_for_state(trainer.path, "FINISHED", timeout_s=DEADLINE_S)
            assert check_run(reader, trainer) == ROWS
    finally:
        behind.store.disarm()
        yard.start()
        trainer.stop()
        kill_agent(root)


def test_a_kill_in_a_migration_is_survived(tmp_path: Path) -> None:
    """The process that migrates the store is killed at one statement after the other; the next start goes on from there."""
    with yard_behind(tmp_path / "yard", is_started=False) as behind:
        yard = behind.yard
        front = yard.parts["clickhouse"]
        front.launch()
        front.wait_ready()
        ingest = yard.parts["ingest"]
        kills = 0
        for statements in MIGRATION_KILLS:
            trap = behind.store.arm(
                Trap(MIGRATION, False, killer(behind, "ingest"), share=1.0, passes=statements - 1)
            )
            ingest.launch()
            try:
                ingest.wait_ready()
            except YardError:
                assert trap.sprung.is_set(), ingest.log_tail()
                kills += 1
            ingest.kill()
        behind.store.disarm()
        assert kills > 0, "no statement of a migration passed"
        yard.start()
        root = tmp_path / "runyard"
        trainer = Trainer.start("migrated", tmp_path, yard.environment(root), rows=50, pause_s=0.0)
        try:
            assert trainer.process.wait(DEADLINE_S) == 0, trainer.log()
            with readback(yard.grpc) as reader:
                reader.wait_for_state(trainer.path, "FINISHED", timeout_s=DEADLINE_S)
                assert check_run(reader, trainer) == 50
        finally:
            trainer.stop()
            kill_agent(root)
