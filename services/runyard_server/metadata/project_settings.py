"""Changes of a project: its description, how its runs are watched and kept, and who is told; checked, then saved."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from runyard_server.domain.errors import InvalidArgument
from runyard_server.domain.notifications import EVENT_NAMES
from runyard_server.domain.projects import (
    SECRET_MASK,
    NotificationTarget,
    Project,
    ProjectSettings,
)
from runyard_server.metadata.projects import check_description, find_project
from runyard_server.storage.ports.run_store import RunTransaction

CRASH_TIMEOUT_RANGE_S = (10.0, 7 * 86_400.0)
STALL_TIMEOUT_RANGE_S = (10.0, 30 * 86_400.0)
TRASH_WINDOW_RANGE_S = (0.0, 365 * 86_400.0)
STRAGGLER_STEPS_MAX = 2**62
TARGET_COUNT_MAX = 20
URL_LENGTH_MAX = 2_048
SECRET_LENGTH_MAX = 256
SETTINGS_FIELDS: tuple[str, ...] = (
    "crash_timeout",
    "stall_timeout",
    "straggler_steps",
    "end_rule",
    "trash_window",
    "notification_targets",
)
_MEMBERS = {
    "crash_timeout": "crash_timeout_s",
    "stall_timeout": "stall_timeout_s",
    "trash_window": "trash_window_s",
}
_TARGET_NAME = re.compile(r"[^/\\#?%:]{1,64}")


@dataclass(frozen=True, slots=True)
class ProjectEdit:
    """What a user changes; `paths` name which fields of the new values to take."""

    path: str
    paths: frozenset[str]
    description: str
    settings: ProjectSettings


def update_project(tx: RunTransaction, edit: ProjectEdit) -> Project:
    """Changes the project. Raises InvalidArgument for values that cannot be, NotFound PROJECT_NOT_FOUND."""
    allowed = ("description", "settings", *(f"settings.{name}" for name in SETTINGS_FIELDS))
    wrong = sorted(edit.paths - set(allowed))
    if wrong or not edit.paths:
        problem = f"names {wrong[0][:256]!r}" if wrong else "is empty"
        raise _invalid(
            "update_mask", wrong[0] if wrong else "", f"{problem}; it may name {', '.join(allowed)}"
        )
    project = find_project(tx, edit.path)
    names = SETTINGS_FIELDS
    if "settings" not in edit.paths:
        names = tuple(name for name in SETTINGS_FIELDS if f"settings.{name}" in edit.paths)
    members = [_MEMBERS.get(name, name) for name in names]
    settings = replace(
        project.settings, **{member: getattr(edit.settings, member) for member in members}
    )
    if "notification_targets" in members:
        targets = _with_secrets(settings.notification_targets, project.settings)
        settings = replace(settings, notification_targets=targets)
    _check_settings(settings)
    description = project.description
    if "description" in edit.paths:
        check_description(edit.description)
        description = edit.description
    changed = replace(project, description=description, settings=settings)
    tx.save_project(changed)
    return changed


def _with_secrets(
    targets: Sequence[NotificationTarget], before: ProjectSettings
) -> tuple[NotificationTarget, ...]:
    """Returns the targets; a masked secret is the one that the target of that name had."""
    secrets = {target.name: target.secret for target in before.notification_targets}
    return tuple(
        replace(target, secret=secrets.get(target.name, ""))
        if target.secret == SECRET_MASK
        else target
        for target in targets
    )


def _check_settings(settings: ProjectSettings) -> None:
    _check_range("crash_timeout", settings.crash_timeout_s, CRASH_TIMEOUT_RANGE_S)
    if settings.stall_timeout_s != 0:
        _check_range("stall_timeout", settings.stall_timeout_s, STALL_TIMEOUT_RANGE_S)
    _check_range("trash_window", settings.trash_window_s, TRASH_WINDOW_RANGE_S)
    if settings.straggler_steps > STRAGGLER_STEPS_MAX:
        raise _invalid(
            "straggler_steps", settings.straggler_steps, f"is above {STRAGGLER_STEPS_MAX}"
        )
    targets = settings.notification_targets
    if len(targets) > TARGET_COUNT_MAX:
        raise _invalid(
            "notification_targets",
            len(targets),
            f"targets are too many: at most {TARGET_COUNT_MAX}",
        )
    names = [target.name for target in targets]
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        raise _invalid("notification_targets.name", doubled, "stands twice; names are unique")
    for target in targets:
        _check_target(target)


def _check_range(field: str, value: float | None, limits: tuple[float, float]) -> None:
    low, high = limits
    if value is not None and not low <= value <= high:
        raise InvalidArgument(
            "FIELD_INVALID",
            f"settings.{field} is {value:g} s; it lies between {low:g} s and {high:g} s",
            metadata={"field": f"settings.{field}", "value": value, "limit": high},
        )


def _check_target(target: NotificationTarget) -> None:
    field = "notification_targets"
    if not _TARGET_NAME.fullmatch(target.name) or _has_control(target.name):
        raise _invalid(f"{field}.name", target.name, "is no name of 1 to 64 characters")
    if len(target.url) > URL_LENGTH_MAX:
        raise _invalid(f"{field}.url", target.url, f"is longer than {URL_LENGTH_MAX} characters")
    try:
        parts = urlsplit(target.url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        is_address = False
    if not is_address or _has_control(target.url):
        raise _invalid(f"{field}.url", target.url, "is no http or https address")
    if len(target.secret) > SECRET_LENGTH_MAX or _has_control(target.secret):
        raise _invalid(
            f"{field}.secret", SECRET_MASK, f"has at most {SECRET_LENGTH_MAX} printable characters"
        )
    wrong = sorted(set(target.events) - set(EVENT_NAMES))
    if wrong:
        raise _invalid(f"{field}.events", wrong[0], f"is none of {', '.join(EVENT_NAMES)}")


def _has_control(text: str) -> bool:
    return any(unicodedata.category(c) in ("Cc", "Cs") for c in text)


def _invalid(field: str, value: object, problem: str) -> InvalidArgument:
    shown = str(value)[:256]
    return InvalidArgument(
        "FIELD_INVALID",
        f"{field} {shown!r} {problem}",
        metadata={"field": field, "value": shown},
    )
