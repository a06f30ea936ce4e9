"""What an agent does with a run that was deleted on its server: nobody wants the rest, so it goes from this disk."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from runyard.agent.mark import REFUSED, Mark
from runyard.agent.ports import Disk
from runyard.errors import Error

RUN_DELETED = "RUN_DELETED"
REMOVE_INTERVAL_S = 1.0

_log = logging.getLogger("runyard.agent")


async def drop_data(
    disk: Disk,
    folder: str,
    mark: Mark,
    error: Error,
    *,
    is_alive: Callable[[], bool],
    pause: Callable[[float], Awaitable[object]],
) -> None:
    """Removes what the run wrote, and goes on with what it writes until its process has ended.

    Of a live one the first segment stays, by which the next agent knows it, and the last, which is being written.
    """
    mark.server = REFUSED
    mark.message = error.message
    mark.is_dropped = True
    mark.write(is_synced=True)
    _log.warning("run_deleted %s: %s What it logged and logs is dropped", folder, error.message)
    while is_alive():
        _remove(disk, folder, _segments(disk, folder)[1:-1])
        await pause(REMOVE_INTERVAL_S)
    remove_data(disk, folder)


def remove_data(disk: Disk, folder: str) -> None:
    """Removes the journal of a run whose process has ended."""
    _remove(disk, folder, _segments(disk, folder))


def _segments(disk: Disk, folder: str) -> list[str]:
    return [name for name in disk.names(f"{folder}/journal") if name.endswith(".seg")]


def _remove(disk: Disk, folder: str, names: list[str]) -> None:
    for name in names:
        try:
            disk.remove(f"{folder}/journal/{name}")
        except OSError as error:
            _log.warning("segment_not_removed %s/journal/%s: %s", folder, name, error)
