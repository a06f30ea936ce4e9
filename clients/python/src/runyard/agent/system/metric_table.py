"""The table of all system metrics: what each is called, its unit and what it tells."""

from __future__ import annotations

import dataclasses
import functools
import re

PREFIX = "system/"


@dataclasses.dataclass(frozen=True)
class MetricInfo:
    """One metric, or one for each thing that stands in braces: {i} is a number, all others are names."""

    name_pattern: str
    unit: str
    """"%", "bytes", "MB" (2**20 bytes), "GB" (2**30 bytes), "bytes/s", "W", "°C", "MHz", or "" for a plain number."""
    description: str


METRICS: tuple[MetricInfo, ...] = tuple(
    MetricInfo(PREFIX + name, unit, description)
    for name, unit, description in (
        ("cpu", "%", "CPU in use: of the machine, or of the CPU limit of the process's control group"),
        ("load.1m", "", "Processes that run or want to, averaged over a minute"),
        ("load.5m", "", "Processes that run or want to, averaged over five minutes"),
        ("memory_percent", "%", "Memory in use: of the machine, or of the limit of the process's control group"),
        ("memory.usedBytes", "bytes", "Memory in use on the machine, or in the control group that limits it"),
        ("proc.memory.availableMB", "MB", "Memory that the process can still get"),
        ("proc.memory.rssMB", "MB", "Memory of the process and its descendants; shared pages count for each of them"),
        ("proc.memory.percent", "%", "The same, of the machine's memory or of the control group's limit"),
        ("proc.cpu", "%", "CPU of the process and its descendants; 100 is one core"),
        ("proc.cpu.threads", "", "Threads of the process and its descendants"),
        ("proc.count", "", "Processes: the training process and its descendants"),
        ("proc.disk.readBytes", "bytes", "Read from disks by the process and its descendants since they began"),
        ("proc.disk.writeBytes", "bytes", "Written to disks by the process and its descendants since they began"),
        ("proc.disk.readRate", "bytes/s", "Reading from disks by the process and its descendants"),
        ("proc.disk.writeRate", "bytes/s", "Writing to disks by the process and its descendants"),
        ("disk.{path}.usagePercent", "%", "Space in use on the disk that holds the path"),
        ("disk.{path}.usageGB", "GB", "Space in use on the disk that holds the path"),
        ("disk.{dev}.inRate", "bytes/s", "Reading from the device"),
        ("disk.{dev}.outRate", "bytes/s", "Writing to the device"),
        ("disk.{dev}.in", "MB", "Read from the device since sampling began"),
        ("disk.{dev}.out", "MB", "Written to the device since sampling began"),
        ("network.sent", "bytes", "Sent by the machine since sampling began"),
        ("network.recv", "bytes", "Received by the machine since sampling began"),
        ("network.sentRate", "bytes/s", "Sending by the machine"),
        ("network.recvRate", "bytes/s", "Receiving by the machine"),
        ("gpu.process.{i}.memoryAllocatedBytes", "bytes", "GPU memory of the process and its descendants"),
        ("gpu.process.{i}.memoryAllocated", "%", "The same, of the GPU's memory"),
        ("gpu.process.{i}.gpu", "%", "Time in which the GPU worked, for anybody; only of GPUs that the process uses"),
        ("gpu.{i}.gpu", "%", "Time in which the GPU worked"),
        ("gpu.{i}.memory", "%", "Time in which the GPU's memory was read or written"),
        ("gpu.{i}.memoryAllocated", "%", "GPU memory in use"),
        ("gpu.{i}.memoryAllocatedBytes", "bytes", "GPU memory in use"),
        ("gpu.{i}.temp", "°C", "Temperature of the GPU"),
        ("gpu.{i}.powerWatts", "W", "Power that the GPU draws"),
        ("gpu.{i}.powerPercent", "%", "Power that the GPU draws, of its limit"),
        ("gpu.{i}.enforcedPowerLimitWatts", "W", "Limit of the GPU's power"),
        ("gpu.{i}.smClock", "MHz", "Clock of the streaming multiprocessors"),
        ("gpu.{i}.memoryClock", "MHz", "Clock of the GPU's memory"),
        ("gpu.{i}.graphicsClock", "MHz", "Clock of the graphics engine"),
        ("gpu.{i}.correctedMemoryErrors", "", "Memory errors that were corrected since the driver was loaded"),
        ("gpu.{i}.uncorrectedMemoryErrors", "", "Memory errors that were not, since the driver was loaded"),
        ("gpu.{i}.fanSpeed", "%", "Speed of the fan that is wanted"),
        ("gpu.{i}.encoderUtilization", "%", "Time in which the video encoder worked"),
        ("gpu.{i}.pcieLinkGen", "", "Generation of PCIe in use"),
        ("gpu.{i}.pcieLinkWidth", "", "Lanes of PCIe in use"),
        ("gpu.{i}.pcieTxBytes", "bytes/s", "Sending over PCIe"),
        ("gpu.{i}.pcieRxBytes", "bytes/s", "Receiving over PCIe"),
        ("gpu.{i}.nvlinkTxBytes", "bytes/s", "Sending over all NVLinks"),
        ("gpu.{i}.nvlinkRxBytes", "bytes/s", "Receiving over all NVLinks"),
        ("openmetrics.{endpoint}.{metric}", "", "What an endpoint of the user's tells"),
    )
)  # fmt: skip
"""In this order a name is looked up: a pattern that holds another's names stands behind it."""


@functools.lru_cache(maxsize=4096)
def info_of(name: str) -> MetricInfo | None:
    """Returns the row that the metric's name is of; None if it is no system metric."""
    for info, pattern in _patterns():
        if pattern.match(name):
            return info
    return None


@functools.lru_cache(maxsize=1)
def _patterns() -> list[tuple[MetricInfo, re.Pattern[str]]]:
    return [(info, re.compile(_pattern(info.name_pattern), re.DOTALL)) for info in METRICS]


def _pattern(name_pattern: str) -> str:
    parts = re.split(r"(\{\w+\})", name_pattern)
    return "".join(_part(part) for part in parts) + r"\Z"


def _part(part: str) -> str:
    if part == "{i}":
        return r"\d+"
    return ".+" if part.startswith("{") else re.escape(part)
