"""Settings of projects, notifications, and the replicas of the monitor."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Applies the migration."""
    op.add_column(
        "projects", sa.Column("settings_json", sa.Text(), nullable=False, server_default="{}")
    )
    op.create_table(
        "monitor_replicas",
        sa.Column("replica_id", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("lease_end_unix_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("replica_id", name=op.f("pk_monitor_replicas")),
    )
    name = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    op.create_table(
        "notifications",
        sa.Column(
            "number",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("entity", name, nullable=False),
        sa.Column("project", name, nullable=False),
        sa.Column("run_key", sa.BigInteger(), nullable=False),
        sa.Column("event_number", sa.BigInteger(), nullable=False),
        sa.Column("event_name", sa.Text(), nullable=False),
        sa.Column("target_name", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("try_count", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.Column("create_time_unix_ns", sa.BigInteger(), nullable=False),
        sa.Column("next_try_time_unix_ns", sa.BigInteger()),
        sa.Column("lease_end_unix_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_notifications")),
    )
    op.create_index("ix_notifications_project", "notifications", ["entity", "project", "number"])
    op.create_index("ix_notifications_run", "notifications", ["run_key", "create_time_unix_ns"])
    op.create_index(
        "ix_notifications_due",
        "notifications",
        ["next_try_time_unix_ns"],
        sqlite_where=sa.text("state = 'pending'"),
        postgresql_where=sa.text("state = 'pending'"),
    )
