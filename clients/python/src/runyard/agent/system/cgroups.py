"""Reads the limits of memory and CPU that the control groups of a process set, and how much of them is used."""

from __future__ import annotations

import dataclasses

from runyard.agent.system.linux import read_text

DEPTH_MAX = 32
KEPT_COUNT_MAX = 1000


@dataclasses.dataclass(frozen=True)
class MemoryLimit:
    """The tightest limit of memory, and what the group that has it uses."""

    limit_bytes: int
    used_bytes: int
    """Without pages of files that nobody used lately: the kernel takes those back before it kills."""


@dataclasses.dataclass(frozen=True)
class CpuLimit:
    """The tightest limit of CPU, and what the group that has it used since it was made."""

    limit_cores: float
    used_s: float
    group: str


@dataclasses.dataclass(frozen=True)
class GroupLimits:
    """What the groups of a process leave it; None where they set no limit."""

    memory: MemoryLimit | None = None
    cpu: CpuLimit | None = None


class Groups:
    """The control groups at one moment: processes of one group are answered from one look."""

    def __init__(self, proc_root: str = "/proc", cgroup_root: str = "/sys/fs/cgroup") -> None:
        self._proc_root = proc_root
        self._root = cgroup_root
        self._kept: dict[str, GroupLimits] = {}

    def limits_of(self, pid: int) -> GroupLimits:
        """Returns the tightest limits from the process's own group up to the root."""
        text = read_text(f"{self._proc_root}/{pid}/cgroup")
        limits = self._kept.get(text)
        if limits is None:
            limits = self._look(text)
            if len(self._kept) < KEPT_COUNT_MAX:
                self._kept[text] = limits
        return limits

    def _look(self, text: str) -> GroupLimits:
        memory: list[MemoryLimit] = []
        cpu: list[CpuLimit] = []
        for line in text.splitlines()[:DEPTH_MAX]:
            _, _, rest = line.partition(":")
            controllers, _, group = rest.partition(":")
            names = controllers.split(",")
            for above in _upwards(group):
                if not controllers:
                    memory += _memory_v2(self._root + above)
                    cpu += _cpu_v2(self._root + above)
                elif "memory" in names:
                    memory += _memory_v1(f"{self._root}/memory{above}")
                elif "cpu" in names:
                    cpu += _cpu_v1(self._root, above)
        return GroupLimits(
            memory=min(memory, key=lambda limit: limit.limit_bytes) if memory else None,
            cpu=min(cpu, key=lambda limit: limit.limit_cores) if cpu else None,
        )


def _upwards(group: str) -> list[str]:
    """Returns the group and those above it, the root ("") last.

    A container may see only its own group, mounted as the root: then the folders above are not there and read as empty.
    A path with ".." leads out of what is mounted: only the root is left.
    """
    parts = [part for part in group.split("/") if part]
    if ".." in parts:
        parts = []
    parts = parts[:DEPTH_MAX]
    return ["".join(f"/{part}" for part in parts[:depth]) for depth in range(len(parts), -1, -1)]


def _memory_v2(folder: str) -> list[MemoryLimit]:
    return _memory(folder, "memory.max", "memory.current", "inactive_file")


def _memory_v1(folder: str) -> list[MemoryLimit]:
    # "No limit" is 2**63 less a page there: more than any machine has, which the caller compares with.
    return _memory(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def _memory(folder: str, limit: str, used: str, inactive: str) -> list[MemoryLimit]:
    limit_bytes = _number(read_text(f"{folder}/{limit}"))
    used_bytes = _number(read_text(f"{folder}/{used}"))
    if not limit_bytes or used_bytes is None:
        return []
    inactive_bytes = _field(read_text(f"{folder}/memory.stat"), inactive) or 0
    return [MemoryLimit(limit_bytes, max(0, used_bytes - inactive_bytes))]


def _cpu_v2(folder: str) -> list[CpuLimit]:
    quota, _, period = read_text(f"{folder}/cpu.max").strip().partition(" ")
    used_us = _field(read_text(f"{folder}/cpu.stat"), "usage_usec")
    return _cpu(folder, _number(quota), _number(period), used_us)


def _cpu_v1(root: str, group: str) -> list[CpuLimit]:
    folder = f"{root}/cpu{group}"
    quota_us = _number(read_text(f"{folder}/cpu.cfs_quota_us"))  # -1: no limit
    period_us = _number(read_text(f"{folder}/cpu.cfs_period_us"))
    used_ns = _number(read_text(f"{root}/cpuacct{group}/cpuacct.usage"))
    return _cpu(folder, quota_us, period_us, None if used_ns is None else used_ns // 1000)


def _cpu(
    folder: str, quota_us: int | None, period_us: int | None, used_us: int | None
) -> list[CpuLimit]:
    if not quota_us or not period_us or used_us is None:
        return []
    return [CpuLimit(quota_us / period_us, used_us / 1e6, folder)]


def _number(text: str) -> int | None:
    """Returns the number; None for "max", "-1" and what is none."""
    text = text.strip()
    return int(text) if text.isdecimal() else None


def _field(text: str, name: str) -> int | None:
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return _number(value)
    return None
