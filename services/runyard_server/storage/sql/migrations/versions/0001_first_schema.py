"""First schema: entities, projects, runs with writers, transitions and outbox; files with objects and uploads."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_LIVE = sa.text("state IN ('pending', 'running', 'stopping') AND delete_time_unix_ns IS NULL")
_RELEASED = sa.text("name_count = 0")


def upgrade() -> None:
    """Applies the migration."""
    _create_entities()
    _create_projects()
    _create_runs()
    _create_writers()
    _create_transitions()
    _create_outbox()
    _create_objects()
    _create_files()
    _create_uploads()


def _create_entities() -> None:
    op.create_table(
        "entities",
        sa.Column("name", _NAME, nullable=False),
        sa.Column("create_time_unix_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_entities")),
    )


def _create_projects() -> None:
    op.create_table(
        "projects",
        sa.Column("entity", _NAME, nullable=False),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("create_time_unix_ns", sa.BigInteger(), nullable=False),
        sa.Column("activity_time_unix_ns", sa.BigInteger(), nullable=False),
        sa.Column("run_count", sa.BigInteger(), nullable=False),
        sa.Column("live_run_count", sa.BigInteger(), nullable=False),
        sa.Column("run_number_last", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["entity"], ["entities.name"], name=op.f("fk_projects_entity_entities")
        ),
        sa.PrimaryKeyConstraint("entity", "name", name=op.f("pk_projects")),
    )
    op.create_index("ix_projects_activity", "projects", ["activity_time_unix_ns", "entity", "name"])


def _create_runs() -> None:
    op.create_table(
        "runs",
        sa.Column("run_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("entity", _NAME, nullable=False),
        sa.Column("project", _NAME, nullable=False),
        sa.Column("run_id", _NAME, nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("config_json", sa.Text(), nullable=False),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.Column("tags_json", sa.Text(), nullable=False),
        sa.Column("group_name", sa.Text(), nullable=False),
        sa.Column("job_type", sa.Text(), nullable=False),
        sa.Column("create_time_unix_ns", sa.BigInteger(), nullable=False),
        sa.Column("start_time_unix_ns", sa.BigInteger(), nullable=True),
        sa.Column("end_time_unix_ns", sa.BigInteger(), nullable=True),
        sa.Column("heartbeat_time_unix_ns", sa.BigInteger(), nullable=True),
        sa.Column("update_time_unix_ns", sa.BigInteger(), nullable=False),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("host_json", sa.Text(), nullable=False),
        sa.Column("metric_definitions_json", sa.Text(), nullable=False),
        sa.Column("attempt_count", sa.Integer(), nullable=False),
        sa.Column("writer_count", sa.Integer(), nullable=False),
        sa.Column("delete_time_unix_ns", sa.BigInteger(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["entity", "project"],
            ["projects.entity", "projects.name"],
            name=op.f("fk_runs_entity_project_projects"),
        ),
        sa.PrimaryKeyConstraint("run_key", name=op.f("pk_runs")),
        sa.UniqueConstraint(
            "entity", "project", "run_id", name=op.f("uq_runs_entity_project_run_id")
        ),
    )
    op.create_index("ix_runs_live", "runs", ["run_key"], sqlite_where=_LIVE, postgresql_where=_LIVE)


def _create_writers() -> None:
    op.create_table(
        "writers",
        sa.Column("run_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("writer", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("is_resumed", sa.Boolean(), nullable=False),
        sa.Column("start_time_unix_ns", sa.BigInteger(), nullable=False),
        sa.Column("applied_sequence", sa.BigInteger(), nullable=False),
        sa.Column("is_counted", sa.Boolean(), nullable=False),
        sa.Column("end_state", sa.Text(), nullable=True),
        sa.Column("end_cause", sa.Text(), nullable=True),
        sa.Column("end_evidence", sa.Text(), nullable=True),
        sa.Column("end_time_unix_ns", sa.BigInteger(), nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("last_sequence", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_key"], ["runs.run_key"], name=op.f("fk_writers_run_key_runs")
        ),
        sa.PrimaryKeyConstraint("run_key", "writer", name=op.f("pk_writers")),
        sa.UniqueConstraint("request_id", name=op.f("uq_writers_request_id")),
    )


def _create_transitions() -> None:
    op.create_table(
        "transitions",
        sa.Column(
            "number",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("run_key", sa.BigInteger(), nullable=False),
        sa.Column("from_state", sa.Text(), nullable=True),
        sa.Column("to_state", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("record_time_unix_ns", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_key"], ["runs.run_key"], name=op.f("fk_transitions_run_key_runs")
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_transitions")),
    )
    op.create_index("ix_transitions_run", "transitions", ["run_key", "number"])


def _create_outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("run_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("waiting_since_unix_ns", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["run_key"], ["runs.run_key"], name=op.f("fk_outbox_run_key_runs")),
        sa.PrimaryKeyConstraint("run_key", name=op.f("pk_outbox")),
    )
    op.create_index("ix_outbox_waiting", "outbox", ["waiting_since_unix_ns", "run_key"])


def _create_objects() -> None:
    op.create_table(
        "objects",
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.Column("run_key", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("name_count", sa.BigInteger(), nullable=False),
        sa.Column("release_time_unix_ns", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("object_key", name=op.f("pk_objects")),
    )
    op.create_index("ix_objects_content", "objects", ["run_key", "sha256"])
    op.create_index(
        "ix_objects_released",
        "objects",
        ["release_time_unix_ns"],
        sqlite_where=_RELEASED,
        postgresql_where=_RELEASED,
    )


def _create_files() -> None:
    op.create_table(
        "files",
        sa.Column("run_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("update_time_unix_ns", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["object_key"], ["objects.object_key"], name=op.f("fk_files_object_key_objects")
        ),
        sa.PrimaryKeyConstraint("run_key", "name", name=op.f("pk_files")),
    )
    op.create_index("ix_files_object", "files", ["object_key"])


def _create_uploads() -> None:
    op.create_table(
        "uploads",
        sa.Column("upload_id", sa.Text(), nullable=False),
        sa.Column("run_key", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("part_bytes", sa.BigInteger(), nullable=False),
        sa.Column("part_count", sa.Integer(), nullable=False),
        sa.Column("part_md5s", sa.LargeBinary(), nullable=False),
        sa.Column("multipart_id", sa.Text(), nullable=False),
        sa.Column("create_time_unix_ns", sa.BigInteger(), nullable=False),
        sa.Column("complete_time_unix_ns", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("upload_id", name=op.f("pk_uploads")),
    )
    op.create_index("ix_uploads_created", "uploads", ["create_time_unix_ns"])
