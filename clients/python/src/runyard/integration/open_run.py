"""Which run an integration logs into, and what all of them do with numbers and settings of other libraries."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from runyard import run_registry
from runyard.errors import UsageError
from runyard.metric_log import scalar_of

if TYPE_CHECKING:
    from runyard.active_run import Run

DEPTH_MAX = 16
"""Settings that are nested deeper become text."""


def open_run(run: Run | None, what: str) -> Run:
    """Returns the run given, or the current one; raises UsageError where there is none."""
    found = run if run is not None else run_registry.current()
    if found is None:
        raise UsageError(f"call runyard.init() before the training begins, or give {what} a run")
    return found


def numbers_of(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Returns what can be a metric: scalars of any library, without those that are text, None or arrays."""
    found: dict[str, float] = {}
    for name, value in values.items():
        number = scalar_of(value) if value is not None else None
        if number is not None:
            found[prefix + str(name)] = number
    return found


def plain_settings(values: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
    """Returns settings as a config takes them: numbers, text, lists and dicts; of anything else its text."""
    return {
        str(name): _plain(value, depth) for name, value in values.items() if not callable(value)
    }


def _plain(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, (bool, str, numbers.Real)):
        return value
    if isinstance(value, Mapping) and depth < DEPTH_MAX:
        return plain_settings(value, depth + 1)
    if isinstance(value, (list, tuple, set, frozenset)) and depth < DEPTH_MAX:
        return [_plain(item, depth + 1) for item in value]
    return str(value)
