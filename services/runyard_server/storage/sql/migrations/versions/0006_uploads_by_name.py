"""Uploads of a run by name, so that one that was begun is found and goes on."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Applies the migration."""
    op.create_index("ix_uploads_run_name", "uploads", ["run_key", "name"])
