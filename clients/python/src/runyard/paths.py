"""Paths of projects and runs as users type them: parts left out at the front are the settings'."""

from __future__ import annotations

from runyard.errors import InvalidArgument
from runyard.given import shown
from runyard.settings import DEFAULT_ENTITY, DEFAULT_PROJECT, ResolvedSettings


def project_path(path: str | None, settings: ResolvedSettings) -> str:
    """Returns entity/project of what was typed; None or "" means the settings'. Raises InvalidArgument."""
    given = checked_path("" if path is None else path, "a project: entity/project")
    parts = (given or settings.project or DEFAULT_PROJECT).strip("/").split("/")
    if len(parts) > 2 or not all(parts):
        raise InvalidArgument(
            f"{path!r} is no path of a project: entity/project", reason="FIELD_INVALID"
        )
    return "/".join([settings.entity or DEFAULT_ENTITY, *parts][-2:])


def run_path(path: str, settings: ResolvedSettings) -> str:
    """Returns entity/project/run_id of what was typed, or of the path of a run's page; raises InvalidArgument."""
    parts = checked_path(path, "a run: entity/project/run_id").strip("/").split("/")
    if len(parts) == 4 and parts[2] == "runs":  # the path of the run's page
        parts.pop(2)
    if len(parts) > 3 or not all(parts):
        raise InvalidArgument(
            f"{path!r} is no path of a run: entity/project/run_id", reason="FIELD_INVALID"
        )
    defaults = [settings.entity or DEFAULT_ENTITY, settings.project or DEFAULT_PROJECT]
    return "/".join([*defaults[: 3 - len(parts)], *parts])


def artifact_path(path: str, settings: ResolvedSettings, *, project: str = "") -> str:
    """Returns entity/project/name, with `:ALIAS` if it had that, of what was typed; raises InvalidArgument.

    `project`: entity/project that parts left out at the front are taken from, instead of the settings'.
    """
    name, colon, alias = checked_path(path, "an artifact: entity/project/name:alias").partition(":")
    parts = name.strip("/").split("/")
    if len(parts) > 3 or not all(parts) or (colon and not alias) or "/" in alias:
        raise InvalidArgument(
            f"{shown(path)} is no path of an artifact: entity/project/name:alias",
            reason="FIELD_INVALID",
        )
    defaults = (project or project_path(None, settings)).split("/")
    return "/".join([*defaults[: 3 - len(parts)], *parts]) + colon + alias


def checked_path(path: object, what: str) -> str:
    """Returns the path if it is text; raises InvalidArgument that says of `what` it must be one."""
    if isinstance(path, str):
        return path
    raise InvalidArgument(
        f"{str(path)[:60]!r} is of type {type(path).__name__}; it must be a string, the path of {what}",
        reason="FIELD_INVALID",
    )
