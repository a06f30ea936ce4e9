"""What a server says of artifacts, as plain values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class VersionRecord:
    """One version of an artifact; times in Unix seconds, None where not set."""

    project_path: str
    name: str
    type: str
    version: int
    aliases: tuple[str, ...]
    tags: tuple[str, ...]
    description: str
    metadata_json: str
    """Extended JSON; "" where it was not told: lists leave it out."""
    digest: str
    """SHA-256 over its entries, hex."""
    entry_count: int
    size_bytes: int
    added_bytes: int
    """Bytes that no earlier version of the project had."""
    logged_by: str
    """Path of the run that logged it first; "" if that is gone."""
    create_time_s: float | None
    update_time_s: float | None
    expire_time_s: float | None

    @property
    def path(self) -> str:
        """Returns entity/project/name:vN."""
        return f"{self.project_path}/{self.name}:v{self.version}"

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> VersionRecord:
        """Returns the record of fields as `dataclasses.asdict` and JSON make them."""
        values: dict[str, Any] = {
            field.name: fields.get(field.name) for field in dataclasses.fields(cls)
        }
        for name in ("aliases", "tags"):
            values[name] = tuple(values[name] or ())
        return cls(**values)


@dataclasses.dataclass(frozen=True)
class ArtifactRecord:
    """An artifact, all its versions together."""

    latest: VersionRecord
    version_count: int


@dataclasses.dataclass(frozen=True)
class LineageLink:
    """One link between a run and a version."""

    run_path: str
    version_path: str
    kind: str
    """"logged" or "used"."""
    create_time_s: float | None


@dataclasses.dataclass(frozen=True)
class Lineage:
    """Runs and versions, and how they are linked."""

    versions: tuple[VersionRecord, ...]
    links: tuple[LineageLink, ...]
    is_cut: bool
    """Whether there is more than one reply holds; the farthest are left out."""

    @property
    def run_paths(self) -> list[str]:
        """Returns the runs in it, each once, in the order of their links."""
        return list(dict.fromkeys(link.run_path for link in self.links))


@dataclasses.dataclass(frozen=True)
class DeletionReceipt:
    """What a deletion of versions removed and freed."""

    deleted_count: int
    entry_count: int
    freed_objects: int
    freed_bytes: int
    shared_bytes: int
    """Bytes that stay since other versions refer to them."""

    def plus(self, other: DeletionReceipt) -> DeletionReceipt:
        """Returns both together."""
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other))
        return DeletionReceipt(*(one + another for one, another in pairs))
