"""Alembic's entry point: runs migrations on the connection that storage.sql.migrate hands in."""

from __future__ import annotations

from alembic import context

from runyard_server.storage.sql import artifact_schema, schema

assert artifact_schema.artifacts.metadata is schema.metadata, "one description of all tables"

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=schema.metadata,
    compare_type=True,
    render_as_batch=True,
    # The caller's transaction is the only one: a migration that is killed leaves nothing behind.
    transactional_ddl=True,
    transaction_per_migration=False,
)
context.run_migrations()
