"""The SDK's end of the process that samples the machine for offline runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from runyard import agent_link
from runyard.settings import ResolvedSettings, agent_environment

START_INTERVAL_S = 2.0
"""A process that was started so recently samples for the next run too: without any it stays for 3 s."""

_last: dict[Path, tuple[float, subprocess.Popen[bytes]]] = {}
"""By root, the process that this one started last, and when."""


def start_sampling(root: Path, settings: ResolvedSettings) -> str:
    """Starts the process, where sampling is not switched off; returns "" or why it could not be started.

    One too many is harmless: of several of one root, the one that has the lock samples for all.
    """
    if not settings.system_interval_s or not sys.executable:
        return ""
    if os.name == "nt":  # no lock there tells that a run has ended
        return "on Windows offline runs are not sampled"
    started_s, last = _last.get(root, (0.0, None))
    if last is not None and last.poll() is None and time.monotonic() - started_s < START_INTERVAL_S:
        return ""
    command = [sys.executable, "-m", "runyard.agent.offline_sampling", "--root", str(root)]
    try:
        with (root / "sampling.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=root,  # as the agent: no module beside the script may stand in for a library's
                env=agent_environment(settings),
                start_new_session=True,
                close_fds=True,
            )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return str(error)
    agent_link.keep_process(process)
    _last[root] = (time.monotonic(), process)
    return ""
