"""Artifacts: versions, drafts, links to runs, and the refusals that stores and services share."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field

from runyard_server.domain.errors import DomainError, FailedPrecondition, InvalidArgument, NotFound
from runyard_server.domain.run import RunKey

LATEST = "latest"
"""The alias of the version that was logged last; it moves by itself."""
LABEL_COUNT_MAX = 100
"""Tags that a version may have; tags and aliases that a request may name."""


@dataclass(frozen=True, slots=True)
class ArtifactName:
    """An artifact of a project."""

    project_path: str
    name: str

    @property
    def path(self) -> str:
        """Returns entity/project/name."""
        return f"{self.project_path}/{self.name}"


@dataclass(frozen=True, slots=True)
class VersionName:
    """A version as a request names it: by number, or by alias."""

    artifact: ArtifactName
    number: int | None = None
    alias: str = LATEST

    @property
    def path(self) -> str:
        """Returns entity/project/name:vN or entity/project/name:ALIAS."""
        return f"{self.artifact.path}:{self.alias if self.number is None else f'v{self.number}'}"


@dataclass(frozen=True, slots=True)
class ArtifactVersion:
    """One version of an artifact; times in Unix nanoseconds."""

    artifact: ArtifactName
    type: str
    number: int
    digest: bytes
    entry_count: int
    size_bytes: int
    added_bytes: int
    """Of contents that no version of the project had before."""
    create_time_unix_ns: int
    update_time_unix_ns: int
    logged_by: str = ""
    """Path of the run; empty once that run was purged."""
    description: str = ""
    metadata_json: str = "{}"
    aliases: tuple[str, ...] = ()
    """By name, LATEST first if it has it."""
    tags: tuple[str, ...] = ()
    expire_time_unix_ns: int | None = None
    version_id: int = field(default=0, compare=False)
    """The store's own number of it."""

    @property
    def path(self) -> str:
        """Returns entity/project/name:vN."""
        return f"{self.artifact.path}:v{self.number}"


@dataclass(frozen=True, slots=True)
class Draft:
    """A version on its way: begun, not visible."""

    draft_id: str
    artifact: ArtifactName
    type: str
    run_key: RunKey
    run_path: str
    request_id: str
    digest: bytes
    entry_count: int
    create_time_unix_ns: int
    description: str = ""
    metadata_json: str = "{}"
    is_present: bool = False
    """The project has a manifest of this digest, and the draft keeps it."""
    version: ArtifactVersion | None = None
    """What it became."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Aliases and tags that a commit sets, and when the version is to go."""

    aliases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    expire_time_unix_ns: int | None = None


@dataclass(frozen=True, slots=True)
class VersionChange:
    """What an update changes; None stays as it is."""

    time_unix_ns: int
    description: str | None = None
    metadata_json: str | None = None
    add_aliases: tuple[str, ...] = ()
    remove_aliases: tuple[str, ...] = ()
    add_tags: tuple[str, ...] = ()
    remove_tags: tuple[str, ...] = ()
    is_expiry_set: bool = False
    expire_time_unix_ns: int | None = None


class LinkKind(enum.Enum):
    """Which way a link goes."""

    LOGGED = "logged"
    USED = "used"


@dataclass(frozen=True, slots=True)
class Link:
    """A run logged or used a version."""

    run_key: RunKey
    run_path: str
    version_id: int
    kind: LinkKind
    create_time_unix_ns: int


@dataclass(frozen=True, slots=True)
class ArtifactSummary:
    """An artifact in a list: its latest version, and how many it has."""

    latest: ArtifactVersion
    version_count: int


@dataclass(slots=True)
class Deletion:
    """What a deletion removed, and what waits to be removed from the object store."""

    versions: int = 0
    entries: int = 0
    released: list[tuple[str, int]] = field(default_factory=list)
    """Keys and sizes of objects that nothing refers to any more."""
    shared_bytes: int = 0
    """Of contents of the removed versions that other versions or drafts refer to, each counted once."""


def merge_tags(tags: Sequence[str], *, add: Sequence[str], remove: Sequence[str] = ()) -> list[str]:
    """Returns tags in the order they came, without double ones; raises InvalidArgument if they are too many."""
    merged = [tag for tag in dict.fromkeys((*tags, *add)) if tag not in remove]
    if len(merged) > LABEL_COUNT_MAX:
        raise InvalidArgument(
            "FIELD_TOO_LARGE",
            f"the version would have {len(merged)} tags, at most {LABEL_COUNT_MAX} are allowed; remove some",
            metadata={"field": "tags", "value": len(merged), "limit": LABEL_COUNT_MAX},
        )
    return merged


def later_expiry(first: int | None, second: int | None) -> int | None:
    """Returns the later of two times of expiry, where None is never: a version logged twice lives as long as either asked."""
    return None if first is None or second is None else max(first, second)


def no_artifact(path: str) -> NotFound:
    """Returns the error for an artifact or version that is not there."""
    return NotFound(
        "ARTIFACT_NOT_FOUND",
        f"there is no artifact {path[:512]!r}: check name, version and alias, and whether its upload is complete",
        metadata={"artifact": path[:512]},
    )


def no_draft(draft_id: str) -> NotFound:
    """Returns the error for a draft that is not there."""
    return NotFound(
        "DRAFT_NOT_FOUND",
        f"there is no draft {draft_id[:64]!r}, or it was left alone for too long; begin it again",
        metadata={"draft": draft_id[:64]},
    )


def draft_committed(draft: Draft) -> FailedPrecondition:
    """Returns the error for changes of a draft that is a version already."""
    path = draft.version.path if draft.version is not None else draft.artifact.path
    return FailedPrecondition(
        "DRAFT_COMMITTED",
        f"draft {draft.draft_id[:64]!r} became {path}: its entries do not change any more; begin another",
        metadata={"draft": draft.draft_id[:64], "artifact": path},
    )


def type_taken(artifact: ArtifactName, *, asked: str, found: str) -> DomainError:
    """Returns the error for an artifact that exists with another type."""
    return FailedPrecondition(
        "ARTIFACT_TYPE_MISMATCH",
        f"artifact {artifact.path} has the type {found!r}, asked was {asked!r}: all versions have one type; choose another name",
        metadata={"artifact": artifact.path, "value": asked, "limit": found},
    )


def content_missing(draft_id: str, *, count: int, path: str) -> FailedPrecondition:
    """Returns the error for a commit before all contents have arrived."""
    return FailedPrecondition(
        "CONTENT_MISSING",
        f"{count} contents of draft {draft_id[:64]!r} have not arrived, that of {path[:256]!r} among them; upload them, then commit",
        metadata={"draft": draft_id[:64], "count": count, "path": path[:1024]},
    )


def has_aliases(version: VersionName, aliases: Sequence[str]) -> FailedPrecondition:
    """Returns the error for the deletion of a version that aliases point to."""
    names = ", ".join(aliases[:10])
    return FailedPrecondition(
        "ARTIFACT_HAS_ALIASES",
        f"{version.path} has the aliases {names}: move or remove them first, or delete it with its aliases",
        metadata={"artifact": version.path, "aliases": names},
    )
