"""Decisions on projects: made when first named, counted as their runs come and go."""

from __future__ import annotations

from runyard_server.domain.errors import InvalidArgument, NotFound
from runyard_server.domain.projects import Project
from runyard_server.domain.run import check_entity_name, check_project_name, split_project_path
from runyard_server.storage.ports.run_store import RunTransaction

DESCRIPTION_BYTES_MAX = 64 * 1024
ACTIVITY_LAG_NS = 5_000_000_000
"""A project's activity time may lag that far behind: the row is shared by all its runs, and not every change may lock it."""


def ensure_project(tx: RunTransaction, entity: str, project: str, *, now_unix_ns: int) -> Project:
    """Returns the project, made now if it is new."""
    return create_project(tx, entity, project, description="", now_unix_ns=now_unix_ns)


def create_project(
    tx: RunTransaction, entity: str, project: str, *, description: str, now_unix_ns: int
) -> Project:
    """Makes the project, or returns the one that exists, as it is."""
    check_entity_name(entity)
    check_project_name(project)
    check_description(description)
    found = tx.find_project(entity, project)
    if found is not None:
        return found
    made = Project(
        entity=entity,
        name=project,
        description=description,
        create_time_unix_ns=now_unix_ns,
        activity_time_unix_ns=now_unix_ns,
    )
    tx.insert_project(made)
    return made


def check_description(description: str) -> None:
    """Raises InvalidArgument for a text that no project may hold."""
    size_bytes = len(description.encode())
    if size_bytes > DESCRIPTION_BYTES_MAX or "\0" in description:
        raise InvalidArgument(
            "FIELD_TOO_LARGE" if size_bytes > DESCRIPTION_BYTES_MAX else "FIELD_INVALID",
            f"description has {size_bytes} bytes; it may have at most {DESCRIPTION_BYTES_MAX} and no NUL character",
            metadata={
                "field": "description",
                "value": size_bytes,
                "limit": DESCRIPTION_BYTES_MAX,
            },
        )


def find_project(tx: RunTransaction, path: str) -> Project:
    """Returns the project of that path; raises NotFound PROJECT_NOT_FOUND."""
    entity, name = split_project_path(path)
    found = tx.find_project(entity, name)
    if found is None:
        raise NotFound(
            "PROJECT_NOT_FOUND",
            f"there is no project {path[:512]}; it is made with its first run",
            metadata={"project": path[:512]},
        )
    return found


def record_activity(
    tx: RunTransaction,
    entity: str,
    project: str,
    *,
    live_run_count_change: int,
    now_unix_ns: int,
) -> None:
    """Notes that a run of the project changed; seldom, unless the number of live runs changes."""
    if live_run_count_change == 0:
        found = tx.find_project(entity, project)
        if found is not None and now_unix_ns - found.activity_time_unix_ns < ACTIVITY_LAG_NS:
            return
    tx.change_project(
        entity,
        project,
        live_run_count_change=live_run_count_change,
        activity_time_unix_ns=now_unix_ns,
    )
