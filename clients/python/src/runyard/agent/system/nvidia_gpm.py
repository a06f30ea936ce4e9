"""Reads the profiling counters (GPM) that NVIDIA GPUs have from Hopper on: how busy their parts were between two samples."""

from __future__ import annotations

from typing import Any

_MIB = 1 << 20
_METRICS: tuple[tuple[str, str, float], ...] = (
    ("smActive", "NVML_GPM_METRIC_SM_UTIL", 1.0),
    ("smOccupancy", "NVML_GPM_METRIC_SM_OCCUPANCY", 1.0),
    ("pipeTensorActive", "NVML_GPM_METRIC_ANY_TENSOR_UTIL", 1.0),
    ("pipeTensorHmmaActive", "NVML_GPM_METRIC_HMMA_TENSOR_UTIL", 1.0),
    ("dramActive", "NVML_GPM_METRIC_DRAM_BW_UTIL", 1.0),
    ("pipeFp64Active", "NVML_GPM_METRIC_FP64_UTIL", 1.0),
    ("pipeFp32Active", "NVML_GPM_METRIC_FP32_UTIL", 1.0),
    ("pipeFp16Active", "NVML_GPM_METRIC_FP16_UTIL", 1.0),
    ("pcieTxBytes", "NVML_GPM_METRIC_PCIE_TX_PER_SEC", _MIB),
    ("pcieRxBytes", "NVML_GPM_METRIC_PCIE_RX_PER_SEC", _MIB),
    ("nvlinkTxBytes", "NVML_GPM_METRIC_NVLINK_TOTAL_TX_PER_SEC", _MIB),
    ("nvlinkRxBytes", "NVML_GPM_METRIC_NVLINK_TOTAL_RX_PER_SEC", _MIB),
)
"""Name, constant of the library (nvml.h, nvmlGpmMetricId_t), and what its value is multiplied by."""


class Counters:
    """The counters of one GPU. Every method raises what the library raises."""

    def __init__(self, nvml: Any, gpu: Any) -> None:
        """Raises NVMLError where the driver cannot; `is_supported` is False where the GPU has none."""
        self._nvml = nvml
        self._gpu = gpu
        self._samples: list[Any] = []
        self._has_last = False
        self.is_supported = bool(nvml.nvmlGpmQueryDeviceSupport(gpu).isSupportedDevice)
        if self.is_supported:
            self._samples = [nvml.nvmlGpmSampleAlloc(), nvml.nvmlGpmSampleAlloc()]

    def read(self) -> dict[str, float]:
        """Returns what was counted since the last call; {} at first."""
        if not self._samples:
            return {}
        last, now = self._samples
        self._nvml.nvmlGpmSampleGet(self._gpu, now)
        self._samples = [now, last]
        if not self._has_last:
            self._has_last = True
            return {}
        return self._values(last, now)

    def close(self) -> None:
        """Lets the samples go."""
        samples, self._samples = self._samples, []
        for sample in samples:
            self._nvml.nvmlGpmSampleFree(sample)

    def _values(self, last: Any, now: Any) -> dict[str, float]:
        nvml = self._nvml
        wanted = [
            (name, getattr(nvml, constant), factor)
            for name, constant, factor in _METRICS
            if hasattr(nvml, constant)
        ]
        question = nvml.c_nvmlGpmMetricsGet_t()
        question.version = nvml.NVML_GPM_METRICS_GET_VERSION
        question.numMetrics = len(wanted)
        question.sample1, question.sample2 = last, now
        for place, (_, metric, _) in enumerate(wanted):
            question.metrics[place].metricId = metric
        nvml.nvmlGpmMetricsGet(question)
        return {
            name: question.metrics[place].value * factor
            for place, (name, _, factor) in enumerate(wanted)
            if not question.metrics[place].nvmlReturn
        }
