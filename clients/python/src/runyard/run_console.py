"""Begins to keep what a run prints, in the way that this process allows."""

from __future__ import annotations

import os
import sys

from runyard.console import capture
from runyard.console.capture import Capture, DescriptorCapture
from runyard.run_folder import RunFolder
from runyard.settings import ResolvedSettings, agent_environment
from runyard.terminal import Terminal, is_notebook

OFF, AUTO, REDIRECT = "off", "auto", "redirect"


def begin(folder: RunFolder, settings: ResolvedSettings, terminal: Terminal) -> Capture | None:
    """Returns what takes the console from now on; None where it is not wanted, or cannot be had, which is said."""
    way = settings.console
    if way == AUTO:
        way = REDIRECT if _has_descriptors() else "wrap"
    if way == OFF:
        return None
    try:
        if way == REDIRECT:
            return DescriptorCapture(
                folder.console_path,
                environ=agent_environment(settings),
                bytes_per_s_max=settings.console_bytes_per_s_max,
                is_redacting=settings.redact,
                journal_bytes_max=settings.journal_bytes_max,
                on_trouble=lambda message: terminal.warn("console", message),
            )
        return _wrapped(folder, settings, terminal)
    except (OSError, ValueError) as error:
        terminal.warn("console", f"what this run prints is not kept: {error}")
        return None


def begin_unprinted(
    folder: RunFolder, settings: ResolvedSettings, terminal: Terminal
) -> Capture | None:
    """Returns what keeps lines that are given to it, and nothing of what is printed; None where it cannot be had."""
    try:
        return _wrapped(folder, settings, terminal, takes_prints=False)
    except (OSError, ValueError) as error:
        terminal.warn("console", f"lines of loggers are not kept: {error}")
        return None


def let_go() -> None:
    """Stops watching what may outlive this process."""
    capture.let_go()


def _wrapped(
    folder: RunFolder, settings: ResolvedSettings, terminal: Terminal, *, takes_prints: bool = True
) -> Capture:
    from runyard.console.recorder import ConsoleRecorder
    from runyard.console.wrap import WriteCapture
    from runyard.journal_room import JournalRoom

    folder.console_path.mkdir(exist_ok=True)
    recorder = ConsoleRecorder(
        folder.console_path,
        environ=agent_environment(settings),
        is_redacting=settings.redact,
        bytes_per_s_max=settings.console_bytes_per_s_max,
        room=JournalRoom(folder.path.parent, settings.journal_bytes_max),
    )
    return WriteCapture(
        recorder,
        on_trouble=lambda message: terminal.warn("console", message),
        takes_prints=takes_prints,
    )


def _has_descriptors() -> bool:
    """Returns whether what Python prints leaves this process by the descriptors that are taken."""
    if os.name != "posix" or is_notebook():
        return False
    try:
        return sys.stdout.fileno() == 1 or sys.stderr.fileno() == 2
    except (AttributeError, OSError, ValueError):
        return False
