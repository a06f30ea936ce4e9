"""A project as Python reads it: what it is, its settings, its notifications."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from runyard import rpc_projects
from runyard.records import ProjectRecord
from runyard.rpc import Connection
from runyard.rpc_projects import NotificationRecord, ProjectSettings
from runyard.text_format import iso_time


class Project:
    """A project as it was when it was read; its settings are asked for when they are looked at."""

    def __init__(self, connection: Connection, record: ProjectRecord, base_url: str) -> None:
        self._connection = connection
        self.record = record
        self.path = record.path
        self.entity = record.entity
        self.name = record.name
        self.description = record.description
        self.run_count = record.run_count
        self.live_run_count = record.live_run_count
        self.url = f"{base_url}/{record.path}"

    @property
    def created_at(self) -> str | None:
        """Returns when it was made, ISO 8601, UTC."""
        return iso_time(self.record.create_time_s)

    @property
    def settings(self) -> ProjectSettings:
        """Returns how its runs are watched and kept, and who is told."""
        return rpc_projects.read_settings(self._connection, self.path)

    def update_settings(self, **changes: Any) -> ProjectSettings:
        """Changes the named settings, each as ProjectSettings has it, and returns all; None: the server's default."""
        return rpc_projects.write_settings(self._connection, self.path, changes)

    def notifications(self, *, states: Sequence[str] = ()) -> Iterator[NotificationRecord]:
        """Yields its notifications, newest first; only those pending, sent, dead or suppressed, as asked."""
        return rpc_projects.list_notifications(self._connection, self.path, states=states)

    def __repr__(self) -> str:
        return f"<runyard project {self.path} ({self.run_count} runs)>"
