"""Knows the import of the script in a child that multiprocessing spawns: nothing that it calls is meant."""

from __future__ import annotations

import sys

NOTE = (
    "init() starts no run here: multiprocessing imports the script again in each child that it spawns. Put what only "
    'the script itself shall do under `if __name__ == "__main__":`'
)


def is_importing_script() -> bool:
    """Returns whether this process is a child of multiprocessing (spawn, forkserver) that is still importing the script."""
    process = sys.modules.get("multiprocessing.process")
    if process is None:
        return False
    # What multiprocessing itself asks to refuse a child that would spawn children during this import.
    return bool(getattr(process.current_process(), "_inheriting", False))
