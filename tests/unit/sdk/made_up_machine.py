"""A made-up /proc and control groups in a folder, for the samplers of system metrics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from runyard.agent.system.sampler import SystemSampler

TICK_S = 0.01


class MadeUpMachine:
    """Two cores, 1 GiB of memory of which 256 MiB are free, and the processes that a test gives it."""

    def __init__(self, folder: Path) -> None:
        self.proc = folder / "proc"
        self.cgroups = folder / "cgroup"
        self.now_s = 100.0
        self.write_cpu(busy=1000, idle=3000)
        self.write("proc/loadavg", "0.50 1.25 2.00 1/100 4711\n")
        self.write("proc/meminfo", "MemTotal: 1048576 kB\nMemFree: 1 kB\nMemAvailable: 262144 kB\n")

    def sampler(self, disk_paths: tuple[str, ...] = ()) -> SystemSampler:
        """Returns a sampler of this machine, by its clock."""
        return SystemSampler(
            disk_paths,
            proc_root=str(self.proc),
            cgroup_root=str(self.cgroups),
            clock=lambda: self.now_s,
        )

    def write(self, path: str, text: str) -> None:
        """Writes a file below the machine's folder, with its folders."""
        file = self.proc.parent / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def write_cpu(self, *, busy: int, idle: int) -> None:
        """Sets the counters of all cores together, in ticks; half of the idle ones waited for a disk."""
        line = f"cpu  {busy - 10} 2 3 {idle // 2} {idle - idle // 2} 1 2 2 99 99\n"
        self.write("proc/stat", f"{line}cpu0 1 1 1 1\ncpu1 1 1 1 1\nintr 5 6\n")

    def write_network(self, rows: Mapping[str, tuple[int, int]]) -> None:
        """Sets bytes sent and received, by interface."""
        lines = ["Inter-|   Receive  |  Transmit", " face |bytes packets|bytes packets"]
        for name, (sent, received) in rows.items():
            lines.append(f"{name:>6}: {received} 1 0 0 0 0 0 0 {sent} 1 0 0 0 0 0 0")
        self.write("proc/net/dev", "\n".join(lines) + "\n")

    def write_disks(self, rows: Mapping[str, tuple[int, int]]) -> None:
        """Sets sectors read and written, by device."""
        lines = [
            f"   8       0 {name} 1 2 {read} 3 4 5 {written} 6 0 7 8"
            for name, (read, written) in rows.items()
        ]
        self.write("proc/diskstats", "\n".join(lines) + "\n")

    def write_process(
        self,
        pid: int,
        *,
        parent: int = 1,
        start: int = 500,
        state: str = "S",
        cpu: int = 0,
        reaped: int = 0,
        io: tuple[int, int] | None = None,
    ) -> None:
        """Sets a process of 3 threads and 100 pages; `cpu` and `reaped` in ticks, `io` in bytes read and written."""
        fields = [state, parent, *[0] * 9, cpu, 0, reaped, 0, 20, 0, 3, 0, start, 9999, 100, 0, 0]
        name = "odd) S 1 (name"
        self.write(f"proc/{pid}/stat", f"{pid} ({name}) " + " ".join(map(str, fields)) + "\n")
        if io is not None:
            text = f"rchar: 9\nwchar: 9\nread_bytes: {io[0]}\nwrite_bytes: {io[1]}\n"
            self.write(f"proc/{pid}/io", text)

    def end_process(self, pid: int) -> None:
        """Takes a process away."""
        for file in (self.proc / str(pid)).iterdir():
            file.unlink()
        (self.proc / str(pid)).rmdir()
