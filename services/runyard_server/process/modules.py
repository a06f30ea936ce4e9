"""The table of what a process can be made of, what each module needs, and in which order that is made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

ALL: Final = "all"


class TargetProblem(ValueError):
    """The targets asked for, or the table itself, make no process."""


@dataclass(frozen=True, slots=True)
class Module:
    """One row of the table."""

    name: str
    summary: str
    needs: tuple[str, ...] = ()
    """Modules that must be made before it, in the same process."""
    calls: tuple[str, ...] = ()
    """Targets that it asks over gRPC, in this process or another."""
    is_target: bool = False
    """True if a process may be asked to run it."""


MODULES: Final = (
    Module("clickhouse", "points, receipts and the index of runs: ClickHouse or embedded chDB"),
    Module("sql", "what must be transactional: PostgreSQL or SQLite"),
    Module("blobs", "objects: any S3, or a local one"),
    Module("siblings", "channels to the other services"),
    Module(
        "ingest",
        "the write path: acknowledges batches that are durable",
        needs=("clickhouse", "siblings"),
        calls=("metadata",),
        is_target=True,
    ),
    Module(
        "query",
        "reads: series, buckets, runs, receipts",
        needs=("clickhouse", "siblings"),
        calls=("metadata", "monitor", "files"),
        is_target=True,
    ),
    Module(
        "metadata",
        "entities, projects, runs and their states",
        needs=("sql", "clickhouse", "siblings"),
        calls=("query", "ingest", "files"),
        is_target=True,
    ),
    Module(
        "monitor",
        "heartbeats and verdicts",
        needs=("siblings",),
        calls=("metadata",),
        is_target=True,
    ),
    Module(
        "files",
        "files of runs: presigned uploads and downloads; archives of what they printed",
        needs=("sql", "blobs", "siblings"),
        calls=("metadata", "query", "ingest"),
        is_target=True,
    ),
    Module(
        "gateway",
        "HTTP: the web application, JSON and Connect access to every unary RPC",
        needs=("siblings",),
        calls=("ingest", "query", "metadata", "monitor", "files"),
        is_target=True,
    ),
)


def target_names(table: Sequence[Module] = MODULES) -> tuple[str, ...]:
    """Returns the names that a process may be asked to run, in the order of the table; "all" stands for every one."""
    return tuple(module.name for module in table if module.is_target)


def select_targets(names: Iterable[str], table: Sequence[Module] = MODULES) -> tuple[str, ...]:
    """Returns the targets meant, each once, in the order of the table; raises TargetProblem for unknown names and none."""
    wanted = [name.strip() for name in names]
    known = target_names(table)
    unknown = [name for name in wanted if name != ALL and name not in known]
    if unknown:
        listed = ", ".join((ALL, *known))
        raise TargetProblem(f"unknown target {', '.join(map(repr, unknown))}: there are {listed}")
    if not wanted:
        raise TargetProblem(f"no target: choose from {', '.join((ALL, *known))}")
    return known if ALL in wanted else tuple(name for name in known if name in wanted)


def order_modules(targets: Iterable[str], table: Sequence[Module] = MODULES) -> tuple[str, ...]:
    """Returns the targets and all that they need, each after what it needs; raises TargetProblem for a cycle or a gap."""
    rows: Mapping[str, Module] = {module.name: module for module in table}
    ordered: list[str] = []
    path: list[str] = []

    def visit(name: str) -> None:
        if name in ordered:
            return
        if name in path:
            raise TargetProblem(f"modules need each other: {' -> '.join([*path, name])}")
        if name not in rows:
            raise TargetProblem(
                f"module {path[-1] if path else ''!r} needs unknown module {name!r}"
            )
        path.append(name)
        for needed in rows[name].needs:
            visit(needed)
        path.pop()
        ordered.append(name)

    for target in targets:
        visit(target)
    return tuple(ordered)


def remote_services(targets: Iterable[str], table: Sequence[Module] = MODULES) -> tuple[str, ...]:
    """Returns the services that these targets ask and that do not run beside them, in the order of the table."""
    here = set(targets)
    asked = {called for module in table if module.name in here for called in module.calls}
    return tuple(name for name in target_names(table) if name in asked - here)
