"""Samples the machine once for all runs of a node, and each training process with its descendants.

    system = SystemSampler(disk_paths=("/", run_folder))
    process = ProcessSampler(pid)
    each 10 s:
        node = system.sample()
        points = process.sample(node)     # all that the run is to record
        points of GPUs of that process: GpuSample.of_processes(process.pids)

Rates are differences of two samples: the first has none.
"""

# Paths are texts here: see ports.Disk.
# ruff: noqa: PTH120

from __future__ import annotations

import dataclasses
import logging
import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping, Sequence

from runyard.agent.system.cgroups import CpuLimit, GroupLimits, Groups
from runyard.agent.system.readings import Machine, NodeReading, ProcessReading

TREE_SIZE_MAX = 10_000
MB = 1 << 20
GB = 1 << 30

_log = logging.getLogger("runyard.agent")


@dataclasses.dataclass(frozen=True)
class NodeSample:
    """The machine at one moment: its metrics, and what the samplers of processes need."""

    time_s: float
    """Of the sampler's monotonic clock."""
    metrics: Mapping[str, float]
    reading: NodeReading
    processes: Mapping[int, ProcessReading]
    children: Mapping[int, Sequence[int]]
    machine: Machine
    groups: Groups

    def tree_of(self, pid: int) -> list[ProcessReading]:
        """Returns the process and its descendants, parents first; [] if it is gone."""
        root = self.processes.get(pid)
        tree = [root] if root is not None else []
        seen = {pid}
        for parent in tree:  # grows while it is walked
            for child_pid in self.children.get(parent.pid, ()):
                child = self.processes[child_pid]
                # Processes are read one after the other: a parent's pid may be somebody else's by now, who is younger.
                if child_pid not in seen and child.start_ticks >= parent.start_ticks:
                    seen.add(child_pid)
                    if len(tree) < TREE_SIZE_MAX:
                        tree.append(child)
        return tree


class SystemSampler:
    """Samples the machine; `sample` is called by one thread at a time and blocks for as long as a disk takes to answer.

    `disk_paths` are folders: of each the disk is told, once.
    """

    def __init__(
        self,
        disk_paths: Sequence[str] = ("/",),
        *,
        proc_root: str = "/proc",
        cgroup_root: str = "/sys/fs/cgroup",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.failure_count = 0
        """Parts of samples that were left out because of an error that nobody foresaw."""
        self._disk_paths = list(dict.fromkeys(mount_of(path) for path in disk_paths))
        self._proc_root = proc_root
        self._cgroup_root = cgroup_root
        self._clock = clock
        self._machine = _machine(proc_root)
        self._last: NodeSample | None = None
        self._disk_totals: dict[str, tuple[int, int]] = {}
        self._network_total = (0, 0)

    def sample(self) -> NodeSample:
        """Returns the machine as it is now. Never raises: what cannot be read is absent."""
        time_s = self._clock()
        reading, processes = NodeReading(), dict[int, ProcessReading]()
        metrics: dict[str, float] = {}
        try:
            reading = self._machine.read_node()
            processes = self._machine.read_processes()
        except Exception as error:  # an odd system: the rest is told all the same
            self._note(error)
        elapsed_s = time_s - self._last.time_s if self._last is not None else 0.0
        for part in (self._cpu, self._memory, self._space, self._disks, self._network):
            try:
                metrics.update(part(reading, elapsed_s))
            except Exception as error:  # the other parts are told all the same
                self._note(error)
        children: dict[int, list[int]] = {}
        for process in processes.values():
            children.setdefault(process.parent_pid, []).append(process.pid)
        groups = Groups(self._proc_root, self._cgroup_root)
        self._last = NodeSample(
            time_s, metrics, reading, processes, children, self._machine, groups
        )
        return self._last

    def _note(self, error: Exception) -> None:
        self.failure_count += 1
        _log.debug("system_metrics_not_sampled %s: %s", type(error).__name__, error)

    def _cpu(self, reading: NodeReading, elapsed_s: float) -> dict[str, float]:
        metrics = _known({"system/load.1m": reading.load_1m, "system/load.5m": reading.load_5m})
        last = self._last.reading if self._last is not None else NodeReading()
        busy_s = _difference(reading.cpu_busy_s, last.cpu_busy_s)
        total_s = _difference(reading.cpu_total_s, last.cpu_total_s)
        if busy_s is not None and total_s:
            # Idle time may run backwards (proc_stat(5)).
            metrics["system/cpu"] = min(100.0, 100 * busy_s / total_s)
        return metrics

    def _memory(self, reading: NodeReading, elapsed_s: float) -> dict[str, float]:
        total, available = reading.memory_total_bytes, reading.memory_available_bytes
        if not total or available is None:
            return {}
        return _memory_metrics(total, total - available, available)

    def _space(self, reading: NodeReading, elapsed_s: float) -> dict[str, float]:
        metrics = {}
        for path in self._disk_paths:
            try:
                usage = shutil.disk_usage(path)
            except OSError:
                continue
            if usage.used + usage.free:  # without what is kept for root, as df tells it
                share = usage.used / (usage.used + usage.free)
                metrics[f"system/disk.{path}.usagePercent"] = 100 * share
                metrics[f"system/disk.{path}.usageGB"] = usage.used / GB
        return metrics

    def _disks(self, reading: NodeReading, elapsed_s: float) -> dict[str, float]:
        metrics = {}
        last = self._last.reading.disk_bytes if self._last is not None else {}
        for device, grown in _growth(reading.disk_bytes, last).items():
            total = _sum(self._disk_totals.get(device, (0, 0)), grown)
            self._disk_totals[device] = total
            metrics[f"system/disk.{device}.in"] = total[0] / MB
            metrics[f"system/disk.{device}.out"] = total[1] / MB
            if elapsed_s > 0 and device in last:
                metrics[f"system/disk.{device}.inRate"] = grown[0] / elapsed_s
                metrics[f"system/disk.{device}.outRate"] = grown[1] / elapsed_s
        return metrics

    def _network(self, reading: NodeReading, elapsed_s: float) -> dict[str, float]:
        if not reading.network_bytes:
            return {}
        last = self._last.reading.network_bytes if self._last is not None else {}
        grown = (0, 0)
        for moved in _growth(reading.network_bytes, last).values():
            grown = _sum(grown, moved)
        self._network_total = _sum(self._network_total, grown)
        metrics: dict[str, float] = {
            "system/network.sent": self._network_total[0],
            "system/network.recv": self._network_total[1],
        }
        if elapsed_s > 0 and last:
            metrics["system/network.sentRate"] = grown[0] / elapsed_s
            metrics["system/network.recvRate"] = grown[1] / elapsed_s
        return metrics


class ProcessSampler:
    """Samples one training process with its descendants.

    `start_ticks` says which process is meant (as writer.lock does); without it, whoever has the pid at the first sample.
    """

    def __init__(self, pid: int, *, start_ticks: int | None = None) -> None:
        self.pids: frozenset[int] = frozenset()
        """The process and its descendants at the last sample; empty when it is gone."""
        self.failure_count = 0
        """Samples that were left out because of an error that nobody foresaw."""
        self._pid = pid
        self._start_ticks = start_ticks
        self._last_time_s: float | None = None
        self._last_tree: dict[tuple[int, int], ProcessReading] = {}
        self._last_cpu: CpuLimit | None = None
        self._disk_bytes: dict[tuple[int, int], tuple[int, int]] = {}
        self._disk_last: tuple[int, int] | None = None
        self._disk_total = (0, 0)

    def sample(self, node: NodeSample) -> dict[str, float]:
        """Returns all that the run is to record: the node's metrics, and the process's own.

        CPU and memory of the node are those of the process's control group where that limits them. {} once the process
        is gone, or its pid is another's. Never raises; a repeat with the same node has no rates.
        """
        try:
            return self._sample(node)
        except Exception as error:  # an odd system: training and agent go on
            self.failure_count += 1
            _log.debug("process_not_sampled %s: %s", type(error).__name__, error)
            return {}

    def _sample(self, node: NodeSample) -> dict[str, float]:
        root = node.processes.get(self._pid)
        if self._start_ticks is None and root is not None:
            self._start_ticks = root.start_ticks
        if root is None or root.is_zombie or root.start_ticks != self._start_ticks:
            self.pids = frozenset()
            return {}
        tree = node.tree_of(self._pid)
        self.pids = frozenset(process.pid for process in tree)
        limits = node.groups.limits_of(self._pid)
        elapsed_s = node.time_s - self._last_time_s if self._last_time_s is not None else 0.0
        metrics = dict(node.metrics)
        metrics.update(_tree_metrics(tree, _memory_limit_bytes(node, limits)))
        self._replace_cpu(metrics, node, limits, elapsed_s)
        self._replace_memory(metrics, node, limits)
        if elapsed_s > 0:
            metrics["system/proc.cpu"] = 100 * cpu_growth_s(self._last_tree, tree) / elapsed_s
        metrics.update(self._disk_metrics(tree, node.machine, elapsed_s))
        self._last_time_s = node.time_s
        self._last_tree = {(p.pid, p.start_ticks): p for p in tree}
        return metrics

    def _replace_cpu(
        self, metrics: dict[str, float], node: NodeSample, limits: GroupLimits, elapsed_s: float
    ) -> None:
        cpu, last = limits.cpu, self._last_cpu
        self._last_cpu = cpu
        if cpu is None or cpu.limit_cores >= (node.reading.cpu_count or float("inf")):
            return
        metrics.pop("system/cpu", None)
        if last is not None and last.group == cpu.group and elapsed_s > 0:
            used_s = max(0.0, cpu.used_s - last.used_s)
            metrics["system/cpu"] = 100 * used_s / (elapsed_s * cpu.limit_cores)

    def _replace_memory(
        self, metrics: dict[str, float], node: NodeSample, limits: GroupLimits
    ) -> None:
        limit_bytes = _memory_limit_bytes(node, limits)
        if limits.memory is None or limit_bytes != limits.memory.limit_bytes:
            return
        used = limits.memory.used_bytes
        available = max(0, limit_bytes - used)
        if node.reading.memory_available_bytes is not None:
            available = min(available, node.reading.memory_available_bytes)
        metrics.update(_memory_metrics(limit_bytes, used, available))

    def _disk_metrics(
        self, tree: Sequence[ProcessReading], machine: Machine, elapsed_s: float
    ) -> dict[str, float]:
        """Returns what the tree moved. Of a process that may not be read any more (a zombie), the last look counts."""
        kept, self._disk_bytes = self._disk_bytes, {}
        now = (0, 0)
        for process in tree:
            identity = process.pid, process.start_ticks
            moved = machine.disk_bytes_of(process.pid) or kept.get(identity)
            if moved is not None:
                self._disk_bytes[identity] = moved
                now = _sum(now, moved)
        if not self._disk_bytes:
            return {}
        # A descendant that its parent does not wait for takes its bytes along: nothing is subtracted.
        last = self._disk_last
        grown = _grown(now, last) if last is not None else now
        self._disk_total = _sum(self._disk_total, grown)
        self._disk_last = now
        metrics: dict[str, float] = {
            "system/proc.disk.readBytes": self._disk_total[0],
            "system/proc.disk.writeBytes": self._disk_total[1],
        }
        if last is not None and elapsed_s > 0:
            metrics["system/proc.disk.readRate"] = grown[0] / elapsed_s
            metrics["system/proc.disk.writeRate"] = grown[1] / elapsed_s
        return metrics


def mount_of(path: str) -> str:
    """Returns the root of the mount that holds the path."""
    path = os.path.realpath(path)
    while not os.path.ismount(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


def cpu_growth_s(
    last: Mapping[tuple[int, int], ProcessReading], tree: Sequence[ProcessReading]
) -> float:
    """Returns the CPU time that the tree used since `last`, its members by pid and start.

    Two sums that are never too high: what the living used, and the rise of all time with that of reaped descendants. The
    first leaves out who ended meanwhile, the second falls when somebody ends whom no member of the tree waits for.
    """
    own_s = total_s = 0.0
    for process in tree:
        before = last.get((process.pid, process.start_ticks))
        own_s += process.cpu_s - (before.cpu_s if before is not None else 0.0)
        total_s += process.cpu_s + process.reaped_cpu_s
    total_s -= sum(process.cpu_s + process.reaped_cpu_s for process in last.values())
    return max(0.0, own_s, total_s)


def _machine(proc_root: str) -> Machine:
    if platform.system() == "Linux":
        from runyard.agent.system.linux import LinuxMachine

        return LinuxMachine(proc_root)
    from runyard.agent.system.elsewhere import PsutilMachine

    return PsutilMachine()


def _tree_metrics(tree: Sequence[ProcessReading], memory_bytes: int | None) -> dict[str, float]:
    living = [process for process in tree if not process.is_zombie]
    rss_bytes = sum(process.rss_bytes for process in living)
    metrics: dict[str, float] = {
        "system/proc.count": len(living),
        "system/proc.cpu.threads": sum(process.thread_count for process in living),
        "system/proc.memory.rssMB": rss_bytes / MB,
    }
    if memory_bytes:
        metrics["system/proc.memory.percent"] = 100 * rss_bytes / memory_bytes
    return metrics


def _memory_limit_bytes(node: NodeSample, limits: GroupLimits) -> int | None:
    """Returns how much memory there is for the process: the machine's, or less."""
    total = node.reading.memory_total_bytes
    if limits.memory is None:
        return total
    return min(total or limits.memory.limit_bytes, limits.memory.limit_bytes)


def _memory_metrics(total_bytes: int, used_bytes: int, available_bytes: int) -> dict[str, float]:
    return {
        "system/memory_percent": 100 * used_bytes / total_bytes,
        "system/memory.usedBytes": used_bytes,
        "system/proc.memory.availableMB": available_bytes / MB,
    }


def _known(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None}


def _difference(now: float | None, before: float | None) -> float | None:
    return max(0.0, now - before) if now is not None and before is not None else None


def _growth(
    now: Mapping[str, tuple[int, int]], last: Mapping[str, tuple[int, int]]
) -> dict[str, tuple[int, int]]:
    """Returns by how much each pair of counters grew; by nothing if it is new or began anew."""
    return {name: _grown(pair, last.get(name, pair)) for name, pair in now.items()}


def _grown(now: tuple[int, int], last: tuple[int, int]) -> tuple[int, int]:
    return max(0, now[0] - last[0]), max(0, now[1] - last[1])


def _sum(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return one[0] + other[0], one[1] + other[1]
