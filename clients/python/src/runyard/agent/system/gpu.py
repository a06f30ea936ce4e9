"""What samplers of GPUs share: the sample, and questions to a driver that may refuse any of them."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

GPU_COUNT_MAX = 64

_log = logging.getLogger("runyard.agent")
_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class GpuSample:
    """All GPUs of the machine at one moment."""

    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    memory_by_process: Mapping[int, Mapping[int, int | None]] = dataclasses.field(
        default_factory=dict
    )
    """By GPU and pid, the bytes that the process has on it; None where the driver does not say how many."""
    memory_bytes: Mapping[int, int] = dataclasses.field(default_factory=dict)
    """By GPU, how much memory it has."""

    def of_processes(self, pids: Collection[int]) -> dict[str, float]:
        """Returns the metrics of those GPUs that the processes use."""
        metrics: dict[str, float] = {}
        for gpu, by_pid in self.memory_by_process.items():
            own = [size_bytes for pid, size_bytes in by_pid.items() if pid in pids]
            if not own:
                continue
            name = f"system/gpu.process.{gpu}"
            busy = self.metrics.get(f"system/gpu.{gpu}.gpu")
            if busy is not None:
                metrics[f"{name}.gpu"] = busy
            known = [size_bytes for size_bytes in own if size_bytes is not None]
            if known:
                metrics[f"{name}.memoryAllocatedBytes"] = sum(known)
                if self.memory_bytes.get(gpu):
                    metrics[f"{name}.memoryAllocated"] = 100 * sum(known) / self.memory_bytes[gpu]
        return metrics


class Questions:
    """Asks a driver's library; what was refused for good is not asked again.

    `refusal_code_of` returns the number of an error, `refusal_codes` are those that stay: not supported, not allowed.
    """

    def __init__(
        self, refusal_code_of: Callable[[Exception], object], refusal_codes: Collection[int]
    ) -> None:
        self._code_of = refusal_code_of
        self._refusal_codes = refusal_codes
        self._refused: set[tuple[object, ...]] = set()

    def ask(
        self, key: tuple[object, ...], question: Callable[..., _T], *arguments: Any
    ) -> _T | None:
        """Returns the answer; None if there is none this time, or never is. `key` names the question."""
        if key in self._refused:
            return None
        try:
            return question(*arguments)
        except AttributeError:  # the library is older than the question
            self._refused.add(key)
        except Exception as error:  # a driver's library raises what it likes
            if self._code_of(error) in self._refusal_codes:
                self._refused.add(key)
            _log.debug("gpu_not_answered %s: %s", key, type(error).__name__)
        return None
