"""Reads machine and processes through psutil, where there is no /proc."""

from __future__ import annotations

from typing import Any

from runyard.agent.system.readings import NodeReading, ProcessReading

TICKS_PER_S = 100
DISK_COUNT_MAX = 16
_LOOPBACK = ("lo", "Loopback")


class PsutilMachine:
    """The machine as psutil sees it; a part that the system does not offer is absent."""

    def __init__(self) -> None:
        import psutil

        self._psutil: Any = psutil

    def read_node(self) -> NodeReading:
        """See Machine."""
        times = self._asked("cpu_times")
        memory = self._asked("virtual_memory")
        loads = self._asked("getloadavg")
        disks = self._asked("disk_io_counters", perdisk=True) or {}
        total_s = sum(times) if times else None
        return NodeReading(
            cpu_busy_s=total_s - times.idle if total_s is not None else None,
            cpu_total_s=total_s,
            cpu_count=self._asked("cpu_count"),
            load_1m=loads[0] if loads else None,
            load_5m=loads[1] if loads else None,
            memory_total_bytes=memory.total if memory else None,
            memory_available_bytes=memory.available if memory else None,
            disk_bytes={
                name: (row.read_bytes, row.write_bytes)
                for name, row in list(disks.items())[:DISK_COUNT_MAX]
            },
            network_bytes={
                name: (row.bytes_sent, row.bytes_recv)
                for name, row in (self._asked("net_io_counters", pernic=True) or {}).items()
                if not name.startswith(_LOOPBACK)
            },
        )

    def read_processes(self) -> dict[int, ProcessReading]:
        """See Machine."""
        processes = {}
        for process in self._asked("process_iter") or ():
            reading = self._process(process)
            if reading is not None:
                processes[reading.pid] = reading
        return processes

    def disk_bytes_of(self, pid: int) -> tuple[int, int] | None:
        """See Machine."""
        try:
            counters = self._psutil.Process(pid).io_counters()
            return counters.read_bytes, counters.write_bytes
        except (AttributeError, OSError, self._psutil.Error):
            return None

    def _process(self, process: Any) -> ProcessReading | None:
        try:
            with process.oneshot():
                times, is_zombie = process.cpu_times(), process.status() == "zombie"
                return ProcessReading(
                    pid=process.pid,
                    parent_pid=process.ppid(),
                    start_ticks=round(process.create_time() * TICKS_PER_S),
                    is_zombie=is_zombie,
                    cpu_s=times.user + times.system,
                    reaped_cpu_s=0.0,
                    thread_count=process.num_threads(),
                    rss_bytes=process.memory_info().rss,
                )
        except (OSError, self._psutil.Error):
            return None

    def _asked(self, name: str, **arguments: bool) -> Any:
        """Returns what psutil answers; None where it has no such function or the system refuses."""
        try:
            return getattr(self._psutil, name)(**arguments)
        except (AttributeError, NotImplementedError, OSError, self._psutil.Error):
            return None
