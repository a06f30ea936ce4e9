"""Watches training processes by pidfd: wakes at once when one ends, and learns how from the kernel."""

# Paths are texts here: see ports.Disk.
# ruff: noqa: PTH116, PTH123

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import struct
import time
from typing import Callable

from runyard.agent import memory_kills
from runyard.agent.ports import ProcessEnd
from runyard.process_identity import start_ticks_of, stat_fields, surroundings

try:
    import fcntl
except ImportError:  # Windows has neither pidfds nor ioctl
    fcntl = None  # type: ignore[assignment]  # the module is absent there

# struct pidfd_info and PIDFD_GET_INFO of include/uapi/linux/pidfd.h (the exit code is told since Linux 6.15):
#   u64 mask, u64 cgroupid, u32 pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid, s32 exit_code
_INFO = struct.Struct("<QQ11Ii")
_GET_INFO = 3 << 30 | _INFO.size << 16 | 0xFF << 8 | 11
"""_IOWR(PIDFS_IOCTL_MAGIC, 11, struct pidfd_info)."""
_INFO_EXIT = 1 << 3
_STAT_STATE, _STAT_EXIT_CODE = 0, 49
"""Of /proc/PID/stat behind the name: fields 3 and 52 of proc(5)."""
STATUS_WAIT_S = 1.0
"""How long a process that has ended may stay without a status; the kernel has it once the parent has waited."""
STATUS_POLL_S = 0.02

_log = logging.getLogger("runyard.agent")


class LocalProcesses:
    """The processes of this machine; see ports.Processes. MUST be used on a running loop."""

    def __init__(self, time_unix_ns: Callable[[], int] = time.time_ns) -> None:
        self._time_unix_ns = time_unix_ns

    def watch(self, folder: str) -> PidWatch | None:
        """Opens a pidfd, then makes sure that it is of the process that wrote the lock."""
        identity = _read_identity(f"{folder}/writer.lock")
        pid, start_ticks = identity.get("pid"), identity.get("start_ticks")
        open_pidfd = getattr(os, "pidfd_open", None)
        if open_pidfd is None or not isinstance(pid, int) or not isinstance(start_ticks, int):
            return None
        here = surroundings()
        if not here or any(identity.get(name) != value for name, value in here.items()):
            return None
        try:
            number = open_pidfd(pid)
        except OSError:  # gone, or a kernel without pidfds
            return None
        if start_ticks_of(pid) != start_ticks:
            os.close(number)
            return None
        return PidWatch(number, pid, self._time_unix_ns)


class PidWatch:
    """One process by its pidfd; see ports.ProcessWatch."""

    def __init__(self, number: int, pid: int, time_unix_ns: Callable[[], int]) -> None:
        self._number = number
        self._pid = pid
        self._time_unix_ns = time_unix_ns
        self._end: ProcessEnd | None = None
        self._kills = memory_kills.MemoryKills(pid)
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._asking: asyncio.Task[None] | None = None
        self._loop.add_reader(number, self._wake)

    @property
    def end(self) -> ProcessEnd | None:
        """Returns how it ended."""
        return self._end

    async def wait(self, timeout_s: float) -> ProcessEnd | None:
        """Returns `end` as soon as it is known, or None after the time."""
        await asyncio.wait([self._ended], timeout=timeout_s)
        return self._end

    def look(self) -> None:
        """Reads the counters of processes that memory pressure killed."""
        if self._end is None and self._asking is None:
            self._kills.look()

    def send_signal(self, number: int) -> bool:
        """Sends a signal by the pidfd."""
        if self._end is not None or self._number < 0:
            return False
        try:
            signal.pidfd_send_signal(self._number, number)
        except ProcessLookupError:
            return False
        except OSError as error:
            _log.warning("signal_not_sent %d to %d: %s", number, self._pid, error)
            return False
        return True

    def close(self) -> None:
        """Closes the pidfd."""
        number, self._number = self._number, -1
        if self._asking is not None:
            self._asking.cancel()
        if number >= 0:
            self._loop.remove_reader(number)
            os.close(number)

    def _wake(self) -> None:
        self._loop.remove_reader(self._number)  # it stays readable for ever
        self._asking = self._loop.create_task(self._ask())

    async def _ask(self) -> None:
        """Sets `end`; the status may come a moment after the death, with the parent's wait()."""
        time_unix_ns = self._time_unix_ns()
        deadline_s = self._loop.time() + STATUS_WAIT_S
        status = self._status()
        while status is None and self._loop.time() < deadline_s:
            await asyncio.sleep(STATUS_POLL_S)
            status = self._status()
        self._end = self._describe(status, time_unix_ns)
        self._ended.set_result(None)
        _log.info("process_ended %d: %s", self._pid, self._end.evidence)

    def _status(self) -> int | None:
        """Returns the wait status: from the kernel's word on the pidfd, or from /proc while nobody has waited."""
        status = exit_status(self._number)
        if status is not None:
            return status
        fields = stat_fields(self._pid)
        if len(fields) <= _STAT_EXIT_CODE or fields[_STAT_STATE] not in ("Z", "X"):
            return None
        try:
            is_ours = os.geteuid() in (0, os.stat(f"/proc/{self._pid}").st_uid)
            signal.pidfd_send_signal(self._number, 0)  # else the number may be another's by now
        except OSError:
            return None
        return int(fields[_STAT_EXIT_CODE]) if is_ours else None  # others are shown a 0

    def _describe(self, status: int | None, time_unix_ns: int) -> ProcessEnd:
        who = f"process {self._pid}"
        if status is None:
            return ProcessEnd(None, None, False, f"{who} is gone", time_unix_ns)
        number = status & 0x7F
        if not number:
            code = status >> 8 & 0xFF
            text = f"{who} exited with code {code}"
            return ProcessEnd(code, None, False, text, time_unix_ns)
        core = ", core dumped" if status & 0x80 else ""
        evidence = f"{who} was ended by {signal_name(number)}{core}"
        kills = self._kills.evidence() if number == signal.SIGKILL else ""
        if kills:
            evidence = f"{who} was killed because memory ran out: {kills}"
        return ProcessEnd(None, number, bool(kills), evidence, time_unix_ns)


def exit_status(number: int) -> int | None:
    """Returns the wait status of the process behind a pidfd; None while it has none, or where the kernel is too old."""
    if fcntl is None:
        return None  # type: ignore[unreachable]  # reached on Windows
    request = bytearray(_INFO.size)
    struct.pack_into("<Q", request, 0, _INFO_EXIT)
    try:
        fcntl.ioctl(number, _GET_INFO, request)
    except OSError:
        return None
    fields = _INFO.unpack(request)
    return int(fields[-1]) if fields[0] & _INFO_EXIT else None


def signal_name(number: int) -> str:
    """Returns the name of a signal, and its number where that has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _read_identity(path: str) -> dict[str, object]:
    """Returns what the writer said of itself; {} for a lock of an older version."""
    try:
        with open(path, "rb") as file:
            fields = json.loads(file.read(4096) or b"{}")
    except (OSError, ValueError):
        return {}
    return fields if isinstance(fields, dict) else {}
