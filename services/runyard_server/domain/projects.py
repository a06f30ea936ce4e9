"""Projects: named sets of runs."""

from __future__ import annotations

from dataclasses import dataclass


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

    @property
    def path(self) -> str:
        """Returns entity/project."""
        return f"{self.entity}/{self.name}"
