"""Reads machine and processes from /proc: each file once a sample, as the agent may look at thousands of processes."""

# Paths are texts here: a path object costs as much as reading the file.
# ruff: noqa: PTH123, PTH208

from __future__ import annotations

import os
import re

from runyard.agent.system.readings import NodeReading, ProcessReading

SECTOR_BYTES = 512
"""Unit of /proc/diskstats, whatever the device (Documentation/admin-guide/iostats.rst)."""
DISK_COUNT_MAX = 16
INTERFACE_COUNT_MAX = 64
STAT_BYTES_MAX = 4096
_WHOLE_DISK = re.compile(
    r"(?:(?:sd|vd|xvd|hd)[a-z]+|nvme\d+n\d+|mmcblk\d+|nbd\d+|rbd\d+|pmem\d+|dasd[a-z]+)\Z"
)
"""Neither partitions nor what lies above other disks (loop, dm, md): their bytes would count twice."""
_INNER_INTERFACE = re.compile(
    r"lo\Z|veth|docker|br-|virbr|cni|cali|flannel|cilium|lxc|tap|tun|ifb|dummy"
)
"""Loopback, and those between the machine and its own containers."""


class LinuxMachine:
    """The machine whose /proc is at `proc_root`."""

    def __init__(self, proc_root: str = "/proc") -> None:
        self._root = proc_root
        self._tick_s = 1 / (os.sysconf("SC_CLK_TCK") or 100)
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")

    def read_node(self) -> NodeReading:
        """See Machine."""
        busy_s, total_s, cpu_count = self._cpu()
        loads = _numbers(read_text(f"{self._root}/loadavg").split()[:2])
        memory = self._memory()
        return NodeReading(
            cpu_busy_s=busy_s,
            cpu_total_s=total_s,
            cpu_count=cpu_count,
            load_1m=loads[0] if loads else None,
            load_5m=loads[1] if len(loads) > 1 else None,
            memory_total_bytes=memory.get("MemTotal"),
            memory_available_bytes=memory.get("MemAvailable"),
            disk_bytes=self._disks(),
            network_bytes=self._network(),
        )

    def read_processes(self) -> dict[int, ProcessReading]:
        """See Machine."""
        processes = {}
        try:
            names = os.listdir(self._root)
        except OSError:
            return {}
        for name in names:
            if name.isdigit():
                reading = self._process(int(name))
                if reading is not None:
                    processes[reading.pid] = reading
        return processes

    def disk_bytes_of(self, pid: int) -> tuple[int, int] | None:
        """See Machine; only the owner of a process may read it."""
        fields: dict[str, str] = {}
        for line in _read_once(f"{self._root}/{pid}/io").decode("ascii", "replace").splitlines():
            name, _, value = line.partition(":")
            fields[name] = value
        try:
            return int(fields["read_bytes"]), int(fields["write_bytes"])
        except (KeyError, ValueError):
            return None

    def _process(self, pid: int) -> ProcessReading | None:
        text = _read_once(f"{self._root}/{pid}/stat")
        # Fields as in proc_pid_stat(5), from the third on; the second is a name that may hold anything.
        fields = text[text.rfind(b")") + 1 :].split()
        try:
            return ProcessReading(
                pid=pid,
                parent_pid=int(fields[1]),
                start_ticks=int(fields[19]),
                is_zombie=fields[0] in (b"Z", b"X"),
                cpu_s=(int(fields[11]) + int(fields[12])) * self._tick_s,
                reaped_cpu_s=(int(fields[13]) + int(fields[14])) * self._tick_s,
                thread_count=int(fields[17]),
                rss_bytes=int(fields[21]) * self._page_bytes,
            )
        except (IndexError, ValueError):  # gone meanwhile
            return None

    def _cpu(self) -> tuple[float | None, float | None, int | None]:
        lines = read_text(f"{self._root}/stat").splitlines()
        cores = sum(1 for line in lines if re.match(r"cpu\d", line))
        # user nice system idle iowait irq softirq steal; guest time is in user already.
        ticks = _numbers(lines[0].split()[1:9]) if lines and lines[0].startswith("cpu ") else []
        if len(ticks) < 4:
            return None, None, cores or None
        idle = sum(ticks[3:5])
        return (sum(ticks) - idle) * self._tick_s, sum(ticks) * self._tick_s, cores or None

    def _memory(self) -> dict[str, int]:
        fields = {}
        for line in read_text(f"{self._root}/meminfo").splitlines():
            name, _, rest = line.partition(":")
            if name in ("MemTotal", "MemAvailable"):
                value = rest.split()
                if value and value[0].isdigit():
                    fields[name] = int(value[0]) * 1024
        return fields

    def _disks(self) -> dict[str, tuple[int, int]]:
        disks: dict[str, tuple[int, int]] = {}
        for line in read_text(f"{self._root}/diskstats").splitlines():
            fields = line.split()
            if len(fields) > 9 and _WHOLE_DISK.match(fields[2]) and len(disks) < DISK_COUNT_MAX:
                sectors = _numbers([fields[5], fields[9]])
                if len(sectors) == 2:
                    disks[fields[2]] = (
                        int(sectors[0]) * SECTOR_BYTES,
                        int(sectors[1]) * SECTOR_BYTES,
                    )
        return disks

    def _network(self) -> dict[str, tuple[int, int]]:
        interfaces: dict[str, tuple[int, int]] = {}
        for line in read_text(f"{self._root}/net/dev").splitlines():
            name, colon, rest = line.strip().partition(":")
            fields = rest.split()
            if not colon or len(fields) < 9 or _INNER_INTERFACE.match(name):
                continue
            bytes_moved = _numbers([fields[8], fields[0]])
            if len(bytes_moved) == 2 and len(interfaces) < INTERFACE_COUNT_MAX:
                interfaces[name] = int(bytes_moved[0]), int(bytes_moved[1])
        return interfaces


def read_text(path: str) -> str:
    """Returns the whole file; "" if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _read_once(path: str) -> bytes:
    """Returns a small file of one process by one read; b"" if it cannot be read."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(number, STAT_BYTES_MAX)
    except OSError:
        return b""
    finally:
        os.close(number)


def _numbers(texts: list[str]) -> list[float]:
    """Returns the texts as numbers, [] if one is none."""
    try:
        return [float(text) for text in texts]
    except ValueError:
        return []
