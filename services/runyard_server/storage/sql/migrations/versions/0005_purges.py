"""Deleted runs and their purges, and what was freed of their files."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Applies the migration."""
    name = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    op.create_table(
        "purges",
        sa.Column("run_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("entity", name, nullable=False),
        sa.Column("project", name, nullable=False),
        sa.Column("run_id", name, nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("deleted_by", sa.Text(), nullable=False),
        sa.Column("delete_time_unix_ns", sa.BigInteger(), nullable=False),
        sa.Column("due_time_unix_ns", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("purge_time_unix_ns", sa.BigInteger()),
        sa.Column("stores_json", sa.Text(), nullable=False),
        sa.Column("trouble", sa.Text(), nullable=False),
        sa.Column("lease_end_unix_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run_key", name=op.f("pk_purges")),
    )
    op.create_index("ix_purges_deleted", "purges", ["delete_time_unix_ns", "run_key"])
    op.create_index(
        "ix_purges_due",
        "purges",
        ["due_time_unix_ns"],
        sqlite_where=sa.text("step < 5"),
        postgresql_where=sa.text("step < 5"),
    )
    op.create_table(
        "file_purges",
        sa.Column("run_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.Column("objects", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run_key", name=op.f("pk_file_purges")),
    )
