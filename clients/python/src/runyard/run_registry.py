"""The runs that this process has open, which one is current, and how they end when the process does."""

from __future__ import annotations

import functools
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from runyard import agent_link, run_console
from runyard.cells import CellWatch
from runyard.exit_hooks import EXIT_CODE_INTERRUPTED, USER_REQUEST, End, ExitHooks
from runyard.settings import ends_with_all_around

if TYPE_CHECKING:
    from runyard.active_run import Run

TELL_WAIT_S = 8.0
"""Longest wait of a process that a signal ends, where its agent has no longer to live; docker stop gives 10 s."""
TELL_POLL_S = 0.02

_runs: list[Run] = []
_before: dict[str, Any] = {}


def current() -> Run | None:
    """Returns the run that was started last and is not finished."""
    return _runs[-1] if _runs else None


def activate(run: Run) -> None:
    """Makes the run the current one: `runyard.run`, `.config`, `.summary` and `.log` are its own from now on."""
    _runs.append(run)
    hooks.install()
    cells.install()
    _publish()


def deactivate(run: Run) -> None:
    """Forgets the run; the one started before it is current again."""
    if run in _runs:
        _runs.remove(run)
    if not _runs:
        hooks.uninstall()
    _publish()


def finish_all() -> None:
    """Finishes every open run, the newest first."""
    for run in reversed(list(_runs)):
        run.finish()


def _publish() -> None:
    """Sets the names of the package that stand for the current run."""
    package = sys.modules["runyard"]
    names = ("run", "config", "summary", "log")
    if not _before:
        _before.update({name: getattr(package, name) for name in names})
    run = current()
    for name in names:
        is_run = run is not None and name == "run"
        value = run if is_run else _before[name] if run is None else getattr(run, name)
        setattr(package, name, value)


def _end_all_at_exit() -> None:
    """Ends every run with what the process ends with."""
    for run in reversed(list(_runs)):
        run.end(hooks.end_at_exit())
    agent_link.let_go()
    run_console.let_go()


def _end_all_of_terminate() -> bool:
    """Writes the end of every run; returns False if that is done a moment later, after rows that are half written."""
    unended = list(_runs)
    is_late = False

    def end(run: Run) -> None:
        run.end_without_waiting(hooks.end)
        unended.remove(run)
        if is_late and not unended:
            hooks.die_of_signal()

    for run in list(_runs):
        run.call_soon(functools.partial(end, run))
    is_late = bool(unended)
    if not is_late and ends_with_all_around():
        _await_all_told()
    return not is_late


def _await_all_told() -> None:
    """Waits a while until the server knows of the ends; a further signal ends the wait."""
    runs = list(_runs)
    _runs.clear()
    end_s = time.monotonic() + TELL_WAIT_S
    while time.monotonic() < end_s and not all(run.is_told for run in runs):
        time.sleep(TELL_POLL_S)


def _end_the_stopped() -> None:
    """Ends the runs whose stop interrupted a cell: the prompt goes on without them."""
    for run in reversed(list(_runs)):
        if run.is_interrupted:
            run.end(End(EXIT_CODE_INTERRUPTED, USER_REQUEST, "its cell was interrupted"))


def _after_fork() -> None:
    """In a forked child: the runs are the parent's."""
    runs = list(_runs)
    _runs.clear()
    for run in runs:
        run.become_foreign()
    if runs:
        hooks.uninstall()


hooks = ExitHooks(_end_all_at_exit, _end_all_of_terminate)
"""What watches how this process ends."""
cells = CellWatch(hooks, _end_the_stopped)
"""What follows the cells of IPython."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
