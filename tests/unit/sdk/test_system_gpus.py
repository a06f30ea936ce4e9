"""The samplers of GPUs, on fakes of the vendors' libraries: what they answer, refuse and lack."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from runyard.agent.system.amd import AmdSampler
from runyard.agent.system.gpu import GpuSample
from runyard.agent.system.nvidia import LINK_SCOPE_ALL, NvidiaSampler
from runyard_server.domain.system_metrics import SystemSection, labels_of

GIB = 1 << 30
NOT_SUPPORTED, GPU_IS_LOST = 3, 15


def unknown(names: Iterable[str]) -> list[str]:
    """Returns the metrics that the server's table does not have."""
    return [name for name in names if labels_of(name).section == SystemSection.OTHER]


class NVMLError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.value = value


class FakeNvml:
    """As much of the module pynvml as is asked for: two GPUs of which each answers the same.

    `errors` are raised instead of answers, by function; `calls` counts what was asked.
    """

    NVMLError = NVMLError
    NVML_TEMPERATURE_GPU = 0
    NVML_CLOCK_GRAPHICS, NVML_CLOCK_SM, NVML_CLOCK_MEM = 0, 1, 2
    NVML_MEMORY_ERROR_TYPE_CORRECTED, NVML_MEMORY_ERROR_TYPE_UNCORRECTED = 0, 1
    NVML_VOLATILE_ECC, NVML_MEMORY_LOCATION_DEVICE_MEMORY = 0, 2
    NVML_PCIE_UTIL_TX_BYTES, NVML_PCIE_UTIL_RX_BYTES = 0, 1
    NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX = 138, 139
    NVML_FI_DEV_MEMORY_TEMP = 82

    def __init__(self, **errors: int) -> None:
        self.errors = errors
        self.calls: Counter[str] = Counter()
        self.link_kib = {138: 1000, 139: 2000}
        self.link_return = 0
        self.answers: dict[str, Any] = {
            "nvmlInit": None,
            "nvmlShutdown": None,
            "nvmlDeviceGetCount": 2,
            "nvmlSystemGetDriverVersion": b"550.54",
            "nvmlSystemGetCudaDriverVersion": 12040,
            "nvmlDeviceGetName": "Tensor 9000",
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=91, memory=40),
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=80 * GIB, used=20 * GIB),
            "nvmlDeviceGetTemperature": 61,
            "nvmlDeviceGetTemperatureV": 62,
            "nvmlDeviceGetPowerUsage": 350_000,
            "nvmlDeviceGetEnforcedPowerLimit": 700_000,
            "nvmlDeviceGetFanSpeed": 30,
            "nvmlDeviceGetEncoderUtilization": [5, 1000],
            "nvmlDeviceGetCurrPcieLinkGeneration": 5,
            "nvmlDeviceGetCurrPcieLinkWidth": 16,
            "nvmlDeviceGetMaxPcieLinkGeneration": 6,
            "nvmlDeviceGetMaxPcieLinkWidth": 16,
            "nvmlDeviceGetTotalEnergyConsumption": 1_234_500,
            "nvmlDeviceGetComputeRunningProcesses": [
                SimpleNamespace(pid=7, usedGpuMemory=4 * GIB),
                SimpleNamespace(pid=8, usedGpuMemory=None),
                SimpleNamespace(pid=9, usedGpuMemory=16 * GIB),
            ],
        }

    def __getattr__(self, name: str) -> Any:
        computed = {
            "nvmlDeviceGetHandleByIndex": lambda index: f"gpu {index}",
            "nvmlDeviceGetUUID": lambda gpu: f"GPU-{gpu}",
            "nvmlDeviceGetClockInfo": lambda gpu, clock: (1410, 1980, 2619)[clock],
            "nvmlDeviceGetMemoryErrorCounter": lambda gpu, kind, counter, place: (3, 1)[kind],
            "nvmlDeviceGetPcieThroughput": lambda gpu, way: (70, 80)[way],
            "nvmlDeviceGetFieldValues": self._field_values,
        }
        if name not in computed and name not in self.answers:
            raise AttributeError(name)

        def call(*arguments: Any) -> Any:
            self.calls[name] += 1
            if name in self.errors:
                raise NVMLError(self.errors[name])
            return computed[name](*arguments) if name in computed else self.answers[name]

        return call

    def _field_values(self, gpu: str, wanted: list[tuple[int, int]]) -> list[Any]:
        ((field, scope),) = wanted
        if field == self.NVML_FI_DEV_MEMORY_TEMP:
            return [SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=70))]
        assert scope == LINK_SCOPE_ALL
        value = SimpleNamespace(ullVal=self.link_kib[field])
        return [SimpleNamespace(nvmlReturn=self.link_return, value=value)]


def test_all_that_a_gpu_tells() -> None:
    """Percent, bytes, W, °C, MHz and bytes/s, each under W&B's name; the rate of NVLink from the second sample on."""
    nvml, now = FakeNvml(), [50.0]
    sampler = NvidiaSampler(nvml, clock=lambda: now[0])
    first = sampler.sample().metrics
    now[0] += 10
    nvml.link_kib = {138: 1000 + 100, 139: 1999}
    second = sampler.sample().metrics
    assert {name.partition(".")[2] for name in second} == {
        f"{gpu}.{name}" for gpu in (0, 1) for name in (
            "gpu", "memory", "memoryAllocated", "memoryAllocatedBytes", "temp", "powerWatts", "powerPercent",
            "enforcedPowerLimitWatts", "smClock", "memoryClock", "graphicsClock", "correctedMemoryErrors",
            "uncorrectedMemoryErrors", "fanSpeed", "encoderUtilization", "pcieLinkGen", "pcieLinkWidth",
            "pcieTxBytes", "pcieRxBytes", "nvlinkTxBytes", "maxPcieLinkGen", "maxPcieLinkWidth",
            "totalEnergyConsumption", "memoryTemp",
        )
    }  # fmt: skip
    expected = {
        "gpu": 91, "memory": 40, "memoryAllocated": 25.0, "memoryAllocatedBytes": 20 * GIB, "temp": 61,
        "powerWatts": 350.0, "powerPercent": 50.0, "enforcedPowerLimitWatts": 700.0, "smClock": 1980,
        "memoryClock": 2619, "graphicsClock": 1410, "correctedMemoryErrors": 3, "uncorrectedMemoryErrors": 1,
        "fanSpeed": 30, "encoderUtilization": 5, "pcieLinkGen": 5, "pcieLinkWidth": 16, "pcieTxBytes": 70_000,
        "pcieRxBytes": 80_000, "maxPcieLinkGen": 6, "maxPcieLinkWidth": 16, "totalEnergyConsumption": 1234.5,
        "memoryTemp": 70,
    }  # fmt: skip
    assert {name: first[f"system/gpu.1.{name}"] for name in expected} == expected
    assert len(first) == 2 * len(expected)
    assert second["system/gpu.0.nvlinkTxBytes"] == 100 * 1024 / 10
    assert unknown(second) == []


def test_gpus_of_a_process() -> None:
    """A process and its descendants have their own memory on each GPU that they use, and none on others."""
    sample = NvidiaSampler(FakeNvml()).sample()
    assert sample.of_processes({9, 7, 8, 4711})["system/gpu.process.1.memoryAllocated"] == 25.0
    assert {k: v for k, v in sample.of_processes({7}).items() if ".0." in k} == {
        "system/gpu.process.0.gpu": 91,
        "system/gpu.process.0.memoryAllocatedBytes": 4 * GIB,
        "system/gpu.process.0.memoryAllocated": 5.0,
    }
    assert set(sample.of_processes({8})) == {"system/gpu.process.0.gpu", "system/gpu.process.1.gpu"}
    assert sample.of_processes(()) == sample.of_processes({4711}) == {}
    assert unknown(sample.of_processes({7})) == []


class HopperNvml(FakeNvml):
    """The same with the profiling counters of Hopper and later: two samples, asked for what was between them."""

    NVML_GPM_METRICS_GET_VERSION = 1
    NVML_GPM_METRIC_SM_UTIL, NVML_GPM_METRIC_DRAM_BW_UTIL = 2, 10
    NVML_GPM_METRIC_PCIE_TX_PER_SEC, NVML_GPM_METRIC_NVLINK_TOTAL_TX_PER_SEC = 20, 61

    def __init__(self, *, is_supported: bool = True, **errors: int) -> None:
        super().__init__(**errors)
        self.link_return = NOT_SUPPORTED
        self.pairs: list[tuple[str, str]] = []
        self.answers |= {
            "nvmlGpmQueryDeviceSupport": SimpleNamespace(isSupportedDevice=int(is_supported)),
            "nvmlGpmSampleFree": None,
        }
        self.allocated = 0

    def nvmlGpmSampleAlloc(self) -> str:
        self.allocated += 1
        return f"sample {self.allocated}"

    def nvmlGpmSampleGet(self, gpu: str, sample: str) -> str:
        self.calls["nvmlGpmSampleGet"] += 1
        return sample

    def c_nvmlGpmMetricsGet_t(self) -> SimpleNamespace:
        return SimpleNamespace(metrics=[SimpleNamespace() for _ in range(16)])

    def nvmlGpmMetricsGet(self, question: SimpleNamespace) -> None:
        assert (question.version, question.numMetrics) == (1, 4)
        self.pairs.append((question.sample1, question.sample2))
        for metric in question.metrics[: question.numMetrics]:
            metric.nvmlReturn = NOT_SUPPORTED if metric.metricId == 10 else 0
            metric.value = 12.5 * metric.metricId


def test_counters_of_hopper() -> None:
    """Between two samples the counters tell how busy parts were; NVLink comes from them where fields do not have it."""
    nvml = HopperNvml()
    sampler = NvidiaSampler(nvml)
    first, second, third = [sampler.sample().metrics for _ in range(3)]
    assert "system/gpu.0.smActive" not in first
    assert second["system/gpu.0.smActive"] == 25.0
    assert second["system/gpu.1.nvlinkTxBytes"] == 12.5 * 61 * (1 << 20)
    assert second["system/gpu.0.pcieTxBytes"] == 70_000  # as it is told without them
    assert "system/gpu.0.dramActive" not in third
    assert nvml.pairs[::2] == [("sample 2", "sample 1"), ("sample 1", "sample 2")]
    assert unknown(third) == []
    sampler.close()
    assert nvml.calls["nvmlGpmSampleFree"] == nvml.allocated == 4


def test_gpus_without_counters() -> None:
    """A GPU that has none, or a driver that refuses, is asked once, and tells the rest."""
    for nvml in (
        HopperNvml(is_supported=False),
        HopperNvml(nvmlGpmQueryDeviceSupport=NOT_SUPPORTED),
    ):
        sampler = NvidiaSampler(nvml)
        metrics = [sampler.sample().metrics for _ in range(3)][-1]
        assert "system/gpu.0.smActive" not in metrics and metrics["system/gpu.0.temp"] == 61
        assert nvml.calls["nvmlGpmQueryDeviceSupport"] == 2 and nvml.allocated == 0
        sampler.close()


def test_what_is_not_supported_is_asked_once() -> None:
    """A refusal that stays leaves out its metric alone, and each GPU is asked once."""
    nvml = FakeNvml(nvmlDeviceGetFanSpeed=NOT_SUPPORTED, nvmlDeviceGetUtilizationRates=4)
    nvml.link_return = NOT_SUPPORTED
    sampler = NvidiaSampler(nvml)
    for _ in range(3):
        metrics = sampler.sample().metrics
    assert nvml.calls["nvmlDeviceGetFanSpeed"] == nvml.calls["nvmlDeviceGetUtilizationRates"] == 2
    assert (
        nvml.calls["nvmlDeviceGetFieldValues"] == 4 + 6
    )  # twice each, and the memory's temperature
    assert nvml.calls["nvmlDeviceGetTemperature"] == 6
    assert not [name for name in metrics if name.endswith(("fanSpeed", ".gpu", ".memory"))]
    assert metrics["system/gpu.0.temp"] == 61


def test_an_error_that_may_pass_is_asked_again() -> None:
    """A GPU that is lost and found again is told again."""
    nvml = FakeNvml(nvmlDeviceGetPowerUsage=GPU_IS_LOST)
    sampler = NvidiaSampler(nvml)
    assert "system/gpu.0.powerWatts" not in sampler.sample().metrics
    del nvml.errors["nvmlDeviceGetPowerUsage"]
    assert sampler.sample().metrics["system/gpu.0.powerWatts"] == 350.0


def test_a_library_without_a_function() -> None:
    """An old package lacks what is new, a new one what went out: the other name is asked, or the metric is absent."""
    nvml = FakeNvml()
    for name in ("nvmlDeviceGetTemperature", "nvmlDeviceGetEncoderUtilization"):
        del nvml.answers[name]
    metrics = NvidiaSampler(nvml).sample().metrics
    assert metrics["system/gpu.0.temp"] == 62
    assert "system/gpu.0.encoderUtilization" not in metrics


@pytest.mark.parametrize("name", ["nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex"])
def test_without_a_driver_it_is_tried_once(name: str) -> None:
    """No driver or no GPU is no error: there are no metrics, and it is not tried again."""
    nvml = FakeNvml(**{name: 9})
    sampler = NvidiaSampler(nvml)
    assert sampler.sample() == sampler.sample() == GpuSample()
    assert nvml.calls["nvmlInit"] == 1
    sampler.close()


@pytest.mark.parametrize(("module", "sampler"), [("pynvml", NvidiaSampler), ("amdsmi", AmdSampler)])
def test_without_the_library(monkeypatch: pytest.MonkeyPatch, module: str, sampler: Any) -> None:
    """A vendor's library that is not installed is no error."""
    monkeypatch.setitem(sys.modules, module, None)
    absent = sampler()
    assert absent.sample() == absent.sample() == GpuSample()
    absent.close()


def test_after_close_there_are_no_gpus() -> None:
    """The driver is let go once, and not taken up again."""
    nvml = FakeNvml()
    sampler = NvidiaSampler(nvml)
    assert sampler.sample().metrics
    sampler.close()
    sampler.close()
    assert sampler.sample() == GpuSample()
    assert (nvml.calls["nvmlInit"], nvml.calls["nvmlShutdown"]) == (1, 1)


class AmdError(Exception):
    def get_error_code(self) -> int:
        return 2


class FakeAmd:
    """As much of the module amdsmi as is asked for: one GPU without a sensor at its edge."""

    AmdSmiTemperatureType = SimpleNamespace(EDGE=0, HOTSPOT=1)
    AmdSmiTemperatureMetric = SimpleNamespace(CURRENT=0)

    def __init__(self, *, activity: object = 77) -> None:
        self.activity = activity
        self.edge_count = 0

    def amdsmi_init(self) -> None: ...

    def amdsmi_shut_down(self) -> None: ...

    def amdsmi_get_processor_handles(self) -> list[str]:
        return ["gpu"]

    def amdsmi_get_gpu_activity(self, gpu: str) -> dict[str, object]:
        return {"gfx_activity": self.activity, "umc_activity": 1, "mm_activity": "N/A"}

    def amdsmi_get_gpu_vram_usage(self, gpu: str) -> dict[str, object]:
        return {"vram_total": 1000, "vram_used": 250}

    def amdsmi_get_temp_metric(self, gpu: str, kind: int, metric: int) -> int:
        if kind == 0:
            self.edge_count += 1
            raise AmdError
        return 55

    def amdsmi_get_power_info(self, gpu: str) -> dict[str, object]:
        return {"average_socket_power": "N/A", "current_socket_power": 300, "power_limit": 7}

    def amdsmi_get_power_cap_info(self, gpu: str) -> dict[str, object]:
        return {"power_cap": 750_000_000}


def test_an_amd_gpu() -> None:
    """An AMD GPU is told under the same names; "N/A" is absent, and a sensor that is not there is asked once."""
    amd = FakeAmd()
    sampler = AmdSampler(amd)
    sampler.sample()
    assert sampler.sample().metrics == {
        "system/gpu.0.gpu": 77,
        "system/gpu.0.memoryAllocated": 25.0,
        "system/gpu.0.memoryAllocatedBytes": 250 << 20,
        "system/gpu.0.temp": 55,
        "system/gpu.0.powerWatts": 300,
        "system/gpu.0.enforcedPowerLimitWatts": 750.0,
        "system/gpu.0.powerPercent": 40.0,
    }
    assert amd.edge_count == 1
    assert "system/gpu.0.gpu" not in AmdSampler(FakeAmd(activity="N/A")).sample().metrics
    sampler.close()
    assert sampler.sample() == GpuSample()
