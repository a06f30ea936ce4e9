"""The table of all system metrics: what each is called, its unit, the chart it is drawn in, and what it tells.

Agents sample them (clients/python/src/runyard/agent/system); whoever shows them learns all of this from ListSystemMetrics.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

PREFIX: Final = "system/"
_OF_PROCESS: Final = ("system/proc.", "system/gpu.process.")


class SystemSection(IntEnum):
    """Where a metric stands, in the order in which sections are shown; see query.v1.SystemSection."""

    OTHER = 0
    CPU = 1
    MEMORY = 2
    GPU = 3
    PROCESS = 4
    DISK = 5
    NETWORK = 6
    ENDPOINT = 7


@dataclass(frozen=True, slots=True)
class SystemMetricInfo:
    """One metric, or one for each thing that stands in braces: {i} is a number, all others are names.

    Metrics of one section that have the same title and unit are drawn in one chart; `item` tells them apart there.
    """

    name_pattern: str
    unit: str
    """"%", "bytes", "MB" (2**20 bytes), "GB" (2**30 bytes), "bytes/s", "W", "J", "°C", "MHz", or "" for a plain number."""
    section: SystemSection
    title: str
    item: str
    description: str

    @property
    def is_of_process(self) -> bool:
        """Returns whether it tells of one process of a run, and not of a node."""
        return self.name_pattern.startswith(_OF_PROCESS)


_Row = tuple[str, str, str, str, str]


def _rows(section: SystemSection, *rows: _Row) -> tuple[SystemMetricInfo, ...]:
    return tuple(
        SystemMetricInfo(PREFIX + name, unit, section, title, item, description)
        for name, unit, title, item, description in rows
    )


_CPU: Final = _rows(
    SystemSection.CPU,
    ("cpu", "%", "CPU in use", "", "CPU in use: of the machine, or of the CPU limit of the process's control group"),
    ("load.1m", "", "Load", "1 min", "Processes that run or want to, averaged over a minute"),
    ("load.5m", "", "Load", "5 min", "Processes that run or want to, averaged over five minutes"),
)  # fmt: skip
_MEMORY: Final = _rows(
    SystemSection.MEMORY,
    ("memory_percent", "%", "Memory in use", "", "Memory in use: of the machine, or of the limit of the process's control group"),
    ("memory.usedBytes", "bytes", "Memory in use", "", "Memory in use on the machine, or in the control group that limits it"),
    ("proc.memory.availableMB", "MB", "Memory available", "", "Memory that the process can still get"),
)  # fmt: skip
_PROCESS: Final = _rows(
    SystemSection.PROCESS,
    ("proc.cpu", "%", "CPU", "", "CPU of the process and its descendants; 100 is one core"),
    ("proc.cpu.threads", "", "Threads", "", "Threads of the process and its descendants"),
    ("proc.count", "", "Processes", "", "Processes: the training process and its descendants"),
    ("proc.memory.rssMB", "MB", "Memory", "", "Memory of the process and its descendants; shared pages count for each of them"),
    ("proc.memory.percent", "%", "Memory", "", "Memory of the process and its descendants, of the machine's or of the control group's limit"),
    ("proc.disk.readRate", "bytes/s", "Disk I/O", "read", "Reading from disks by the process and its descendants"),
    ("proc.disk.writeRate", "bytes/s", "Disk I/O", "written", "Writing to disks by the process and its descendants"),
    ("proc.disk.readBytes", "bytes", "Disk I/O since the start", "read", "Read from disks by the process and its descendants since they began"),
    ("proc.disk.writeBytes", "bytes", "Disk I/O since the start", "written", "Written to disks by the process and its descendants since they began"),
)  # fmt: skip
_DISK: Final = _rows(
    SystemSection.DISK,
    ("disk.{path}.usagePercent", "%", "Space in use", "{path}", "Space in use on the disk that holds the path"),
    ("disk.{path}.usageGB", "GB", "Space in use", "{path}", "Space in use on the disk that holds the path"),
    ("disk.{dev}.inRate", "bytes/s", "Disk reads", "{dev}", "Reading from the device"),
    ("disk.{dev}.outRate", "bytes/s", "Disk writes", "{dev}", "Writing to the device"),
    ("disk.{dev}.in", "MB", "Disk reads since sampling began", "{dev}", "Read from the device since sampling began"),
    ("disk.{dev}.out", "MB", "Disk writes since sampling began", "{dev}", "Written to the device since sampling began"),
)  # fmt: skip
_NETWORK: Final = _rows(
    SystemSection.NETWORK,
    ("network.sentRate", "bytes/s", "Network traffic", "sent", "Sending by the machine"),
    ("network.recvRate", "bytes/s", "Network traffic", "received", "Receiving by the machine"),
    ("network.sent", "bytes", "Network traffic since sampling began", "sent", "Sent by the machine since sampling began"),
    ("network.recv", "bytes", "Network traffic since sampling began", "received", "Received by the machine since sampling began"),
)  # fmt: skip
_GPU: Final = _rows(
    SystemSection.GPU,
    ("gpu.process.{i}.memoryAllocatedBytes", "bytes", "GPU memory of the process", "GPU {i}", "GPU memory of the process and its descendants"),
    ("gpu.process.{i}.memoryAllocated", "%", "GPU memory of the process", "GPU {i}", "GPU memory of the process and its descendants, of the GPU's memory"),
    ("gpu.process.{i}.gpu", "%", "Utilization of the process's GPUs", "GPU {i}", "Time in which a GPU that the process uses worked, for anybody"),
    ("gpu.{i}.gpu", "%", "GPU utilization", "GPU {i}", "Time in which the GPU worked"),
    ("gpu.{i}.memory", "%", "GPU memory access", "GPU {i}", "Time in which the GPU's memory was read or written"),
    ("gpu.{i}.memoryAllocated", "%", "GPU memory in use", "GPU {i}", "GPU memory in use"),
    ("gpu.{i}.memoryAllocatedBytes", "bytes", "GPU memory in use", "GPU {i}", "GPU memory in use"),
    ("gpu.{i}.temp", "°C", "GPU temperature", "GPU {i}", "Temperature of the GPU"),
    ("gpu.{i}.memoryTemp", "°C", "GPU memory temperature", "GPU {i}", "Temperature of the GPU's memory"),
    ("gpu.{i}.powerWatts", "W", "GPU power", "GPU {i}", "Power that the GPU draws"),
    ("gpu.{i}.powerPercent", "%", "GPU power", "GPU {i}", "Power that the GPU draws, of its limit"),
    ("gpu.{i}.enforcedPowerLimitWatts", "W", "GPU power limit", "GPU {i}", "Limit of the GPU's power"),
    ("gpu.{i}.totalEnergyConsumption", "J", "GPU energy", "GPU {i}", "Energy that the GPU took since the driver was loaded"),
    ("gpu.{i}.smClock", "MHz", "GPU SM clock", "GPU {i}", "Clock of the streaming multiprocessors"),
    ("gpu.{i}.memoryClock", "MHz", "GPU memory clock", "GPU {i}", "Clock of the GPU's memory"),
    ("gpu.{i}.graphicsClock", "MHz", "GPU graphics clock", "GPU {i}", "Clock of the graphics engine"),
    ("gpu.{i}.fanSpeed", "%", "GPU fan", "GPU {i}", "Speed of the fan that is wanted"),
    ("gpu.{i}.encoderUtilization", "%", "GPU video encoder", "GPU {i}", "Time in which the video encoder worked"),
    ("gpu.{i}.smActive", "%", "SMs active", "GPU {i}", "Share of cycles in which an SM had work, averaged over SMs"),
    ("gpu.{i}.smOccupancy", "%", "SM occupancy", "GPU {i}", "Warps that are resident, of those that fit"),
    ("gpu.{i}.pipeTensorActive", "%", "Tensor pipe", "GPU {i}", "Share of cycles in which tensor cores worked"),
    ("gpu.{i}.pipeTensorHmmaActive", "%", "Tensor pipe, half precision", "GPU {i}", "Share of cycles in which tensor cores worked in half precision"),
    ("gpu.{i}.pipeFp64Active", "%", "FP64 pipe", "GPU {i}", "Share of cycles in which the pipe of 64-bit floats worked"),
    ("gpu.{i}.pipeFp32Active", "%", "FP32 pipe", "GPU {i}", "Share of cycles in which the pipe of 32-bit floats worked"),
    ("gpu.{i}.pipeFp16Active", "%", "FP16 pipe", "GPU {i}", "Share of cycles in which the pipe of 16-bit floats worked"),
    ("gpu.{i}.dramActive", "%", "GPU memory bandwidth", "GPU {i}", "Bandwidth of the GPU's memory in use"),
    ("gpu.{i}.pcieTxBytes", "bytes/s", "PCIe sending", "GPU {i}", "Sending over PCIe"),
    ("gpu.{i}.pcieRxBytes", "bytes/s", "PCIe receiving", "GPU {i}", "Receiving over PCIe"),
    ("gpu.{i}.nvlinkTxBytes", "bytes/s", "NVLink sending", "GPU {i}", "Sending over all NVLinks"),
    ("gpu.{i}.nvlinkRxBytes", "bytes/s", "NVLink receiving", "GPU {i}", "Receiving over all NVLinks"),
    ("gpu.{i}.pcieLinkGen", "", "PCIe generation", "GPU {i}", "Generation of PCIe in use"),
    ("gpu.{i}.pcieLinkWidth", "", "PCIe lanes", "GPU {i}", "Lanes of PCIe in use"),
    ("gpu.{i}.maxPcieLinkGen", "", "PCIe generation, at most", "GPU {i}", "Generation of PCIe that GPU and machine can do"),
    ("gpu.{i}.maxPcieLinkWidth", "", "PCIe lanes, at most", "GPU {i}", "Lanes of PCIe that GPU and machine can do"),
    ("gpu.{i}.correctedMemoryErrors", "", "GPU memory errors, corrected", "GPU {i}", "Memory errors that were corrected since the driver was loaded"),
    ("gpu.{i}.uncorrectedMemoryErrors", "", "GPU memory errors, uncorrected", "GPU {i}", "Memory errors that were not corrected, since the driver was loaded"),
)  # fmt: skip
_ENDPOINT: Final = _rows(
    SystemSection.ENDPOINT,
    ("openmetrics.{endpoint}.{metric}", "", "", "", "What an endpoint of the user's tells"),
)

METRICS: Final = (*_CPU, *_MEMORY, *_GPU, *_PROCESS, *_DISK, *_NETWORK, *_ENDPOINT)
"""In this order a name is looked up: a pattern that holds another's names stands behind it."""


@dataclass(frozen=True, slots=True)
class SystemMetricLabels:
    """What is shown of one metric; see query.v1.SystemMetricStats."""

    unit: str
    section: SystemSection
    title: str
    item: str
    description: str
    is_of_process: bool
    place: int
    """Position in the table: the order of charts within a section."""


@functools.lru_cache(maxsize=16_384)
def labels_of(name: str) -> SystemMetricLabels:
    """Returns how a metric is shown; one that the table does not have is shown by its name."""
    for place, (info, pattern) in enumerate(_patterns()):
        match = pattern.match(name)
        if match is None:
            continue
        title, item = _endpoint_labels(name) if not info.title else (info.title, info.item)
        for key, value in match.groupdict().items():
            item = item.replace(f"{{{key}}}", value)
        return SystemMetricLabels(
            info.unit, info.section, title, item, info.description, info.is_of_process, place
        )
    return SystemMetricLabels(
        "", SystemSection.OTHER, name.removeprefix(PREFIX), "", "", False, len(METRICS)
    )


def _endpoint_labels(name: str) -> tuple[str, str]:
    """Returns (title, item) of `system/openmetrics.ENDPOINT.METRIC{LABELS}`; without labels it ends in ".0"."""
    metric, brace, labels = name.removeprefix(PREFIX + "openmetrics.").partition("{")
    title = metric if brace else metric.removesuffix(".0")
    return title, labels.removesuffix("}") if brace else ""


@functools.lru_cache(maxsize=1)
def _patterns() -> list[tuple[SystemMetricInfo, re.Pattern[str]]]:
    return [(info, re.compile(_pattern(info.name_pattern), re.DOTALL)) for info in METRICS]


def _pattern(name_pattern: str) -> str:
    parts = re.split(r"(\{\w+\})", name_pattern)
    return "".join(_part(part) for part in parts) + r"\Z"


def _part(part: str) -> str:
    if part == "{i}":
        return r"(?P<i>\d+)"
    return f"(?P<{part[1:-1]}>.+)" if part.startswith("{") else re.escape(part)
