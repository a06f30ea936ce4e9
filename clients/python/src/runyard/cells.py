"""Follows the cells of IPython, in a notebook or a terminal: errors that end nothing, and a stop between two cells."""

from __future__ import annotations

import sys
from typing import Any, Callable

from runyard.exit_hooks import ExitHooks
from runyard.terminal import is_notebook

_LEAVING = ("exit", "quit")


class CellWatch:
    """Knows whether a cell runs, and how the last one ended.

    A cell's error ends no run: the next cell may put it right. At the shutdown of a kernel the last cell's error is what
    the runs end with. `on_cell_end` is called in the main thread after each cell.
    """

    def __init__(self, hooks: ExitHooks, on_cell_end: Callable[[], None]) -> None:
        self._hooks = hooks
        self._on_cell_end = on_cell_end
        self._shell: Any = None
        self._is_running = False

    @property
    def is_idle(self) -> bool:
        """Returns whether there is a prompt and no cell runs: nothing of the script's could be interrupted."""
        return self._shell is not None and not self._is_running

    def install(self) -> None:
        """Begins to follow; does nothing outside of IPython, or a second time."""
        ipython = sys.modules.get("IPython")
        shell = getattr(ipython, "get_ipython", lambda: None)()
        if shell is None or self._shell is not None:
            return
        self._shell = shell
        self._is_running = True  # init() is called in a cell
        shell.events.register("pre_run_cell", self._begin)
        shell.events.register("post_run_cell", self._end)

    def _begin(self, *information: Any) -> None:
        self._is_running = True

    def _end(self, result: Any = None, *others: Any) -> None:
        self._is_running = False
        error = getattr(result, "error_in_exec", None) or getattr(result, "error_before_exec", None)
        source = str(getattr(getattr(result, "info", None), "raw_cell", "") or "").strip()
        self._hooks.forget()
        if source.rstrip("()") in _LEAVING:
            self._hooks.note_exit()
        elif is_notebook() and error is not None and not isinstance(error, KeyboardInterrupt):
            self._hooks.take_exception(type(error), error, error.__traceback__)
        self._on_cell_end()
