"""Events in place of transitions, attempts, ancestors of forks, and the life of a run beside its document."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_OPEN_STOPS = "stop_stage IS NOT NULL AND state IN ('pending', 'running', 'stopping') AND delete_time_unix_ns IS NULL"


def upgrade() -> None:
    """Applies the migration."""
    op.add_column("runs", sa.Column("life_json", sa.Text(), nullable=False, server_default="{}"))
    op.add_column("runs", sa.Column("stalled_since_unix_ns", sa.BigInteger()))
    op.add_column("runs", sa.Column("stop_stage", sa.Integer()))
    op.create_index(
        "ix_runs_stopping",
        "runs",
        ["run_key"],
        sqlite_where=sa.text(_OPEN_STOPS),
        postgresql_where=sa.text(_OPEN_STOPS),
    )
    op.add_column(
        "writers", sa.Column("identity_json", sa.Text(), nullable=False, server_default="{}")
    )
    op.add_column("writers", sa.Column("exception_json", sa.Text()))
    op.add_column("writers", sa.Column("records_refused", sa.BigInteger()))
    _make_events()
    _make_attempts()
    op.create_table(
        "run_ancestors",
        sa.Column("run_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("ancestor_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(
            ["run_key"], ["runs.run_key"], name=op.f("fk_run_ancestors_run_key_runs")
        ),
        sa.PrimaryKeyConstraint("run_key", "ancestor_key", name=op.f("pk_run_ancestors")),
    )
    op.create_index("ix_run_ancestors_ancestor", "run_ancestors", ["ancestor_key", "run_key"])


def _make_events() -> None:
    op.create_table(
        "events",
        sa.Column(
            "number",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("run_key", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("from_state", sa.Text()),
        sa.Column("to_state", sa.Text()),
        sa.Column("cause", sa.Text()),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("record_time_unix_ns", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("writer", sa.BigInteger(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("level", sa.Text()),
        sa.ForeignKeyConstraint(["run_key"], ["runs.run_key"], name=op.f("fk_events_run_key_runs")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_events")),
    )
    op.create_index("ix_events_run", "events", ["run_key", "number"])
    op.execute(
        "INSERT INTO events (run_key, kind, from_state, to_state, cause, evidence, actor, record_time_unix_ns,"
        " attempt, writer, title) SELECT run_key, 'transition', from_state, to_state, cause, evidence, actor,"
        " record_time_unix_ns, attempt, 0, '' FROM transitions ORDER BY number"
    )
    op.drop_table("transitions")


def _make_attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("run_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("start_time_unix_ns", sa.BigInteger(), nullable=False),
        sa.Column("first_writer", sa.BigInteger(), nullable=False),
        sa.Column("hostname", sa.Text(), nullable=False),
        sa.Column("rewound_to_step", sa.BigInteger()),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("end_time_unix_ns", sa.BigInteger()),
        sa.ForeignKeyConstraint(
            ["run_key"], ["runs.run_key"], name=op.f("fk_attempts_run_key_runs")
        ),
        sa.PrimaryKeyConstraint("run_key", "attempt", name=op.f("pk_attempts")),
    )
    # Of earlier attempts only the writers tell; how they ended, and where, was not kept.
    op.execute(
        "INSERT INTO attempts (run_key, attempt, kind, start_time_unix_ns, first_writer, hostname, state)"
        " SELECT w.run_key, w.attempt, CASE WHEN w.attempt = 1 THEN 'start' ELSE 'resume' END,"
        " min(w.start_time_unix_ns), min(w.writer), '', r.state"
        " FROM writers w JOIN runs r ON r.run_key = w.run_key GROUP BY w.run_key, w.attempt, r.state"
    )
