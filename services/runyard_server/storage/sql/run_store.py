"""The RunStore over SQL; statements are the same for SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Select, and_, delete, func, insert, or_, select, text, update

from runyard_server.domain.attempts import RunAttempt
from runyard_server.domain.events import RunEvent, RunEventKind
from runyard_server.domain.projects import Project, ProjectSettings
from runyard_server.domain.run import LiveRun, RunDocument, RunKey, RunState
from runyard_server.domain.writers import Writer
from runyard_server.storage.ports.run_store import ProjectPosition, RunTransaction
from runyard_server.storage.settings_json import settings_from_json, settings_to_json
from runyard_server.storage.sql import run_rows
from runyard_server.storage.sql.database import Database
from runyard_server.storage.sql.purges import PurgeTables
from runyard_server.storage.sql.schema import (
    LIVE_STATES_SQL,
    OPEN_STOPS_SQL,
    attempts,
    entities,
    events,
    outbox,
    projects,
    run_ancestors,
    runs,
    writers,
)
from runyard_server.storage.sql.schema import heartbeats as heartbeats_table

T = TypeVar("T")


class SqlRunStore:
    """Keeps runs in a SQL database; see the port RunStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def transact(self, action: Callable[[RunTransaction], T]) -> T:
        """Returns what the action returns, once all that it wrote is durable."""
        return await self._database.transact(lambda connection: action(_Transaction(connection)))


class _Transaction(PurgeTables):
    """One transaction; see the port RunTransaction."""

    def find_project(self, entity: str, project: str) -> Project | None:
        where = and_(projects.c.entity == entity, projects.c.name == project)
        row = self._connection.execute(select(projects).where(where)).first()
        return run_rows.project_of(row) if row else None

    def insert_project(self, project: Project) -> None:
        self._connection.execute(
            self._upsert(entities)
            .values(name=project.entity, create_time_unix_ns=project.create_time_unix_ns)
            .on_conflict_do_nothing()
        )
        self._connection.execute(
            insert(projects).values(
                entity=project.entity,
                name=project.name,
                description=project.description,
                create_time_unix_ns=project.create_time_unix_ns,
                activity_time_unix_ns=project.activity_time_unix_ns,
                run_count=project.run_count,
                live_run_count=project.live_run_count,
                run_number_last=0,
                settings_json=settings_to_json(project.settings),
            )
        )

    def save_project(self, project: Project) -> None:
        where = and_(projects.c.entity == project.entity, projects.c.name == project.name)
        changed = self._connection.execute(
            update(projects)
            .where(where)
            .values(
                description=project.description, settings_json=settings_to_json(project.settings)
            )
        )
        assert changed.rowcount == 1, f"there is no project {project.path}"

    def draw_run_number(self, entity: str, project: str) -> int:
        statement = (
            update(projects)
            .where(projects.c.entity == entity, projects.c.name == project)
            .values(run_number_last=projects.c.run_number_last + 1)
            .returning(projects.c.run_number_last)
        )
        return int(self._connection.execute(statement).scalar_one())

    def change_project(
        self,
        entity: str,
        project: str,
        *,
        run_count_change: int = 0,
        live_run_count_change: int = 0,
        activity_time_unix_ns: int,
    ) -> None:
        greatest = func.max if self._is_sqlite else func.greatest
        self._connection.execute(
            update(projects)
            .where(projects.c.entity == entity, projects.c.name == project)
            .values(
                run_count=projects.c.run_count + run_count_change,
                live_run_count=projects.c.live_run_count + live_run_count_change,
                activity_time_unix_ns=greatest(
                    projects.c.activity_time_unix_ns, activity_time_unix_ns
                ),
            )
        )

    def list_projects(
        self, *, entity: str, after: ProjectPosition | None, limit: int
    ) -> list[Project]:
        time, name = projects.c.activity_time_unix_ns, projects.c.name
        statement = select(projects).order_by(time.desc(), projects.c.entity, name).limit(limit)
        if entity:
            statement = statement.where(projects.c.entity == entity)
        if after:
            later_name = and_(projects.c.entity == after.entity, name > after.name)
            statement = statement.where(
                or_(
                    time < after.activity_time_unix_ns,
                    and_(
                        time == after.activity_time_unix_ns,
                        or_(projects.c.entity > after.entity, later_name),
                    ),
                )
            )
        return [run_rows.project_of(row) for row in self._connection.execute(statement)]

    def find_run(
        self, entity: str, project: str, run_id: str, *, will_change: bool
    ) -> RunDocument | None:
        where = and_(runs.c.entity == entity, runs.c.project == project, runs.c.run_id == run_id)
        return self._read_run(select(runs).where(where), will_change=will_change)

    def find_run_by_key(self, run_key: RunKey, *, will_change: bool) -> RunDocument | None:
        return self._read_run(
            select(runs).where(runs.c.run_key == run_key), will_change=will_change
        )

    def insert_run(self, document: RunDocument) -> None:
        self._connection.execute(insert(runs), run_rows.run_values(document))
        self._put_into_outbox(document)

    def save_run(self, document: RunDocument) -> None:
        values = run_rows.run_values(document)
        for name in ("run_key", "entity", "project", "run_id"):
            del values[name]
        changed = self._connection.execute(
            update(runs)
            .where(runs.c.run_key == document.run_key, runs.c.version < document.version)
            .values(values)
        )
        assert changed.rowcount == 1, f"run {document.path} is not below version {document.version}"
        self._put_into_outbox(document)

    def list_live_runs(self, *, after_key: RunKey | None, limit: int) -> list[LiveRun]:
        statement = (
            select(
                runs.c.run_key,
                runs.c.entity,
                runs.c.project,
                runs.c.run_id,
                runs.c.state,
                runs.c.attempt_count,
                runs.c.stalled_since_unix_ns,
                projects.c.settings_json,
            )
            .join(
                projects,
                and_(projects.c.entity == runs.c.entity, projects.c.name == runs.c.project),
            )
            .where(text(LIVE_STATES_SQL))
            .order_by(runs.c.run_key)
            .limit(limit)
        )
        settings: dict[str, ProjectSettings] = {}
        if after_key is not None:
            statement = statement.where(runs.c.run_key > after_key)
        found = self._connection.execute(statement).all()
        for row in found:
            if row.settings_json not in settings:
                settings[row.settings_json] = settings_from_json(row.settings_json)
        return [
            LiveRun(
                run_key=RunKey(row.run_key),
                path=f"{row.entity}/{row.project}/{row.run_id}",
                state=RunState(row.state),
                attempt_count=row.attempt_count,
                crash_timeout_s=settings[row.settings_json].crash_timeout_s,
                stall_timeout_s=settings[row.settings_json].stall_timeout_s,
                straggler_steps=settings[row.settings_json].straggler_steps,
                stalled_since_unix_ns=row.stalled_since_unix_ns,
            )
            for row in found
        ]

    def record_heartbeats(self, heartbeats: Sequence[tuple[RunKey, int]]) -> None:
        if not heartbeats:
            return
        statement = self._upsert(heartbeats_table)
        # In one order, so that two calls cannot wait for each other.
        rows = [{"run_key": key, "time_unix_ns": time} for key, time in sorted(heartbeats)]
        self._connection.execute(
            statement.on_conflict_do_update(
                index_elements=[heartbeats_table.c.run_key],
                set_={"time_unix_ns": statement.excluded.time_unix_ns},
                where=heartbeats_table.c.time_unix_ns < statement.excluded.time_unix_ns,
            ),
            rows,
        )

    def find_heartbeat(self, run_key: RunKey) -> int | None:
        statement = select(heartbeats_table.c.time_unix_ns).where(
            heartbeats_table.c.run_key == run_key
        )
        time_unix_ns = self._connection.execute(statement).scalar()
        return None if time_unix_ns is None else int(time_unix_ns)

    def find_writer(self, run_key: RunKey, writer: int) -> Writer | None:
        where = and_(writers.c.run_key == run_key, writers.c.writer == writer)
        row = self._connection.execute(select(writers).where(where)).first()
        return run_rows.writer_of(row) if row else None

    def find_writer_by_request(self, request_id: str) -> Writer | None:
        statement = select(writers).where(writers.c.request_id == request_id)
        row = self._connection.execute(statement).first()
        return run_rows.writer_of(row) if row else None

    def list_counted_writers(self, run_key: RunKey) -> list[Writer]:
        statement = (
            select(writers)
            .where(writers.c.run_key == run_key, writers.c.is_counted)
            .order_by(writers.c.writer)
        )
        return [run_rows.writer_of(row) for row in self._connection.execute(statement)]

    def insert_writer(self, writer: Writer) -> None:
        self._connection.execute(insert(writers), run_rows.writer_values(writer))

    def save_writer(self, writer: Writer) -> None:
        values = run_rows.writer_values(writer)
        where = and_(writers.c.run_key == writer.run_key, writers.c.writer == writer.writer)
        changed = self._connection.execute(update(writers).where(where).values(values))
        assert changed.rowcount == 1, f"run {writer.run_key} has no writer {writer.writer}"

    def retire_writers(self, run_key: RunKey) -> None:
        where = and_(writers.c.run_key == run_key, writers.c.is_counted)
        self._connection.execute(update(writers).where(where).values(is_counted=False))

    def list_writers(self, run_key: RunKey, *, after_writer: int, limit: int) -> list[Writer]:
        statement = (
            select(writers)
            .where(writers.c.run_key == run_key, writers.c.writer > after_writer)
            .order_by(writers.c.writer)
            .limit(limit)
        )
        return [run_rows.writer_of(row) for row in self._connection.execute(statement)]

    def append_event(self, run_key: RunKey, event: RunEvent) -> int:
        statement = insert(events).returning(events.c.number)
        values = run_rows.event_values(run_key, event)
        return int(self._connection.execute(statement, values).scalar_one())

    def list_events(
        self,
        run_key: RunKey,
        *,
        after_number: int,
        limit: int,
        kinds: frozenset[RunEventKind] | None = None,
    ) -> list[RunEvent]:
        statement = (
            select(events)
            .where(events.c.run_key == run_key, events.c.number > after_number)
            .order_by(events.c.number)
            .limit(limit)
        )
        if kinds is not None:
            statement = statement.where(events.c.kind.in_(sorted(kind.value for kind in kinds)))
        return [run_rows.event_of(row) for row in self._connection.execute(statement)]

    def find_last_event(
        self, run_key: RunKey, kinds: frozenset[RunEventKind], *, writer: int
    ) -> RunEvent | None:
        statement = (
            select(events)
            .where(
                events.c.run_key == run_key,
                events.c.writer == writer,
                events.c.kind.in_(sorted(kind.value for kind in kinds)),
            )
            .order_by(events.c.number.desc())
            .limit(1)
        )
        row = self._connection.execute(statement).first()
        return run_rows.event_of(row) if row else None

    def save_attempt(self, run_key: RunKey, attempt: RunAttempt) -> None:
        values = run_rows.attempt_values(run_key, attempt)
        keys = [attempts.c.run_key, attempts.c.attempt]
        changes = {
            name: value for name, value in values.items() if name not in attempts.primary_key
        }
        statement = self._upsert(attempts).values(values)
        self._connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changes))

    def find_attempt(self, run_key: RunKey, attempt: int) -> RunAttempt | None:
        where = and_(attempts.c.run_key == run_key, attempts.c.attempt == attempt)
        row = self._connection.execute(select(attempts).where(where)).first()
        return run_rows.attempt_of(row) if row else None

    def list_attempts(self, run_key: RunKey) -> list[RunAttempt]:
        statement = (
            select(attempts).where(attempts.c.run_key == run_key).order_by(attempts.c.attempt)
        )
        return [run_rows.attempt_of(row) for row in self._connection.execute(statement)]

    def insert_ancestors(self, run_key: RunKey, ancestors: Sequence[RunKey]) -> None:
        rows = [{"run_key": run_key, "ancestor_key": key} for key in ancestors]
        if rows:
            self._connection.execute(insert(run_ancestors), rows)

    def list_forks(self, ancestor_key: RunKey, *, limit: int) -> list[RunDocument]:
        statement = (
            select(runs)
            .join(run_ancestors, run_ancestors.c.run_key == runs.c.run_key)
            .where(
                run_ancestors.c.ancestor_key == ancestor_key, runs.c.delete_time_unix_ns.is_(None)
            )
            .order_by(runs.c.run_key)
            .limit(limit)
        )
        return [run_rows.run_document(row) for row in self._connection.execute(statement)]

    def list_open_stops(self, *, after_key: RunKey | None, limit: int) -> list[RunDocument]:
        statement = select(runs).where(text(OPEN_STOPS_SQL)).order_by(runs.c.run_key).limit(limit)
        if after_key is not None:
            statement = statement.where(runs.c.run_key > after_key)
        return [run_rows.run_document(row) for row in self._connection.execute(statement)]

    def list_outbox(self, *, limit: int, bytes_max: int) -> list[RunDocument]:
        sizes = self._connection.execute(
            select(outbox.c.run_key, func.length(runs.c.config_json).label("size"))
            .join(runs, runs.c.run_key == outbox.c.run_key)
            .order_by(outbox.c.waiting_since_unix_ns, outbox.c.run_key)
            .limit(limit)
        )
        keys: list[int] = []
        total_bytes = 0
        for row in sizes:
            total_bytes += row.size
            if keys and total_bytes > bytes_max:
                break
            keys.append(row.run_key)
        found = self._connection.execute(select(runs).where(runs.c.run_key.in_(keys)))
        documents = {row.run_key: run_rows.run_document(row) for row in found}
        return [documents[key] for key in keys]

    def clear_outbox(self, published: Sequence[tuple[RunKey, int]]) -> None:
        for run_key, version in published:
            where = and_(outbox.c.run_key == run_key, outbox.c.version <= version)
            self._connection.execute(delete(outbox).where(where))

    def count_outbox(self) -> int:
        return int(self._connection.execute(select(func.count()).select_from(outbox)).scalar_one())

    def _read_run(self, statement: Select[Any], *, will_change: bool) -> RunDocument | None:
        if will_change:
            # SQLite renders nothing here: its transactions hold the write lock from the start.
            statement = statement.with_for_update()
        row = self._connection.execute(statement).first()
        return run_rows.run_document(row) if row else None

    def _put_into_outbox(self, document: RunDocument) -> None:
        statement = self._upsert(outbox).values(
            run_key=document.run_key,
            version=document.version,
            waiting_since_unix_ns=document.update_time_unix_ns,
        )
        # A run that waits already keeps its place.
        self._connection.execute(
            statement.on_conflict_do_update(
                index_elements=[outbox.c.run_key], set_={"version": document.version}
            )
        )
