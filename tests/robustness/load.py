"""A load of training processes of which always some run, each with a run of its own, and what becomes of it at the end."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.integration.readback import Readback
from tests.robustness.traffic import Trainer, agent_pid, kill_agent
from tests.robustness.validate import check_run

PROGRAM = Path(sys.executable).parent / "runyard"
SYNC_TIMEOUT_S = 300
STATE_TIMEOUT_S = 60
ROWS = 1_000_000


class Load:
    """The processes, their journals beneath `root`."""

    def __init__(
        self,
        folder: Path,
        environment: dict[str, str],
        *,
        root: Path | None = None,
        count: int = 2,
        pause_s: float = 0.002,
        prefix: str = "run",
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.root = root or folder / "runyard"
        self.environment = environment
        self.all: list[Trainer] = []
        self.running: list[Trainer] = []
        self._count = count
        self._pause_s = pause_s
        self._prefix = prefix

    def fill(self) -> None:
        """Starts what is missing."""
        while len(self.running) < self._count:
            self.start(ROWS)

    def start(self, rows: int) -> Trainer:
        """Starts one process."""
        trainer = Trainer.start(
            f"{self._prefix}{len(self.all):05d}",
            self.folder,
            self.environment,
            rows=rows,
            pause_s=self._pause_s,
        )
        self.all.append(trainer)
        self.running.append(trainer)
        return trainer

    def kill_one(self, chance: random.Random) -> None:
        """Kills one process."""
        trainer = chance.choice(self.running)
        self.running.remove(trainer)
        trainer.kill()

    def pause(self, chance: random.Random, what: str, pause_s: float) -> None:
        """Has a process or the agent stand still."""
        pid = agent_pid(self.root) if what == "agent" else chance.choice(self.running).process.pid
        if pid is None:
            return
        try:
            os.kill(pid, signal.SIGSTOP)
            time.sleep(pause_s)
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            return  # it was on its way out

    def end(self, chance: random.Random) -> None:
        """Kills what runs, and sends all that the killed ones left, as a user would."""
        while self.running:
            self.kill_one(chance)
        kill_agent(self.root)
        synced = subprocess.run(
            [PROGRAM, "sync", self.root],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SYNC_TIMEOUT_S,
        )
        assert synced.returncode == 0, synced.stdout + synced.stderr

    def check(self, reader: Readback) -> tuple[int, int]:
        """Returns how many runs and rows are stored; raises if one is missing, twice, or not as it was logged."""
        rows = 0
        started = [trainer for trainer in self.all if trainer.rows_logged()]
        for trainer in started:
            rows += check_run(reader, trainer)
        for trainer in started:
            state = "CRASHED" if trainer.is_killed else "FINISHED"
            reader.wait_for_state(trainer.path, state, timeout_s=STATE_TIMEOUT_S)
        return len(started), rows

    def stop(self) -> None:
        """Ends everything that still runs."""
        for trainer in self.all:
            trainer.stop()
        kill_agent(self.root)
