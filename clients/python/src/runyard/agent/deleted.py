"""What an agent does with a run that was deleted on its server: nobody wants the rest, so it goes from this disk."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from runyard import journal_format as form
from runyard.agent.artifact_folder import ArtifactFolder
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
        for journal in form.JOURNAL_FOLDERS:
            _remove(disk, _segments(disk, f"{folder}/{journal}")[1:-1])
        await pause(REMOVE_INTERVAL_S)
    remove_data(disk, folder)


def remove_data(disk: Disk, folder: str) -> None:
    """Removes the journals of a run whose process has ended, and what it handed over of artifacts."""
    ArtifactFolder(disk, folder).clean_all(is_with_failed=True)
    for journal in form.JOURNAL_FOLDERS:
        _remove(disk, _segments(disk, f"{folder}/{journal}"))


def _segments(disk: Disk, folder: str) -> list[str]:
    return [f"{folder}/{name}" for name in disk.names(folder) if name.endswith(".seg")]


def _remove(disk: Disk, paths: list[str]) -> None:
    for path in paths:
        try:
            disk.remove(path)
        except OSError as error:
            _log.warning("segment_not_removed %s: %s", path, error)
