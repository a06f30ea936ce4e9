"""The folder of an embedded ClickHouse and its migrations: who holds it, what was applied, what must not change."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from runyard_server.domain.errors import StartRefused
from runyard_server.storage.clickhouse.embedded import FolderLock, write_engine_config
from runyard_server.storage.clickhouse.engine import ClickHouseConfig
from runyard_server.storage.clickhouse.migrations import (
    Migration,
    apply_migrations,
    read_migrations,
    split_statements,
)
from runyard_server.storage.clickhouse.native import native_block


def test_a_folder_in_use_names_its_holder(tmp_path: Path) -> None:
    """A second holder is refused with the pid of the first; after the release it may have it."""
    lock = FolderLock(tmp_path)
    pid = (tmp_path / "lock").read_text().strip()
    with pytest.raises(StartRefused, match=f"in use by the process with pid {pid}"):
        FolderLock(tmp_path)
    lock.release()
    lock.release()
    FolderLock(tmp_path).release()


def test_engine_options_are_valid_xml(tmp_path: Path) -> None:
    """The memory limit and the temporary folder are the engine's, whatever the folder is called."""
    folder = tmp_path / "a & <b>"
    folder.mkdir()
    config = ClickHouseConfig(memory_bytes_max=123_456_789)
    root = ElementTree.parse(write_engine_config(folder, config)).getroot()
    assert root.findtext("max_server_memory_usage") == "123456789"
    assert root.findtext("tmp_path") == f"{folder}/data/tmp/"


@dataclass
class FakeClient:
    """Remembers statements, and dies at the n-th call."""

    dies_at: int = -1
    statements: list[str] = field(default_factory=list)
    records: list[tuple[Any, ...]] = field(default_factory=list)
    calls: int = 0

    def command(self, sql: str) -> None:
        self._count()
        self.statements.append(sql)

    def insert(self, table: str, rows: list[tuple[Any, ...]], column_names: list[str]) -> None:
        self._count()
        self.records += rows

    def query(self, sql: str) -> FakeClient:
        return self

    @property
    def result_rows(self) -> list[tuple[Any, ...]]:
        return self.records

    def _count(self) -> None:
        self.calls += 1
        if self.calls == self.dies_at:
            raise KeyboardInterrupt


MIGRATIONS = (Migration(1, "a", ("one", "two")), Migration(2, "b", ("three",)))


def test_migrations_apply_once() -> None:
    """Each statement runs once, in order; a second start runs none."""
    client: Any = FakeClient()
    apply_migrations(client, MIGRATIONS)
    assert client.statements[1:] == ["one", "two", "three"]
    apply_migrations(client, MIGRATIONS)
    assert client.statements[5:] == []


@pytest.mark.parametrize("dies_at", range(1, 8))
def test_a_migration_killed_anywhere_is_completed(dies_at: int) -> None:
    """Killed at any call and started again, all statements have run in order; only the last before the kill ran twice."""
    client: Any = FakeClient(dies_at=dies_at)
    with pytest.raises(KeyboardInterrupt):
        apply_migrations(client, MIGRATIONS)
    apply_migrations(client, MIGRATIONS)
    ran = [statement for statement in client.statements if not statement.startswith("\nCREATE")]
    assert list(dict.fromkeys(ran)) == ["one", "two", "three"]
    assert len(ran) <= 4


def test_a_changed_migration_is_refused() -> None:
    """Data written under another text of a migration is not touched; white space does not count."""
    client: Any = FakeClient()
    apply_migrations(client, MIGRATIONS)
    apply_migrations(client, (Migration(1, "a", ("one", " two\n")), MIGRATIONS[1]))
    with pytest.raises(StartRefused, match="statement 2, differs"):
        apply_migrations(client, (Migration(1, "a", ("one", "2")), MIGRATIONS[1]))


def test_data_of_a_newer_server_is_refused() -> None:
    """A migration that this program does not know: install the newer version."""
    client: Any = FakeClient()
    apply_migrations(client, MIGRATIONS)
    with pytest.raises(StartRefused, match=r"newer runyard-server .schema 0002_b"):
        apply_migrations(client, MIGRATIONS[:1])


def test_files_are_numbered_and_split() -> None:
    """The files of this program have unique numbers; statements end with a semicolon at a line's end; comments are left out."""
    migrations = read_migrations()
    assert [migration.number for migration in migrations][:1] == [1]
    assert all(migration.statements for migration in migrations)
    assert split_statements("-- a;\nx ';' y;\n\nz\n") == ("x ';' y", "z")


def test_native_columns_are_the_documented_bytes() -> None:
    """Counts as varints, then per column name, type and little-endian values."""
    columns = {"n": np.arange(130, dtype=np.uint64), "x": np.full(130, -0.0)}
    expected = b"\x02\x82\x01" + b"\x01n\x06UInt64" + columns["n"].tobytes()
    expected += b"\x01x\x07Float64" + bytes.fromhex("0000000000000080") * 130
    assert b"".join(native_block(columns)) == expected
    strided = {"s": np.arange(10, dtype=np.int64)[::2]}
    assert b"".join(native_block(strided))[-40::8] == bytes([0, 2, 4, 6, 8])
