"""The SDK's end of the agent: starts it, and starts another if it falls silent."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from runyard.run_folder import REFUSED, Mark
from runyard.settings import ResolvedSettings, agent_environment

QUIET_S = 3.0
"""An agent whose mark is younger than this is at work, wherever it runs."""
RESTART_PAUSE_S = 2.0
"""Shortest time between two starts; it doubles with every start."""
RESTART_PAUSE_MAX_S = 60.0

_processes: list[subprocess.Popen[bytes]] = []
"""Agents, and other processes beside this one, that it started; kept so that they are reaped, and are not mistaken for forgotten ones."""


class AgentLink:
    """Makes sure that an agent serves the journals under a root.

    Starting one too many is harmless: of several agents of one root, the one that gets the lock stays.
    """

    def __init__(self, root: Path, settings: ResolvedSettings) -> None:
        self._root = root
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._start_time_s = 0.0
        self._pause_s = RESTART_PAUSE_S

    def start(self) -> str:
        """Starts an agent; returns "" or why it could not be started."""
        _reap()
        self._start_time_s = time.monotonic()
        command = [
            sys.executable or "python3",
            "-m",
            "runyard.agent",
            "--root",
            str(self._root),
            "--base-url",
            self._settings.base_url,
        ]
        try:
            with (self._root / "agent.log").open("ab") as log:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self._root,  # no module beside the script may stand in for a library's
                    env=agent_environment(self._settings),
                    start_new_session=True,
                    close_fds=True,
                )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            return str(error)
        keep_process(self._process)
        return ""

    def failure(self) -> str:
        """Returns why the agent that was started is gone, "" if it lives or left the field to another one."""
        code = self._process.poll() if self._process is not None else None
        if not code:
            return ""
        return f"the agent ended with code {code}; {self._root / 'agent.log'} says why"

    def revive(self, mark: Mark | None, records_written: int) -> None:
        """Starts another agent if there is something to send and none that could send it is alive."""
        if time.monotonic() - self._start_time_s < self._pause_s:
            return
        if mark is not None:
            is_done = mark.is_complete or mark.server == REFUSED
            if is_done or mark.durable_sequence >= records_written:
                return
            if 0 <= time.time_ns() - mark.update_unix_ns < QUIET_S * 1e9:
                return
        if not self._is_agent_alive():
            self._pause_s = min(self._pause_s * 2, RESTART_PAUSE_MAX_S)
            self.start()

    def leave_to_agent(self) -> None:
        """Makes sure that an agent lives for what is not sent yet: this process will not look again."""
        if not self._is_agent_alive():
            self.start()

    def _is_agent_alive(self) -> bool:
        """Returns whether the process that agent.lock names lives and is an agent.

        Its lock would say so too, but who tries a lock may keep an agent that starts right now from getting it.
        """
        try:
            pid = int((self._root / "agent.lock").read_text(encoding="ascii").split()[0])
            os.kill(pid, 0)
        except (OSError, ValueError, IndexError):
            return False
        try:
            return b"runyard" in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:  # no /proc here: the pid must do
            return not Path("/proc/self").exists()


def keep_process(process: subprocess.Popen[bytes]) -> None:
    """Watches a process that is to outlive this one."""
    _reap()
    _processes.append(process)


def let_go() -> None:
    """Stops watching these processes, which outlive this process by intent: the interpreter's end need not warn of them."""
    for process in _processes:
        if process.poll() is None:
            process.returncode = 0


def _reap() -> None:
    _processes[:] = [process for process in _processes if process.poll() is None]
