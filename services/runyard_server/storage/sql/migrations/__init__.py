"""Alembic migrations; numbered, never edited once released."""
