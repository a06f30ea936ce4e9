"""One figure of a bench, as report.py reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Result:
    """One figure beside its baseline."""

    name: str
    value: float
    unit: str
    baseline: str = ""
    baseline_value: float | None = None
    target: float | None = None
    is_met: bool | None = None

    def as_json(self) -> dict[str, Any]:
        ratio = self.value / self.baseline_value if self.baseline_value else None
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "baseline": self.baseline,
            "baseline_value": self.baseline_value,
            "ratio": ratio,
            "target": self.target,
            "is_met": self.is_met,
        }
