"""The SQL schema, as SQLAlchemy Core tables; migrations bring a database to it, `alembic check` compares."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.engine import Dialect

LIVE_STATES_SQL = "state IN ('pending', 'running', 'stopping') AND delete_time_unix_ns IS NULL"
OPEN_PURGES_SQL = "step < 5"
OPEN_STOPS_SQL = f"stop_stage IS NOT NULL AND {LIVE_STATES_SQL}"


class UInt64(TypeDecorator[int]):
    """A 64-bit unsigned integer, stored as the signed one of the same bits; neither database has an unsigned type.

    Values from 2**63 on order below the others; run keys reach that in the year 2039.
    """

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> int | None:
        """Returns the signed integer of the same bits."""
        if value is None or value < 2**63:
            return value
        return value - 2**64

    def process_result_value(self, value: int | None, dialect: Dialect) -> int | None:
        """Returns the unsigned integer of the same bits."""
        if value is None or value >= 0:
            return value
        return value + 2**64


def name_type() -> Any:
    """Returns a text type that orders by bytes on both databases."""
    return Text().with_variant(Text(collation="C"), "postgresql")


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

entities = Table(
    "entities",
    metadata,
    Column("name", name_type(), primary_key=True),
    Column("create_time_unix_ns", BigInteger, nullable=False),
)

projects = Table(
    "projects",
    metadata,
    Column("entity", name_type(), ForeignKey("entities.name"), primary_key=True),
    Column("name", name_type(), primary_key=True),
    Column("description", Text, nullable=False),
    Column("create_time_unix_ns", BigInteger, nullable=False),
    Column("activity_time_unix_ns", BigInteger, nullable=False),
    Column("run_count", BigInteger, nullable=False),
    Column("live_run_count", BigInteger, nullable=False),
    Column("run_number_last", BigInteger, nullable=False),
    Column("settings_json", Text, nullable=False, server_default="{}"),
    Index("ix_projects_activity", "activity_time_unix_ns", "entity", "name"),
)

runs = Table(
    "runs",
    metadata,
    Column("run_key", UInt64, primary_key=True, autoincrement=False),
    Column("entity", name_type(), nullable=False),
    Column("project", name_type(), nullable=False),
    Column("run_id", name_type(), nullable=False),
    Column("display_name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("config_json", Text, nullable=False),
    Column("notes", Text, nullable=False),
    Column("tags_json", Text, nullable=False),
    Column("group_name", Text, nullable=False),
    Column("job_type", Text, nullable=False),
    Column("create_time_unix_ns", BigInteger, nullable=False),
    Column("start_time_unix_ns", BigInteger),
    Column("end_time_unix_ns", BigInteger),
    Column("heartbeat_time_unix_ns", BigInteger),
    Column("update_time_unix_ns", BigInteger, nullable=False),
    Column("exit_code", Integer),
    Column("host_json", Text, nullable=False),
    Column("metric_definitions_json", Text, nullable=False),
    Column("attempt_count", Integer, nullable=False),
    Column("writer_count", Integer, nullable=False),
    Column("delete_time_unix_ns", BigInteger),
    Column("version", BigInteger, nullable=False),
    Column("life_json", Text, nullable=False, server_default="{}"),
    Column("stalled_since_unix_ns", BigInteger),
    Column("stop_stage", Integer),
    UniqueConstraint("entity", "project", "run_id"),
    ForeignKeyConstraint(["entity", "project"], ["projects.entity", "projects.name"]),
    Index(
        "ix_runs_live",
        "run_key",
        sqlite_where=text(LIVE_STATES_SQL),
        postgresql_where=text(LIVE_STATES_SQL),
    ),
    Index(
        "ix_runs_stopping",
        "run_key",
        sqlite_where=text(OPEN_STOPS_SQL),
        postgresql_where=text(OPEN_STOPS_SQL),
    ),
)

run_ancestors = Table(
    "run_ancestors",
    metadata,
    Column("run_key", UInt64, ForeignKey("runs.run_key"), primary_key=True, autoincrement=False),
    Column("ancestor_key", UInt64, primary_key=True, autoincrement=False),
    Index("ix_run_ancestors_ancestor", "ancestor_key", "run_key"),
)
"""Whose points a fork reads as its own."""

attempts = Table(
    "attempts",
    metadata,
    Column("run_key", UInt64, ForeignKey("runs.run_key"), primary_key=True, autoincrement=False),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("start_time_unix_ns", BigInteger, nullable=False),
    Column("first_writer", BigInteger, nullable=False),
    Column("hostname", Text, nullable=False),
    Column("rewound_to_step", BigInteger),
    Column("state", Text, nullable=False),
    Column("end_time_unix_ns", BigInteger),
)

heartbeats = Table(
    "heartbeats",
    metadata,
    Column("run_key", UInt64, primary_key=True, autoincrement=False),
    Column("time_unix_ns", BigInteger, nullable=False),
)
"""Last signs of life, apart from the runs: a beat must never wait for, or hold up, who changes a document."""

writers = Table(
    "writers",
    metadata,
    Column("run_key", UInt64, ForeignKey("runs.run_key"), primary_key=True, autoincrement=False),
    Column("writer", BigInteger, primary_key=True, autoincrement=False),
    Column("request_id", Text, nullable=False, unique=True),
    Column("label", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("is_resumed", Boolean, nullable=False),
    Column("start_time_unix_ns", BigInteger, nullable=False),
    Column("applied_sequence", UInt64, nullable=False),
    Column("is_counted", Boolean, nullable=False),
    Column("end_state", Text),
    Column("end_cause", Text),
    Column("end_evidence", Text),
    Column("end_time_unix_ns", BigInteger),
    Column("exit_code", Integer),
    Column("last_sequence", UInt64),
    Column("identity_json", Text, nullable=False, server_default="{}"),
    Column("exception_json", Text),
    Column("records_refused", UInt64),
)

events = Table(
    "events",
    metadata,
    Column(
        "number",
        BigInteger().with_variant(Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    Column("run_key", UInt64, ForeignKey("runs.run_key"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("from_state", Text),
    Column("to_state", Text),
    Column("cause", Text),
    Column("evidence", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("record_time_unix_ns", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("writer", BigInteger, nullable=False),
    Column("title", Text, nullable=False),
    Column("level", Text),
    Index("ix_events_run", "run_key", "number"),
)
"""All that happened to runs; from_state, to_state and cause are set for transitions only."""

purges = Table(
    "purges",
    metadata,
    Column("run_key", UInt64, primary_key=True, autoincrement=False),
    Column("entity", name_type(), nullable=False),
    Column("project", name_type(), nullable=False),
    Column("run_id", name_type(), nullable=False),
    Column("display_name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("deleted_by", Text, nullable=False),
    Column("delete_time_unix_ns", BigInteger, nullable=False),
    Column("due_time_unix_ns", BigInteger, nullable=False),
    Column("step", Integer, nullable=False),
    Column("purge_time_unix_ns", BigInteger),
    Column("stores_json", Text, nullable=False),
    Column("trouble", Text, nullable=False),
    Column("lease_end_unix_ns", BigInteger, nullable=False),
    Index("ix_purges_deleted", "delete_time_unix_ns", "run_key"),
    Index(
        "ix_purges_due",
        "due_time_unix_ns",
        sqlite_where=text(OPEN_PURGES_SQL),
        postgresql_where=text(OPEN_PURGES_SQL),
    ),
)
"""Deleted runs: those in the trash, those being purged, and what the purge of the others freed."""

monitor_replicas = Table(
    "monitor_replicas",
    metadata,
    Column("replica_id", Text, primary_key=True),
    Column("address", Text, nullable=False),
    Column("lease_end_unix_ns", BigInteger, nullable=False),
)

notifications = Table(
    "notifications",
    metadata,
    Column(
        "number",
        BigInteger().with_variant(Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    Column("entity", name_type(), nullable=False),
    Column("project", name_type(), nullable=False),
    Column("run_key", UInt64, nullable=False),
    Column("event_number", BigInteger, nullable=False),
    Column("event_name", Text, nullable=False),
    Column("target_name", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("try_count", Integer, nullable=False),
    Column("last_error", Text, nullable=False),
    Column("create_time_unix_ns", BigInteger, nullable=False),
    Column("next_try_time_unix_ns", BigInteger),
    Column("lease_end_unix_ns", BigInteger, nullable=False),
    Index("ix_notifications_project", "entity", "project", "number"),
    Index("ix_notifications_run", "run_key", "create_time_unix_ns"),
    Index(
        "ix_notifications_due",
        "next_try_time_unix_ns",
        sqlite_where=text("state = 'pending'"),
        postgresql_where=text("state = 'pending'"),
    ),
)
"""Events on their way to the targets of their projects, and what became of them."""

outbox = Table(
    "outbox",
    metadata,
    Column("run_key", UInt64, ForeignKey("runs.run_key"), primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False),
    Column("waiting_since_unix_ns", BigInteger, nullable=False),
    Index("ix_outbox_waiting", "waiting_since_unix_ns", "run_key"),
)

objects = Table(
    "objects",
    metadata,
    Column("object_key", Text, primary_key=True),
    Column("run_key", UInt64, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("name_count", BigInteger, nullable=False),
    Column("release_time_unix_ns", BigInteger),
    Index("ix_objects_content", "run_key", "sha256"),
    Index(
        "ix_objects_released",
        "release_time_unix_ns",
        sqlite_where=text("name_count = 0"),
        postgresql_where=text("name_count = 0"),
    ),
)
"""Objects that names refer to, and released ones (name_count 0) until they are gone from the object store."""

files = Table(
    "files",
    metadata,
    Column("run_key", UInt64, primary_key=True, autoincrement=False),
    Column("name", name_type(), primary_key=True),
    Column("object_key", Text, ForeignKey("objects.object_key"), nullable=False),
    Column("content_type", Text, nullable=False),
    Column("update_time_unix_ns", BigInteger, nullable=False),
    Index("ix_files_object", "object_key"),
)

uploads = Table(
    "uploads",
    metadata,
    Column("upload_id", Text, primary_key=True),
    Column("run_key", UInt64, nullable=False),
    Column("name", Text, nullable=False),
    Column("object_key", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("part_bytes", BigInteger, nullable=False),
    Column("part_count", Integer, nullable=False),
    Column("part_md5s", LargeBinary, nullable=False),
    Column("multipart_id", Text, nullable=False),
    Column("create_time_unix_ns", BigInteger, nullable=False),
    Column("complete_time_unix_ns", BigInteger),
    Index("ix_uploads_created", "create_time_unix_ns"),
    Index("ix_uploads_run_name", "run_key", "name"),
)

file_purges = Table(
    "file_purges",
    metadata,
    Column("run_key", UInt64, primary_key=True, autoincrement=False),
    Column("files", BigInteger, nullable=False),
    Column("objects", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
)
"""What purges of runs freed of their files so far, counted with each removal."""

console_logs = Table(
    "console_logs",
    metadata,
    Column("run_key", UInt64, primary_key=True, autoincrement=False),
    Column("seen_block", BigInteger, nullable=False),
    Column("archived_block", BigInteger, nullable=False),
    Column("dropped_block", BigInteger, nullable=False),
    Column("end_time_unix_ns", BigInteger, nullable=False),
    Column("due_time_unix_ns", BigInteger, nullable=False),
    Index("ix_console_logs_seen", "seen_block"),
    Index(
        "ix_console_logs_unarchived",
        "due_time_unix_ns",
        sqlite_where=text("archived_block < seen_block"),
        postgresql_where=text("archived_block < seen_block"),
    ),
    Index(
        "ix_console_logs_undropped",
        "end_time_unix_ns",
        sqlite_where=text("dropped_block < archived_block"),
        postgresql_where=text("dropped_block < archived_block"),
    ),
)
"""How far the logs of runs are archived, and dropped from ClickHouse; see storage.ports.console_logs."""
