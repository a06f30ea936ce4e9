"""kill -9 of training processes, agents and the server under load: all that was logged is readable, once."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from tests.integration.readback import readback
from tests.integration.yard import Yard
from tests.robustness.load import Load
from tests.robustness.traffic import Trainer, kill_agent
from tests.robustness.validate import check_run

KILLS = int(os.environ.get("RUNYARD_TEST_KILLS") or 12)


def strike(chance: random.Random, number: int, load: Load, yard: Yard) -> str:
    """Kills something and brings back what does not come back by itself; returns what it was."""
    what = ("trainer", "agent", "server", "trainer and agent")[number % 4]
    if "trainer" in what:
        load.kill_one(chance)
    if "agent" in what and not kill_agent(load.root):
        what += " (none ran)"
    if what == "server":
        yard.kill()
        time.sleep(chance.uniform(0.0, 0.3))
        yard.start()
    load.fill()
    return what


def test_kills_of_everything_lose_nothing(tmp_path: Path) -> None:
    """After kills of training processes, agents and the server, in turn, at any moment: I1, I2, I3, I5, I8."""
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    struck = []
    with Yard(tmp_path / "yard") as yard:
        load = Load(tmp_path / "load", yard.environment(tmp_path / "load" / "runyard"))
        try:
            load.fill()
            time.sleep(1.0)
            for number in range(KILLS):
                time.sleep(chance.uniform(0.05, 1.0))
                struck.append(strike(chance, number, load, yard))
            time.sleep(0.5)
            load.end(chance)
            with readback(yard.grpc) as reader:
                runs, rows = load.check(reader)
        finally:
            load.stop()
    print(f"{len(struck)} kills: {', '.join(struck)}; {runs} runs, {rows} rows")
    assert rows > 0


def test_agents_come_back_by_themselves(tmp_path: Path) -> None:
    """With its agent killed, a training process that goes on gets another: nothing is left to sync by hand."""
    with Yard(tmp_path / "yard") as yard:
        load = Load(tmp_path / "load", yard.environment(tmp_path / "load" / "runyard"))
        try:
            trainer = Trainer.start(
                "survivor", load.folder, load.environment, rows=1500, pause_s=0.005
            )
            load.all.append(trainer)
            deadline = time.monotonic() + 20
            while not (trainer.rows_logged() > 50 and kill_agent(load.root)):
                assert time.monotonic() < deadline, "no agent came up"
                time.sleep(0.05)
            assert trainer.process.wait(60) == 0, (load.folder / "survivor.log").read_text()
            with readback(yard.grpc) as reader:
                reader.wait_for_state(trainer.path, "FINISHED", timeout_s=20)
                assert check_run(reader, trainer) == 1500
        finally:
            load.stop()


@pytest.mark.parametrize("part", ["ingest", "query", "metadata", "gateway", "clickhouse"])
def test_each_part_may_die_under_load(part: str, apart: Yard, tmp_path: Path) -> None:
    """With services apart, the death of any one of them delays and loses nothing."""
    load = Load(tmp_path / "load", apart.environment(tmp_path / "load" / "runyard"))
    try:
        trainer = Trainer.start(
            f"under-{part}", load.folder, load.environment, rows=800, pause_s=0.005
        )
        load.all.append(trainer)
        deadline = time.monotonic() + 20
        while trainer.rows_logged() < 100:
            assert time.monotonic() < deadline, "the script does not log"
            time.sleep(0.05)
        apart.kill(part)
        time.sleep(0.5)
        apart.start()
        assert trainer.process.wait(90) == 0, (load.folder / f"under-{part}.log").read_text()
        with readback(apart.grpc) as reader:
            reader.wait_for_state(trainer.path, "FINISHED", timeout_s=30)
            assert check_run(reader, trainer) == 800
    finally:
        load.stop()
