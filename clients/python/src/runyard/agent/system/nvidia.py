"""Samples NVIDIA GPUs through NVML: the package nvidia-ml-py, if it is there and finds a driver."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from typing import Any

from runyard.agent.system.gpu import GPU_COUNT_MAX, GpuSample, Questions
from runyard.agent.system.nvidia_gpm import Counters

LINK_SCOPE_ALL = 0xFFFFFFFF
"""Scope of a field of NVLink that means all links together (nvml.h, nvmlFieldValue_t)."""
_REFUSALS = (3, 4, 13)
"""NVML_ERROR_NOT_SUPPORTED, _NO_PERMISSION, _FUNCTION_NOT_FOUND: they stay until the driver is another."""

_log = logging.getLogger("runyard.agent")


def _utilization(nvml: Any, gpu: Any) -> dict[str, float]:
    rates = nvml.nvmlDeviceGetUtilizationRates(gpu)
    return {"gpu": rates.gpu, "memory": rates.memory}


def _memory(nvml: Any, gpu: Any) -> dict[str, float]:
    memory = nvml.nvmlDeviceGetMemoryInfo(gpu)
    share = {"memoryAllocated": 100 * memory.used / memory.total} if memory.total else {}
    return {"memoryAllocatedBytes": memory.used, **share}


def _errors(nvml: Any, gpu: Any, *, is_corrected: bool) -> float:
    kind = nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED
    if is_corrected:
        kind = nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED
    place = nvml.NVML_MEMORY_LOCATION_DEVICE_MEMORY
    count: float = nvml.nvmlDeviceGetMemoryErrorCounter(gpu, kind, nvml.NVML_VOLATILE_ECC, place)
    return count


def _one(name: str, ask: Callable[[Any, Any], float]) -> Callable[[Any, Any], dict[str, float]]:
    return lambda nvml, gpu: {name: ask(nvml, gpu)}


_QUESTIONS: tuple[Callable[[Any, Any], dict[str, float]], ...] = (
    _utilization,
    _memory,
    # Going out with CUDA 14, yet the one that old drivers have; the next is asked where it is gone.
    _one("temp", lambda nvml, gpu: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU)),
    _one("temp", lambda nvml, gpu: nvml.nvmlDeviceGetTemperatureV(gpu, nvml.NVML_TEMPERATURE_GPU)),
    _one("powerWatts", lambda nvml, gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000),
    _one(
        "enforcedPowerLimitWatts",
        lambda nvml, gpu: nvml.nvmlDeviceGetEnforcedPowerLimit(gpu) / 1000,
    ),
    _one("smClock", lambda nvml, gpu: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM)),
    _one("memoryClock", lambda nvml, gpu: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_MEM)),
    _one(
        "graphicsClock",
        lambda nvml, gpu: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_GRAPHICS),
    ),
    _one("correctedMemoryErrors", functools.partial(_errors, is_corrected=True)),
    _one("uncorrectedMemoryErrors", functools.partial(_errors, is_corrected=False)),
    _one("fanSpeed", lambda nvml, gpu: nvml.nvmlDeviceGetFanSpeed(gpu)),
    _one("encoderUtilization", lambda nvml, gpu: nvml.nvmlDeviceGetEncoderUtilization(gpu)[0]),
    _one("pcieLinkGen", lambda nvml, gpu: nvml.nvmlDeviceGetCurrPcieLinkGeneration(gpu)),
    _one("pcieLinkWidth", lambda nvml, gpu: nvml.nvmlDeviceGetCurrPcieLinkWidth(gpu)),
    _one("maxPcieLinkGen", lambda nvml, gpu: nvml.nvmlDeviceGetMaxPcieLinkGeneration(gpu)),
    _one("maxPcieLinkWidth", lambda nvml, gpu: nvml.nvmlDeviceGetMaxPcieLinkWidth(gpu)),
    _one(
        "totalEnergyConsumption",
        lambda nvml, gpu: nvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1000,
    ),
    # In KB/s, and each call watches the bus for 20 ms (nvml.h, nvmlDeviceGetPcieThroughput).
    _one(
        "pcieTxBytes",
        lambda nvml, gpu: (
            nvml.nvmlDeviceGetPcieThroughput(gpu, nvml.NVML_PCIE_UTIL_TX_BYTES) * 1000
        ),
    ),
    _one(
        "pcieRxBytes",
        lambda nvml, gpu: (
            nvml.nvmlDeviceGetPcieThroughput(gpu, nvml.NVML_PCIE_UTIL_RX_BYTES) * 1000
        ),
    ),
)
_LINK_FIELDS = (
    ("nvlinkTxBytes", "NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX"),
    ("nvlinkRxBytes", "NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX"),
)


def _field(nvml: Any, gpu: Any, field: int, scope: int = 0) -> Any:
    """Returns the value of one field; raises NVMLError where the GPU does not have it."""
    answer = nvml.nvmlDeviceGetFieldValues(gpu, [(field, scope)])[0]
    if answer.nvmlReturn:
        raise nvml.NVMLError(answer.nvmlReturn)
    return answer.value


def _memory_temperature(nvml: Any, gpu: Any) -> float:
    return float(_field(nvml, gpu, nvml.NVML_FI_DEV_MEMORY_TEMP).uiVal)


class NvidiaSampler:
    """Samples every NVIDIA GPU that may be seen; one thread at a time. No method raises.

    `library` is the module pynvml, imported at the first sample if none is given. Without it, a driver or a GPU there
    are no metrics, and it is not tried again. A sample blocks for some 40 ms a GPU, nearly without CPU.
    In a container the driver may tell pids of the host: then the metrics of processes are absent.
    """

    def __init__(self, library: Any = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._nvml = library
        self._clock = clock
        self._is_tried = False
        self._gpus: dict[int, Any] = {}
        self._questions = Questions(lambda error: getattr(error, "value", None), _REFUSALS)
        self._link_counts: dict[tuple[int, str], tuple[float, int]] = {}
        self._counters: dict[int, Counters] = {}

    def sample(self) -> GpuSample:
        """Returns what the GPUs do now; what a GPU does not tell is absent."""
        self._start()
        metrics: dict[str, float] = {}
        by_process: dict[int, dict[int, int | None]] = {}
        memory_bytes: dict[int, int] = {}
        for index, gpu in self._gpus.items():
            values = self._values(index, gpu)
            metrics.update({f"system/gpu.{index}.{name}": value for name, value in values.items()})
            by_process[index] = self._processes(index, gpu)
            if by_process[index]:
                total = self._questions.ask((index, "total"), self._memory_total, gpu)
                if total:
                    memory_bytes[index] = total
        return GpuSample(metrics, by_process, memory_bytes)

    def close(self) -> None:
        """Lets the driver go; later samples are empty."""
        for index, counters in self._counters.items():
            self._questions.ask((index, "counters", "close"), counters.close)
        self._counters = {}
        if self._gpus:
            self._gpus = {}
            self._questions.ask(("shutdown",), self._nvml.nvmlShutdown)
        self._is_tried = True

    def _start(self) -> None:
        if self._is_tried:
            return
        self._is_tried = True
        try:
            if self._nvml is None:
                import pynvml  # type: ignore[import-untyped,import-not-found,unused-ignore]  # the user's, if there

                self._nvml = pynvml
            self._nvml.nvmlInit()
            count = min(self._nvml.nvmlDeviceGetCount(), GPU_COUNT_MAX)
        except Exception as error:  # no package, no driver, or one that does not fit the other
            _log.debug("no_nvidia_gpus %s: %s", type(error).__name__, error)
            return
        for index in range(count):
            gpu = self._questions.ask((index,), self._nvml.nvmlDeviceGetHandleByIndex, index)
            if gpu is not None:
                self._gpus[index] = gpu

    def _values(self, index: int, gpu: Any) -> dict[str, float]:
        values: dict[str, float] = {}
        for number, question in enumerate(_QUESTIONS):
            for name, value in (
                self._questions.ask((index, number), question, self._nvml, gpu) or {}
            ).items():
                values.setdefault(name, value)
        limit = values.get("enforcedPowerLimitWatts")
        if limit and "powerWatts" in values:
            values["powerPercent"] = 100 * values["powerWatts"] / limit
        temperature = self._questions.ask(
            (index, "memoryTemp"), _memory_temperature, self._nvml, gpu
        )
        if temperature is not None:
            values["memoryTemp"] = temperature
        for name, field in _LINK_FIELDS:
            rate = self._questions.ask((index, name), self._link_rate, index, name, gpu, field)
            if rate is not None:
                values[name] = rate
        # What the GPU tells in other ways too is left as it is: from Hopper on these may be the only ones for NVLink.
        counted = self._questions.ask((index, "counters"), self._count, index, gpu) or {}
        return {**counted, **values}

    def _count(self, index: int, gpu: Any) -> dict[str, float]:
        counters = self._counters.get(index)
        if counters is None:
            counters = self._counters[index] = Counters(self._nvml, gpu)
        return counters.read()

    def _link_rate(self, index: int, name: str, gpu: Any, field: str) -> float | None:
        """Returns bytes/s over all links; None at first, or where the counter began anew."""
        count = _field(self._nvml, gpu, getattr(self._nvml, field), LINK_SCOPE_ALL)
        now_s, count_kib = self._clock(), int(count.ullVal)
        last_s, last_kib = self._link_counts.get((index, name), (now_s, count_kib))
        self._link_counts[index, name] = now_s, count_kib
        if now_s <= last_s or count_kib < last_kib:
            return None
        return (count_kib - last_kib) * 1024 / (now_s - last_s)

    def _processes(self, index: int, gpu: Any) -> dict[int, int | None]:
        rows = self._questions.ask(
            (index, "processes"), lambda: self._nvml.nvmlDeviceGetComputeRunningProcesses(gpu)
        )
        return {row.pid: row.usedGpuMemory for row in rows or ()}

    def _memory_total(self, gpu: Any) -> int:
        return int(self._nvml.nvmlDeviceGetMemoryInfo(gpu).total)
