"""Runs, as reads need them: from a path to a key, and pages of a project with the asked keys of config and summary."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import Counter

from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import NotFound
from runyard_server.domain.projects import Project
from runyard_server.domain.run import (
    RunDocument,
    RunKey,
    check_entity_name,
    check_project_name,
    check_run_id,
    split_run_path,
)
from runyard_server.storage.ports.runs import IndexedRun, RunIndex

LOOKUPS = Counter(
    "runyard_query_run_lookups_total", "Paths turned into run keys, by source.", ("source",)
)
SIBLING_LOOKUPS_MAX = 16

RunName = tuple[str, str, str]
"""(entity, project, run_id)."""


class RunSource(Protocol):
    """What knows runs before the index does: rpc.siblings.Siblings."""

    async def get_run(
        self, *, path: str | None = None, run_key: RunKey | None = None
    ) -> RunDocument:
        """Returns one run. Raises NotFound RUN_NOT_FOUND, FailedPrecondition RUN_DELETED, Unavailable."""
        ...

    async def get_project(self, path: str) -> Project:
        """Returns one project. Raises NotFound PROJECT_NOT_FOUND, Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class RunFinderConfig:
    """How paths are turned into runs."""

    cache_count_max: int = 100_000
    """Paths remembered, about 300 bytes each."""
    cache_age_max_s: float = 2.0
    """How long a path is remembered: a deleted run may be read, and a rewind be missed, for as long."""


class RunFinder:
    """Turns paths into runs: from memory, from the index, and for runs newer than the index from metadata."""

    def __init__(
        self, config: RunFinderConfig, *, index: RunIndex, source: RunSource, clock: Clock
    ) -> None:
        self._config = config
        self._index = index
        self._source = source
        self._clock = clock
        self._known: collections.OrderedDict[str, tuple[IndexedRun, float]] = (
            collections.OrderedDict()
        )

    async def find(self, path: str) -> IndexedRun:
        """Returns one run. Raises InvalidArgument, NotFound, FailedPrecondition RUN_DELETED."""
        return (await self.find_all([path]))[path]

    async def find_now(self, path: str) -> IndexedRun:
        """Returns one run as metadata has it: what was rewound a moment ago is so here. Raises as `find`, and Unavailable."""
        check_run_path(path)
        return (await self._ask_source([path]))[path]

    async def find_all(self, paths: Iterable[str]) -> dict[str, IndexedRun]:
        """Returns all these runs, in order. Raises as `find` for the first that has none."""
        names = {path: check_run_path(path) for path in paths}
        found = {path: key for path in names if (key := self._remembered(path)) is not None}
        LOOKUPS.labels("memory").inc(len(found))
        missing = [path for path in names if path not in found]
        if missing:
            indexed = await self._index.find_runs([names[path] for path in missing])
            for path in missing:
                if names[path] in indexed:
                    found[path] = indexed[names[path]]
                    self._remember(path, found[path])
            LOOKUPS.labels("index").inc(len(indexed))
            found |= await self._ask_source([path for path in missing if path not in found])
        return {path: found[path] for path in names}

    async def _ask_source(self, paths: Sequence[str]) -> dict[str, IndexedRun]:
        """Asks for few at a time, and stops at the first that there is not."""
        found: dict[str, IndexedRun] = {}
        for start in range(0, len(paths), SIBLING_LOOKUPS_MAX):
            some = paths[start : start + SIBLING_LOOKUPS_MAX]
            LOOKUPS.labels("metadata").inc(len(some))
            documents = await asyncio.gather(*(self._source.get_run(path=path) for path in some))
            for path, document in zip(some, documents, strict=True):
                found[path] = IndexedRun(document.run_key, document.history_parts)
                self._remember(path, found[path])
        return found

    def _remembered(self, path: str) -> IndexedRun | None:
        entry = self._known.get(path)
        if entry is None:
            return None
        run, since_s = entry
        if self._clock.monotonic_s() - since_s > self._config.cache_age_max_s:
            del self._known[path]
            return None
        return run

    def _remember(self, path: str, run: IndexedRun) -> None:
        self._known[path] = (run, self._clock.monotonic_s())
        self._known.move_to_end(path)
        while len(self._known) > self._config.cache_count_max:
            self._known.popitem(last=False)


async def read_document(index: RunIndex, source: RunSource, run_key: RunKey) -> RunDocument:
    """Returns a run's document: from the index, or from metadata where the index has it not yet."""
    documents: Mapping[RunKey, RunDocument] = await index.read_runs([run_key])
    document = documents.get(run_key)
    if document is None:
        document = await source.get_run(run_key=run_key)
    if document.is_deleted:
        raise NotFound(
            "RUN_NOT_FOUND",
            f"run {document.path} was deleted",
            metadata={"run": document.path},
        )
    return document


def check_run_path(path: str) -> RunName:
    """Returns (entity, project, run_id); raises InvalidArgument if the path can name no run."""
    entity, project, run_id = split_run_path(path)
    return check_entity_name(entity), check_project_name(project), check_run_id(run_id)
