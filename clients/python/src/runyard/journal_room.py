"""How much disk the journals under one root may take, whoever writes them."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

from runyard.journal_format import JOURNAL_FOLDERS
from runyard.text_format import bytes_text

FREE_SHARE = 0.2
"""Without a setting, journals may take this share of what is free when a run begins …"""
BYTES_MAX_LEAST = 1 << 30
"""… but at least so much."""
LOOK_INTERVAL_S = 30.0
"""Pause between two counts of what the root holds; in between only this process's own segments are counted."""
REFUSING_LOOK_INTERVAL_S = 1.0
FREE_ABOVE_SHARE, FREE_DOWN_TO_SHARE = 0.8, 0.7
"""Journals that are kept though they are durable make room when the root is fuller than the one, until it is at the other."""


class JournalRoom:
    """Refuses segments beyond the limit. `take` costs nothing on the disk; `look` counts, in the background.

    Several processes of a root each count all of it every 30 s, so that together they may be over the limit by what
    they open in between.
    """

    def __init__(
        self, root: Path, bytes_max: int, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.bytes_max = bytes_max or default_bytes_max(root)
        self._root = root
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._used_bytes = 0
        self._taken_bytes = 0
        """All that was ever taken."""
        self._look_time_s = 0.0
        self._is_refusing = False

    def take(self, size_bytes: int, *, is_refusable: bool = True) -> None:
        """Counts a new segment; raises OSError (EDQUOT) if it is one too many and may be refused."""
        with self._lock:
            if is_refusable and self._used_bytes + size_bytes > self.bytes_max:
                if not self._is_refusing:
                    self._is_refusing, self._look_time_s = True, 0.0
                raise OSError(
                    errno.EDQUOT,
                    f"the journals in {self._root} take {bytes_text(self._used_bytes)} and may take "
                    f"{bytes_text(self.bytes_max)} (RUNYARD_JOURNAL_BYTES_MAX)",
                )
            self._used_bytes += size_bytes
            self._taken_bytes += size_bytes

    def look(self) -> None:
        """Counts what the root holds, if it is time; frees what is kept though it is durable where room is scarce."""
        now_s = self._monotonic()
        if now_s < self._look_time_s:
            return
        with self._lock:
            taken_before = self._taken_bytes
        used_bytes = journal_bytes(self._root)
        if used_bytes > FREE_ABOVE_SHARE * self.bytes_max or self._is_refusing:
            used_bytes -= free_kept(
                self._root, used_bytes - int(FREE_DOWN_TO_SHARE * self.bytes_max)
            )
        with self._lock:
            # What was taken meanwhile may not have been seen; if it was, the next look puts that right.
            used_bytes += self._taken_bytes - taken_before
            self._used_bytes = used_bytes
            is_scarce = self._is_refusing and used_bytes > FREE_ABOVE_SHARE * self.bytes_max
            self._is_refusing = is_scarce
            self._look_time_s = now_s + (REFUSING_LOOK_INTERVAL_S if is_scarce else LOOK_INTERVAL_S)


def default_bytes_max(root: Path) -> int:
    """Returns the limit where none is set: a fifth of what is free there now, at least 1 GiB."""
    try:
        free_bytes = shutil.disk_usage(root).free
    except OSError:
        free_bytes = 0
    return max(BYTES_MAX_LEAST, int(free_bytes * FREE_SHARE))


def journal_bytes(root: Path) -> int:
    """Returns what the segments of all runs of a root take on the disk."""
    total = 0
    try:
        folders = [entry.path for entry in os.scandir(root) if entry.name.startswith("run-")]
    except OSError:
        return 0
    for folder in (f"{folder}/{journal}" for folder in folders for journal in JOURNAL_FOLDERS):
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    total += getattr(status, "st_blocks", -(-status.st_size // 512)) * 512
        except OSError:  # complete and cleaned, or just going; or nothing of the console is kept
            continue
    return total


def free_kept(root: Path, wanted_bytes: int) -> int:
    """Removes kept segments of whole complete runs, the oldest first, until enough is free; returns what was freed."""
    if wanted_bytes <= 0:
        return 0
    found = []
    for segment in root.glob("run-*/journal/00000001.seg"):
        folder = segment.parent.parent
        mark = _read_mark(folder)
        if mark.get("is_complete") and is_whole(mark):
            found.append((int(mark.get("update_unix_ns") or 0), folder))
    freed = 0
    for _, folder in sorted(found):
        freed += remove_segments(folder)
        if freed >= wanted_bytes:
            break
    return freed


def is_whole(mark: Mapping[str, Any]) -> bool:
    """Returns whether the disk holds nothing that the server of a complete run lacks: nothing was refused, nothing failed."""
    lacking = ("refused_ranges", "refused_unlisted", "files_failed", "artifacts_failed")
    return not any(mark.get(name) for name in lacking)


def remove_segments(folder: Path) -> int:
    """Removes the journals of a run folder; returns the bytes that were freed."""
    freed = 0
    for segment in sorted(s for name in JOURNAL_FOLDERS for s in folder.glob(f"{name}/*.seg")):
        try:
            size_bytes = segment.stat().st_size
            segment.unlink()
        except OSError:
            continue
        freed += size_bytes
    return freed


def _read_mark(folder: Path) -> Mapping[str, Any]:
    try:
        fields = json.loads((folder / "mark.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return fields if isinstance(fields, dict) else {}
