"""Follows links between runs and versions, step by step, up to a bound."""

from __future__ import annotations

from dataclasses import dataclass

from runyard_server.domain.artifacts import ArtifactVersion, Link, LinkKind
from runyard_server.domain.run import RunKey
from runyard_server.storage.ports.artifacts import ArtifactStore

LINK_COUNT_MAX = 1_000
DEPTH_MAX = 20


@dataclass(frozen=True, slots=True)
class Lineage:
    """Part of the graph of runs and versions."""

    versions: list[ArtifactVersion]
    links: list[Link]
    is_cut: bool
    """True: there are more links; the farthest are left out."""


async def trace(
    store: ArtifactStore, *, run_key: RunKey | None, version_id: int | None, depth: int
) -> Lineage:
    """Returns what is linked to a run or a version, nearest first: `depth` links far, both ways."""
    runs: set[RunKey] = set() if run_key is None else {run_key}
    version_ids: set[int] = set() if version_id is None else {version_id}
    new_runs, new_version_ids = set(runs), set(version_ids)
    links: dict[tuple[RunKey, int, LinkKind], Link] = {}
    is_cut = False
    for _ in range(depth):
        if is_cut or not (new_runs or new_version_ids):
            break
        # Links that led here come again with the new ones.
        found = await store.list_links(
            run_keys=new_runs,
            version_ids=new_version_ids,
            limit=len(links) + LINK_COUNT_MAX + 1,
        )
        fresh = [link for link in found if (link.run_key, link.version_id, link.kind) not in links]
        room = LINK_COUNT_MAX - len(links)
        is_cut = len(fresh) > room
        for link in fresh[:room]:
            links[link.run_key, link.version_id, link.kind] = link
        new_runs = {link.run_key for link in fresh[:room]} - runs
        new_version_ids = {link.version_id for link in fresh[:room]} - version_ids
        runs |= new_runs
        version_ids |= new_version_ids
    versions = await store.read_versions(version_ids)
    # A version that was deleted meanwhile took its links with it.
    kept = [link for link in links.values() if link.version_id in versions]
    ordered = [versions[key] for key in sorted(versions)]
    return Lineage(ordered, kept, is_cut)
