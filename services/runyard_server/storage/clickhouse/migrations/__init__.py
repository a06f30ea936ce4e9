"""Numbered migrations of the ClickHouse schema: files NNNN_name.sql beside this one, applied statement by statement.

A statement is recorded after it ran, so one may run twice: each MUST be safe to repeat (IF NOT EXISTS and the like).
Statements end with a semicolon at the end of a line. A file that was applied somewhere never changes.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clickhouse_connect.driver.client import Client

from runyard_server.domain.errors import StartRefused

_FILE_NAME: Final = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_RECORDS: Final = """
CREATE TABLE IF NOT EXISTS migrations (number UInt32, statement UInt32, name String, digest String, time DateTime DEFAULT now())
ENGINE = ReplacingMergeTree ORDER BY (number, statement)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: statements that belong together."""

    number: int
    name: str
    statements: tuple[str, ...]


def apply_migrations(client: Client, migrations: tuple[Migration, ...] | None = None) -> None:
    """Runs what this store has not yet. Raises StartRefused if the store was migrated by other files than these."""
    migrations = migrations if migrations is not None else read_migrations()
    client.command(_RECORDS)
    rows = client.query("SELECT number, statement, name, digest FROM migrations FINAL").result_rows
    done = {(int(number), int(statement)): digest for number, statement, _, digest in rows}
    known = {migration.number for migration in migrations}
    for number, _, name, _ in rows:
        if number not in known:
            raise StartRefused(
                f"the data was written by a newer runyard-server (schema {number:04}_{name}); "
                "install that version or a later one"
            )
    for migration in migrations:
        for index, statement in enumerate(migration.statements):
            _apply(client, migration, index, statement, done.get((migration.number, index)))


def read_migrations(folder: Path = Path(__file__).parent) -> tuple[Migration, ...]:
    """Returns the migrations of the folder, by number."""
    found = []
    for file in sorted(folder.glob("*.sql")):
        match = _FILE_NAME.fullmatch(file.name)
        assert match, f"{file.name} is not of the form NNNN_name.sql"
        found.append(Migration(int(match[1]), match[2], split_statements(file.read_text())))
    numbers = [migration.number for migration in found]
    assert len(numbers) == len(set(numbers)), f"a number is used twice: {numbers}"
    return tuple(found)


def split_statements(text: str) -> tuple[str, ...]:
    """Returns the statements of the text without comment lines."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("--")]
    parts = re.split(r";[ \t]*(?:\n|$)", "\n".join(lines))
    return tuple(part.strip() for part in parts if part.strip())


def _apply(
    client: Client, migration: Migration, index: int, statement: str, digest_before: str | None
) -> None:
    digest = hashlib.blake2b(" ".join(statement.split()).encode(), digest_size=16).hexdigest()
    if digest_before == digest:
        return
    if digest_before is not None:
        raise StartRefused(
            f"schema {migration.number:04}_{migration.name}, statement {index + 1}, differs from what was applied to "
            "this data; it was written by another build of runyard-server: use that build, or a new data folder"
        )
    client.command(statement)
    client.insert(
        "migrations",
        [(migration.number, index, migration.name, digest)],
        column_names=["number", "statement", "name", "digest"],
    )
