"""Links between runs and versions, in memory; a part of memory/artifacts.py."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from runyard_server.domain.artifacts import ArtifactVersion, Link, LinkKind, VersionName
from runyard_server.domain.run import RunKey
from runyard_server.storage.memory.artifact_uploads import MemoryUploads


class MemoryLinks(MemoryUploads):
    """The methods of ArtifactStore on links."""

    def __init__(self) -> None:
        super().__init__()
        self._links: dict[tuple[RunKey, int, LinkKind], Link] = {}

    async def link_run(
        self,
        name: VersionName,
        *,
        run_key: RunKey,
        run_path: str,
        kind: LinkKind,
        time_unix_ns: int,
    ) -> ArtifactVersion | None:
        """Links a run to a version, once, and returns the version; None if there is none."""
        version = await self.find_version(name)
        if version is not None:
            self._link(version, run_key, run_path, kind, time_unix_ns)
        return version

    async def list_links(
        self, *, run_keys: Collection[RunKey], version_ids: Collection[int], limit: int
    ) -> list[Link]:
        """Returns links of these runs and of these versions, the oldest first."""
        found = [
            link
            for link in self._links.values()
            if link.run_key in run_keys or link.version_id in version_ids
        ]
        found.sort(
            key=lambda one: (one.create_time_unix_ns, one.run_key, one.version_id, one.kind.value)
        )
        return found[:limit]

    async def read_versions(self, version_ids: Collection[int]) -> dict[int, ArtifactVersion]:
        """Returns those of the versions that are there, without metadata."""
        return {
            version.version_id: replace(self._with_aliases(version), metadata_json="")
            for version in self._versions()
            if version.version_id in version_ids
        }

    def _link(
        self,
        version: ArtifactVersion,
        run_key: RunKey,
        run_path: str,
        kind: LinkKind,
        time_unix_ns: int,
    ) -> None:
        link = Link(run_key, run_path, version.version_id, kind, time_unix_ns)
        self._links.setdefault((run_key, version.version_id, kind), link)

    async def find_version(self, name: VersionName) -> ArtifactVersion | None:
        """Returns the version, or None."""
        raise NotImplementedError

    def _versions(self) -> Iterable[ArtifactVersion]:
        raise NotImplementedError

    def _with_aliases(self, version: ArtifactVersion) -> ArtifactVersion:
        raise NotImplementedError
