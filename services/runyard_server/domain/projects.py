"""Projects: named sets of runs, and how these are watched and kept."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

SECRET_MASK = "***"


class EndRule(enum.Enum):
    """When a run with several writers ends; see metadata.v1.EndRule."""

    LAST_WRITER = "last_writer"
    PRIMARY = "primary"


class NotificationFormat(enum.Enum):
    """How a notification is sent; see metadata.v1.NotificationFormat."""

    JSON = "json"
    SLACK = "slack"


@dataclass(frozen=True, slots=True)
class NotificationTarget:
    """A receiver of notifications; see metadata.v1.NotificationTarget."""

    name: str
    url: str
    format: NotificationFormat = NotificationFormat.JSON
    secret: str = ""
    events: tuple[str, ...] = ()
    is_disabled: bool = False


@dataclass(frozen=True, slots=True)
class ProjectSettings:
    """How the runs of a project are watched and kept; None, and 0 steps, mean the server's default."""

    crash_timeout_s: float | None = None
    stall_timeout_s: float | None = None
    """0 for never."""
    straggler_steps: int = 0
    end_rule: EndRule = EndRule.LAST_WRITER
    trash_window_s: float | None = None
    notification_targets: tuple[NotificationTarget, ...] = ()


@dataclass(frozen=True, slots=True)
class Project:
    """A project as metadata knows it; times in Unix nanoseconds."""

    entity: str
    name: str
    description: str = ""
    create_time_unix_ns: int = 0
    activity_time_unix_ns: int = 0
    """When a run of it last changed; may lag a few seconds behind."""
    run_count: int = 0
    """Runs in it, deleted ones left out."""
    live_run_count: int = 0
    settings: ProjectSettings = field(default_factory=ProjectSettings)

    @property
    def path(self) -> str:
        """Returns entity/project."""
        return f"{self.entity}/{self.name}"
