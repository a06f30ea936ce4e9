"""Samples AMD GPUs through the library amdsmi that comes with ROCm, if it is there and finds a driver."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from runyard.agent.system.gpu import GPU_COUNT_MAX, GpuSample, Questions

MICRO = 1e-6
_REFUSALS = (2, 3, 10)
"""AMDSMI_STATUS_NOT_SUPPORTED, _NOT_YET_IMPLEMENTED, _NO_PERM (amdsmi.h): they stay until the driver is another."""

_log = logging.getLogger("runyard.agent")


def _activity(amd: Any, gpu: Any) -> dict[str, float]:
    return _numbers(gpu=amd.amdsmi_get_gpu_activity(gpu)["gfx_activity"])


def _memory(amd: Any, gpu: Any) -> dict[str, float]:
    usage = amd.amdsmi_get_gpu_vram_usage(gpu)  # in MB
    values = _numbers(used=usage["vram_used"], total=usage["vram_total"])
    if len(values) < 2 or not values["total"]:
        return {}
    return {
        "memoryAllocated": 100 * values["used"] / values["total"],
        "memoryAllocatedBytes": values["used"] * (1 << 20),
    }


def _temperature(amd: Any, gpu: Any, *, sensor: str) -> dict[str, float]:
    kind = getattr(amd.AmdSmiTemperatureType, sensor)
    metric = amd.AmdSmiTemperatureMetric.CURRENT
    return _numbers(temp=amd.amdsmi_get_temp_metric(gpu, kind, metric))


def _edge(amd: Any, gpu: Any) -> dict[str, float]:
    return _temperature(amd, gpu, sensor="EDGE")


def _hotspot(amd: Any, gpu: Any) -> dict[str, float]:
    return _temperature(amd, gpu, sensor="HOTSPOT")


def _power(amd: Any, gpu: Any) -> dict[str, float]:
    power: Mapping[str, object] = amd.amdsmi_get_power_info(gpu)
    # Which of the two a GPU tells depends on its generation; the other is "N/A".
    return _numbers(powerWatts=power.get("average_socket_power")) or _numbers(
        powerWatts=power.get("current_socket_power")
    )


def _power_limit(amd: Any, gpu: Any) -> dict[str, float]:
    cap = _numbers(cap=amd.amdsmi_get_power_cap_info(gpu)["power_cap"])
    return {"enforcedPowerLimitWatts": cap["cap"] * MICRO} if cap.get("cap") else {}


# The first that tells a name counts: MI300 has no sensor at the edge.
_QUESTIONS: tuple[Callable[[Any, Any], dict[str, float]], ...] = (
    _activity, _memory, _edge, _hotspot, _power, _power_limit,
)  # fmt: skip


class AmdSampler:
    """Samples every AMD GPU that may be seen; one thread at a time. No method raises.

    `library` is the module amdsmi, imported at the first sample if none is given. Without it, a driver or a GPU there
    are no metrics, and it is not tried again.
    """

    def __init__(self, library: Any = None) -> None:
        self._amd = library
        self._is_tried = False
        self._gpus: list[Any] = []
        self._questions = Questions(_error_code, _REFUSALS)

    def sample(self) -> GpuSample:
        """Returns what the GPUs do now; what a GPU does not tell is absent."""
        self._start()
        metrics: dict[str, float] = {}
        for index, gpu in enumerate(self._gpus):
            values: dict[str, float] = {}
            for question in _QUESTIONS:
                key = (index, question.__name__)
                for name, value in (
                    self._questions.ask(key, question, self._amd, gpu) or {}
                ).items():
                    values.setdefault(name, value)
            limit = values.get("enforcedPowerLimitWatts")
            if limit and "powerWatts" in values:
                values["powerPercent"] = 100 * values["powerWatts"] / limit
            metrics.update({f"system/gpu.{index}.{name}": value for name, value in values.items()})
        return GpuSample(metrics)

    def close(self) -> None:
        """Lets the driver go; later samples are empty."""
        if self._gpus:
            self._gpus = []
            self._questions.ask(("shutdown",), self._amd.amdsmi_shut_down)
        self._is_tried = True

    def _start(self) -> None:
        if self._is_tried:
            return
        self._is_tried = True
        try:
            if self._amd is None:
                import amdsmi  # type: ignore[import-untyped,import-not-found,unused-ignore]  # the user's, if there

                self._amd = amdsmi
            self._amd.amdsmi_init()
            self._gpus = list(self._amd.amdsmi_get_processor_handles())[:GPU_COUNT_MAX]
        except Exception as error:  # no package, no driver, or one that does not fit the other
            _log.debug("no_amd_gpus %s: %s", type(error).__name__, error)


def _numbers(**values: object) -> dict[str, float]:
    """Returns those that are numbers: the library says "N/A" for what a GPU does not have."""
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def _error_code(error: Exception) -> object:
    code = getattr(error, "get_error_code", None)
    return code() if code is not None else None
