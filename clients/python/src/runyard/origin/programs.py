"""Asks other programs (git, nvidia-smi), within a time and for a limited answer."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

ERROR_BYTES_MAX = 4_096


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a program said; `problem` is "" only if it ended well with all of it within time and limit."""

    output: bytes = b""
    problem: str = ""
    is_missing: bool = False
    """Whether there is no such program."""
    is_cut: bool = False
    """Whether there was more output than was asked for."""

    @property
    def text(self) -> str:
        """Returns the output as text, without the blanks around it."""
        return self.output.decode("utf-8", "replace").strip()


def ask(
    command: Sequence[str],
    *,
    folder: Path,
    environ: Mapping[str, str],
    timeout_s: float,
    bytes_max: int,
) -> Answer:
    """Runs the program in the folder and returns what it said; it is killed, with its children, when time or limit is reached."""
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            is_missing = error.filename == command[0]
            return Answer(problem=f"there is no {error.filename}", is_missing=is_missing)
        except OSError as error:
            return Answer(problem=f"{command[0]} cannot be started: {error}")
        late: list[bool] = []

        def give_up() -> None:
            late.append(True)
            _kill(process)

        timer = threading.Timer(timeout_s, give_up)
        timer.daemon = True
        timer.start()
        assert process.stdout is not None
        with process.stdout as pipe:
            output = pipe.read(bytes_max + 1)
        if len(output) > bytes_max:
            _kill(process)
        code = process.wait()
        timer.cancel()
        errors.seek(0)
        said = errors.read(ERROR_BYTES_MAX).decode("utf-8", "replace")
    if late:
        return Answer(output[:bytes_max], f"{command[0]} took longer than {timeout_s:g} s")
    if len(output) > bytes_max:
        return Answer(output[:bytes_max], f"more than {bytes_max} bytes", is_cut=True)
    return Answer(output, "" if code == 0 else _first_line(said) or f"{command[0]}: code {code}")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kills the program and what it started, which may hold its pipe."""
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except OSError:
            pass  # it has just ended


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0].removeprefix("fatal: ") if lines else ""
