"""Real training processes that log known numbers, and say on the side which calls of log() returned.

As a script (`python tests/robustness/traffic.py RUN_ID ROWS PAUSE_S SIDE_FILE`) it is the training process.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ENTITY, PROJECT = "robust", "traffic"
METRICS = ("loss", "accuracy", "odd")
ODD_VALUES = (math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308)


def value_of(run_id: str, metric: str, step: int) -> float:
    """Returns what the run logs for the metric at the step: a function of the three alone."""
    if metric == "odd":
        return ODD_VALUES[step % len(ODD_VALUES)]
    seed = sum(map(ord, run_id)) * 1_000_003 + step * 7919 + len(metric)
    return math.sin(seed) * 10.0 ** (seed % 7 - 3)


@dataclass
class Trainer:
    """One training process under test."""

    run_id: str
    side_path: Path
    process: subprocess.Popen[bytes]
    is_killed: bool = False

    @classmethod
    def start(
        cls,
        run_id: str,
        folder: Path,
        environment: dict[str, str],
        *,
        rows: int,
        pause_s: float,
        command: Sequence[str] = (sys.executable, __file__),
    ) -> Trainer:
        """Starts a process that logs `rows` rows, pausing after each; `command` runs this file, perhaps elsewhere."""
        side_path = folder / f"{run_id}.side"
        with (folder / f"{run_id}.log").open("ab") as log:
            process = subprocess.Popen(
                [*command, run_id, str(rows), str(pause_s), str(side_path)],
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return cls(run_id, side_path, process)

    @property
    def path(self) -> str:
        """Returns entity/project/run_id."""
        return f"{ENTITY}/{PROJECT}/{self.run_id}"

    def rows_logged(self) -> int:
        """Returns how many calls of log() returned."""
        content = self.side_path.read_bytes() if self.side_path.exists() else b""
        return len(content) // 8

    def wait_for_rows(self, count: int, *, timeout_s: float = 120.0) -> None:
        """Returns when so many calls of log() have returned."""
        deadline = time.monotonic() + timeout_s
        while self.rows_logged() < count:
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, (
                f"{self.run_id} logs no more than {self.rows_logged()}"
            )
            time.sleep(0.02)

    def log(self) -> str:
        """Returns what the process printed."""
        return self.side_path.with_suffix(".log").read_text(errors="replace")

    def kill(self) -> None:
        """Kills the process without a word."""
        if self.process.poll() is None:
            self.is_killed = True
            self.process.kill()
        self.process.wait(10)

    def stop(self) -> None:
        """Kills it if it still runs; for the end of a test."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(10)


def agent_pid(root: Path) -> int | None:
    """Returns the process id of the agent of a journal root; None if none runs."""
    try:
        pid = int((root / "agent.lock").read_text().split()[0])
        is_agent = b"runyard.agent" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError, IndexError):
        return None
    return pid if is_agent else None


def kill_agent(root: Path) -> bool:
    """Kills the agent; returns whether there was one."""
    pid = agent_pid(root)
    if pid is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return True


def main() -> None:
    import runyard

    run_id, rows, pause_s, side_path = sys.argv[1:]
    run = runyard.init(entity=ENTITY, project=PROJECT, id=run_id, config={"rows": int(rows)})
    side = os.open(side_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for step in range(int(rows)):
        run.log({metric: value_of(run_id, metric, step) for metric in METRICS})
        os.write(side, struct.pack("<q", step))
        time.sleep(float(pause_s))


if __name__ == "__main__":
    main()
