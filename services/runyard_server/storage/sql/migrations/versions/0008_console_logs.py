"""How far the logs of runs are archived."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Applies the migration."""
    op.create_table(
        "console_logs",
        sa.Column("run_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("seen_block", sa.BigInteger(), nullable=False),
        sa.Column("archived_block", sa.BigInteger(), nullable=False),
        sa.Column("dropped_block", sa.BigInteger(), nullable=False),
        sa.Column("end_time_unix_ns", sa.BigInteger(), nullable=False),
        sa.Column("due_time_unix_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run_key", name=op.f("pk_console_logs")),
    )
    op.create_index("ix_console_logs_seen", "console_logs", ["seen_block"])
    for name, column, where in (
        ("ix_console_logs_unarchived", "due_time_unix_ns", "archived_block < seen_block"),
        ("ix_console_logs_undropped", "end_time_unix_ns", "dropped_block < archived_block"),
    ):
        op.create_index(
            name,
            "console_logs",
            [column],
            sqlite_where=sa.text(where),
            postgresql_where=sa.text(where),
        )
