"""Removes what is left of runs that the server has whole: by age, for room, or because a person asks."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from runyard.agent.disk import LocalDisk
from runyard.agent.mark import read_json
from runyard.agent.start import keep_days, read_start
from runyard.journal_room import is_whole, remove_segments

DAY_NS = 86_400 * 1_000_000_000
TRASH_PREFIX = "trash-"
"""A folder that is being removed is called so first, so that half of one is never taken for a run."""
_disk = LocalDisk()


@dataclasses.dataclass(frozen=True)
class CompleteRun:
    """A run folder whose mark says that the run has ended on the server, or was deleted there."""

    folder: Path
    path: str
    end_unix_ns: int
    """When its mark was last written: about when it was complete."""
    is_whole: bool
    """Whether nothing was refused and no file failed: the disk holds nothing that the server lacks."""


def complete_runs(folders: Sequence[Path]) -> Iterator[CompleteRun]:
    """Yields the complete runs among the folders; live ones are none."""
    for folder in folders:
        mark = read_json(_disk, f"{folder}/mark.json") or {}
        is_done = mark.get("is_complete") or mark.get("is_dropped")
        if not is_done or _disk.is_locked(f"{folder}/writer.lock"):
            continue
        answer = read_json(_disk, f"{folder}/run.json") or {}
        yield CompleteRun(
            folder,
            str(answer.get("path") or ""),
            int(mark.get("update_unix_ns") or 0),
            bool(mark.get("is_dropped")) or is_whole(mark),
        )


def remove(run: CompleteRun) -> bool:
    """Removes the folder; returns False if the disk refuses, which leaves it as it was or as rubbish with another name."""
    trash = run.folder.with_name(TRASH_PREFIX + run.folder.name)
    try:
        run.folder.rename(trash)
    except OSError:
        return False
    shutil.rmtree(trash, ignore_errors=True)
    return not trash.exists()


def remove_trash(root: Path) -> None:
    """Removes what an earlier removal, which was killed, has left."""
    for trash in root.glob(f"{TRASH_PREFIX}run-*"):
        shutil.rmtree(trash, ignore_errors=True)


def remove_expired(root: Path, *, now_unix_ns: int | None = None) -> int:
    """Removes the folders of whole complete runs that asked to be kept for some days, after them; returns how many.

    Of those that did not ask it removes segments, which an agent that was killed at the wrong moment has left.
    """
    now_ns = time.time_ns() if now_unix_ns is None else now_unix_ns
    count = 0
    remove_trash(root)
    for run in complete_runs(sorted(root.glob("run-*"))):
        days = keep_days(read_start(_disk, f"{run.folder}/journal"))
        if run.is_whole and not days:
            remove_segments(run.folder)
        elif run.is_whole and now_ns - run.end_unix_ns > days * DAY_NS:
            count += remove(run)
    return count
