"""Reads runs back: `runyard.Api().run("entity/project/run_id").history()`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, overload

from runyard import rpc_projects, rpc_trash
from runyard.api_artifacts import ApiArtifacts
from runyard.api_projects import Project
from runyard.api_run import Run
from runyard.errors import NotOffered
from runyard.paths import checked_path, project_path, run_path
from runyard.rpc import Client, Connection
from runyard.rpc_trash import DeletedRun, Refusal
from runyard.settings import DEFAULT_ENTITY, Settings, resolve

PAGE_SIZE = 50


class Api(ApiArtifacts):
    """A server to read from: by default the one that `init()` would log to."""

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout_s: float = 60.0,
        overrides: dict[str, Any] | None = None,
    ) -> None:
        given = dict(overrides or {})
        arguments = {
            "base_url": base_url or given.get("base_url"),
            "api_key": api_key or given.get("api_key"),
            "entity": given.get("entity"),
            "project": given.get("project"),
        }
        self.settings = resolve(arguments, Settings())
        self._connection = Connection(
            self.settings.base_url, self.settings.api_key, timeout_s=timeout_s
        )
        self._client = Client(self._connection)

    @property
    def default_entity(self) -> str:
        """Returns the owner that paths without one mean."""
        return self.settings.entity or DEFAULT_ENTITY

    def run(self, path: str) -> Run:
        """Returns the run at `entity/project/run_id`; parts left out at the front are the defaults. Raises NotFound."""
        full = run_path(path, self.settings)
        return Run(self._client, self._client.get_run(full), self.settings.base_url)

    def runs(
        self,
        path: str | None = None,
        filters: Any = None,
        order: str | None = None,
        per_page: int = PAGE_SIZE,
        *,
        name_contains: str = "",
        states: Sequence[str] = (),
    ) -> Runs:
        """Returns the runs of `entity/project`, newest first; pages are fetched as they are looked at."""
        if filters:
            raise NotOffered(
                "Api.runs(filters=…) is not offered by this version; name_contains= and states= are"
            )
        if order not in (None, "-created_at"):
            raise NotOffered(
                f"Api.runs(order={order!r}) is not offered by this version: runs come newest first"
            )
        full = project_path(path, self.settings)
        query = {"name_contains": name_contains, "states": tuple(states)}
        return Runs(self._client, full, per_page, query, self.settings.base_url)

    def project(self, path: str) -> Project:
        """Returns the project `entity/project`, with its settings; raises NotFound."""
        record = rpc_projects.read_project(self._connection, project_path(path, self.settings))
        return Project(self._connection, record, self.settings.base_url)

    def projects(self, entity: str | None = None, per_page: int = PAGE_SIZE) -> list[Project]:
        """Returns the projects of an owner, or all, latest activity first."""
        records = self._client.list_projects(entity or "")
        return [Project(self._connection, record, self.settings.base_url) for record in records]

    def delete_runs(
        self, paths: Sequence[str], *, now: bool = False
    ) -> tuple[list[DeletedRun], list[Refusal]]:
        """Moves runs to the trash, with `now` past it; returns those that are deleted, and those that cannot be.

        Raises InvalidArgument, and deletes none, if one of the paths is none.
        """
        full = [run_path(path, self.settings) for path in paths]
        return rpc_trash.delete_runs(self._connection, full, is_now=now)

    def restore_runs(self, paths: Sequence[str]) -> tuple[list[str], list[Refusal]]:
        """Takes runs out of the trash; returns the paths of those that are there again, and those that cannot be."""
        full = [run_path(path, self.settings) for path in paths]
        return rpc_trash.restore_runs(self._connection, full)

    def restore(self, path: str) -> Run:
        """Takes a run out of the trash, as it was, and returns it; raises FailedPrecondition if it was purged."""
        full = run_path(path, self.settings)
        rpc_trash.raise_refusal(self.restore_runs([full])[1])
        return self.run(full)

    def deleted_runs(self, path: str = "", *, with_purged: bool = False) -> Iterator[DeletedRun]:
        """Yields the runs in the trash of `entity/project`, an entity, or all; with the purged ones' receipts if asked."""
        return rpc_trash.list_deleted_runs(
            self._connection,
            checked_path(path, "a project").strip("/"),
            is_with_purged=with_purged,
        )

    def close(self) -> None:
        """Lets go of the connection."""
        self._connection.close()

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<runyard Api {self.settings.base_url}>"


class Runs(Sequence["Run"]):
    """Runs of a project; a page is fetched when one of its runs is looked at."""

    def __init__(
        self, client: Client, path: str, page_size: int, query: dict[str, Any], base_url: str
    ) -> None:
        self._client = client
        self._path = path
        self._page_size = page_size
        self._query = query
        self._base_url = base_url
        self._loaded: list[Run] = []
        self._page_token = ""
        self._total: int | None = None
        self._is_all = False

    def __len__(self) -> int:
        if self._total is None:
            self._load_page()
        assert self._total is not None
        return self._total

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> list[Run]: ...
    def __getitem__(self, index: int | slice) -> Run | list[Run]:
        if isinstance(index, slice):
            stop = index.stop
            is_open = stop is None or stop < 0 or (index.start or 0) < 0 or (index.step or 1) < 0
            self._load_to(None if is_open else stop)
            return self._loaded[index]
        self._load_to(None if index < 0 else index + 1)
        return self._loaded[index]

    def __iter__(self) -> Iterator[Run]:
        for index in itertools.count():
            self._load_to(index + 1)
            if index >= len(self._loaded):
                return
            yield self._loaded[index]

    def __repr__(self) -> str:
        return f"<runyard runs of {self._path}>"

    def _load_to(self, count: int | None) -> None:
        while not self._is_all and (count is None or len(self._loaded) < count):
            self._load_page()

    def _load_page(self) -> None:
        records, self._page_token, self._total = self._client.query_runs(
            self._path, page_size=self._page_size, page_token=self._page_token, **self._query
        )
        self._loaded.extend(Run(self._client, record, self._base_url) for record in records)
        self._is_all = not self._page_token
