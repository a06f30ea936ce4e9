"""Which process this is, so that another one can be sure to watch it and no later process of its number."""

from __future__ import annotations

import json
import os
from pathlib import Path

_START_FIELD = 19
"""Of /proc/PID/stat behind the name: when the process started (field 22 of proc(5))."""


def own_identity() -> bytes:
    """Returns what writer.lock holds: pid, start, boot and pid namespace as JSON; only the pid where /proc is absent."""
    pid = os.getpid()
    fields: dict[str, object] = {"pid": pid}
    start_ticks = start_ticks_of(pid)
    if start_ticks is not None:
        fields.update(start_ticks=start_ticks, **surroundings())
    return json.dumps(fields).encode() + b"\n"


def surroundings() -> dict[str, str]:
    """Returns the boot and the pid namespace that pids seen from here belong to; {} where that cannot be known."""
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return {"boot_id": boot_id, "pid_namespace": os.readlink("/proc/self/ns/pid")}  # noqa: PTH115
    except OSError:
        return {}


def start_ticks_of(pid: int) -> int | None:
    """Returns when the process of that number started, in clock ticks after the boot; None if there is none."""
    fields = stat_fields(pid)
    return int(fields[_START_FIELD]) if len(fields) > _START_FIELD else None


def stat_fields(pid: int) -> list[str]:
    """Returns the fields of /proc/PID/stat from the state on (field 3 of proc(5)); [] if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text[text.rfind(")") + 1 :].split()
