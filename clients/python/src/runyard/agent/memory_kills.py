"""Tells whether memory pressure killed a process, from the kernel's counters of such kills around its end."""

# Paths are texts here: see ports.Disk.
# ruff: noqa: PTH123

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping

_WORD = "oom_kill"


SHARED_S = 0.4
"""How long a counter that was read serves the looks at other processes."""
KEPT_COUNT_MAX = 1000
_kept_counts: dict[str, tuple[float, int | None]] = {}

LOOK_COUNT = 4
"""Looks that are kept: a process with much memory takes a while to die, and its kill is counted before that."""


class MemoryKills:
    """Counts kills for want of memory in the groups of one process and on its machine.

    A kill counts if it came after the oldest look that is kept: an older one was of somebody else.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._looks: deque[Mapping[str, int]] = deque(maxlen=LOOK_COUNT)
        self.look()

    def look(self) -> None:
        """Notes the counters as they are while the process lives."""
        counts = {path: _recent_count(path) for path in _counter_paths(self._pid)}
        self._looks.append({path: count for path, count in counts.items() if count is not None})

    def evidence(self) -> str:
        """Returns which counter rose since; "" if none did. The narrowest is named."""
        newest, oldest = self._looks[-1], self._looks[0]
        for path in newest:  # the process may have been moved to another group meanwhile
            before, now = oldest.get(path, newest[path]), _count(path)
            if now is not None and now > before:
                return f"{_WORD} rose from {before} to {now} in {path}"
        return ""


def _counter_paths(pid: int) -> list[str]:
    """Returns the files that count such kills, from the process's own group to the whole machine."""
    paths = []
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8") as file:
            lines = file.read().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if not controllers:  # cgroup v2
            paths.append(f"/sys/fs/cgroup{group.rstrip('/')}/memory.events")
        elif "memory" in controllers.split(","):
            paths.append(f"/sys/fs/cgroup/memory{group.rstrip('/')}/memory.oom_control")
    return [*paths, "/proc/vmstat"]


def _recent_count(path: str) -> int | None:
    """Returns the count as it was within SHARED_S: the processes of a node look at the same few files."""
    now_s = time.monotonic()
    kept = _kept_counts.get(path)
    if kept is None or now_s - kept[0] > SHARED_S:
        if len(_kept_counts) >= KEPT_COUNT_MAX:
            _kept_counts.clear()
        kept = _kept_counts[path] = now_s, _count(path)
    return kept[1]


def _count(path: str) -> int | None:
    try:
        with open(path, encoding="ascii") as file:
            for line in file:
                name, _, value = line.partition(" ")
                if name == _WORD:
                    return int(value)
    except (OSError, ValueError):
        return None
    return None
