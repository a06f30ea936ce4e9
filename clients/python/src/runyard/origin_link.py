"""The training process's end of `runyard.origin`: starts it, and takes what it found when it is done."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from runyard import agent_link, host, terminal
from runyard.run_folder import RunFolder
from runyard.settings import ResolvedSettings, agent_environment, launcher_environment

FACTS_BYTES_MAX = 512 << 10
"""Larger than what the process writes; what is larger is not its."""
_INSTALLED = frozenset({"site-packages", "dist-packages"})

END_WAIT_S = 1.0
"""Longest wait of finish(); large repositories take longer, and their runs too."""


class OriginLink:
    """Starts the process once, and hands over its facts once."""

    def __init__(self, folder: RunFolder, settings: ResolvedSettings) -> None:
        self._folder = folder
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def start(self) -> str:
        """Starts the process unless all that it gathers is switched off; returns "" or why it could not be started."""
        wishes = self._wishes()
        if not wishes or not sys.executable:
            return ""
        directory = host.working_folder() or str(self._folder.path)
        command = [
            sys.executable, "-m", "runyard.origin", "--folder", str(self._folder.path), "--directory", directory, *wishes,
        ]  # fmt: skip
        try:
            with (self._folder.logs_path / "debug.log").open("ab") as log:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self._folder.path.parent,  # as the agent: no module beside the script may stand in for a library's
                    env=agent_environment(self._settings),
                    start_new_session=True,
                    close_fds=True,
                )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            return str(error)
        agent_link.keep_process(self._process)
        return ""

    def wait(self) -> None:
        """Returns when the process is done, or soon: the end of a short script waits for it a moment."""
        process = self._process
        if process is None:
            return
        try:
            process.wait(END_WAIT_S)
        except subprocess.TimeoutExpired:
            return

    def take(self) -> tuple[dict[str, Any], list[str]] | None:
        """Returns (facts, names of the files it made), the first time that they are there; else None."""
        with self._lock:
            process = self._process
            if process is None:
                return None
            is_over = process.poll() is not None  # before the look: it writes the file, then ends
            found = self._folder.read_origin(FACTS_BYTES_MAX)
            if found is not None or is_over:
                self._process = None
            return found

    def _wishes(self) -> list[str]:
        settings = self._settings
        wishes: list[str] = []
        source = source_path() if settings.save_code else None
        if source is not None:
            wishes += ["--source", str(source)]
        if settings.save_git:
            wishes += ["--git", "--diff-bytes-max", str(settings.git_diff_bytes_max)]
        if settings.save_requirements:
            wishes.append("--requirements")
        if settings.save_machine:
            wishes.append("--gpus")
        return wishes


def source_path() -> Path | None:
    """Returns the script that this process runs, or the notebook where its path is told; None where there is neither.

    What is installed (the program of a launcher, a module of a library) is not the user's source.
    """
    main = sys.modules.get("__main__")
    if terminal.is_notebook():
        named = getattr(main, "__vsc_ipynb_file__", "")
        named = named or launcher_environment().get("JPY_SESSION_NAME", "")
        path = Path(os.path.abspath(named)) if named else None  # noqa: PTH100 (links stay)
        # Outside of a file, Jupyter gives the session a name that is no path.
        return path if path is not None and path.suffix == ".ipynb" and path.is_file() else None
    file = getattr(main, "__file__", None)
    if not isinstance(file, str):
        return None
    path = Path(os.path.abspath(file))  # noqa: PTH100 (links stay)
    is_installed = (
        not _INSTALLED.isdisjoint(path.parts) or path.parent == Path(sys.executable).parent
    )
    return None if is_installed or not path.is_file() else path
