"""Alerts: what a script wants people to know at once."""

from __future__ import annotations

import datetime
import enum
import math
from typing import Any

from runyard import extended_json
from runyard.errors import InvalidArgument

TITLE_LENGTH_MAX = 256
TEXT_LENGTH_MAX = 4_096
WAIT_DEFAULT_S = 60.0
WAIT_MAX_S = 366 * 86_400.0


class AlertLevel(enum.Enum):
    """How much an alert matters."""

    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"


def alert_fields(title: Any, text: Any, level: Any, wait_duration: Any) -> dict[str, Any]:
    """Returns the field `alert` of a CHANGE record; raises InvalidArgument for what cannot be one."""
    return {
        "title": _checked_text("title", title, TITLE_LENGTH_MAX, is_needed=True),
        "text": _checked_text("text", text, TEXT_LENGTH_MAX, is_needed=False),
        "level": _level(level).value,
        "wait_duration_s": _wait_s(wait_duration),
    }


def _checked_text(what: str, value: Any, length_max: int, *, is_needed: bool) -> str:
    if not isinstance(value, str):
        raise InvalidArgument(
            f"alert(): {what} is of type {type(value).__name__}; it must be a string"
        )
    if is_needed and not value.strip():
        raise InvalidArgument(f"alert(): {what} is empty; say in a few words what happened")
    if len(value) > length_max:
        raise InvalidArgument(
            f"alert(): {what} has {len(value)} characters, at most {length_max} are allowed; "
            f"keep the rest in a file of the run (run.save)",
            reason="FIELD_TOO_LARGE",
        )
    return str(extended_json.plain(value))


def _level(value: Any) -> AlertLevel:
    if value is None:
        return AlertLevel.INFO
    name = getattr(value, "value", value)
    names = [level.value for level in AlertLevel]
    if str(name).upper() not in names:
        raise InvalidArgument(f"alert(): level {value!r} is not one of {', '.join(names)}")
    return AlertLevel(str(name).upper())


def _wait_s(value: Any) -> float:
    if value is None:
        return WAIT_DEFAULT_S
    if isinstance(value, datetime.timedelta):
        value = value.total_seconds()
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not 0 <= value <= WAIT_MAX_S:
        raise InvalidArgument(
            f"alert(): wait_duration {value!r} is neither seconds (0 to {WAIT_MAX_S:.0f}) nor a timedelta"
        )
    return float(value)
