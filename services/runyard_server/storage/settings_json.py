"""Settings of a project as JSON text, as the stores keep them."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from runyard_server.domain.projects import (
    EndRule,
    NotificationFormat,
    NotificationTarget,
    ProjectSettings,
)


def settings_to_json(settings: ProjectSettings) -> str:
    """Returns the text; settings that nobody changed are `{}`."""
    if settings == ProjectSettings():
        return "{}"
    fields = asdict(settings)
    fields["end_rule"] = settings.end_rule.value
    for target in fields["notification_targets"]:
        target["format"] = target["format"].value
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def settings_from_json(text: str) -> ProjectSettings:
    """Returns the settings of the text."""
    fields = json.loads(text or "{}")
    if not fields:
        return ProjectSettings()
    targets = tuple(_target(target) for target in fields.pop("notification_targets"))
    end_rule = EndRule(fields.pop("end_rule"))
    return ProjectSettings(**fields, end_rule=end_rule, notification_targets=targets)


def _target(fields: dict[str, Any]) -> NotificationTarget:
    return NotificationTarget(
        **{
            **fields,
            "format": NotificationFormat(fields["format"]),
            "events": tuple(fields["events"]),
        }
    )
