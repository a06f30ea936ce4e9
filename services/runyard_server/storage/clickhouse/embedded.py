"""The folder of an embedded ClickHouse: who holds it, and the options of the engine over it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final, Protocol
from xml.sax.saxutils import escape

from runyard_server.domain.errors import StartRefused

LOCK_NAME: Final = "lock"
CONFIG_NAME: Final = "config.xml"
TABLES: Final = {
    # Parts are merged when eight of a size are there, not five: merges took twice the CPU, and a read meets few more parts.
    "merge_selector_base": 8,
    # Column statistics serve joins, which there are none of; making them took a fifteenth of an insert and of a merge.
    "auto_statistics_types": "",
}
"""Options of all tables."""


class EngineLimits(Protocol):
    """The members of ClickHouseConfig that the engine itself must know."""

    @property
    def memory_bytes_max(self) -> int: ...
    @property
    def mark_cache_bytes(self) -> int: ...
    @property
    def merge_threads(self) -> int: ...


class FolderLock:
    """Holds a folder for this process: the engine takes one process a folder, and its own refusal names nobody."""

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(self._file, 64).decode("ascii", "replace").strip() or "unknown"
            os.close(self._file)
            raise StartRefused(
                f"the data folder {folder} is in use by the process with pid {holder}; "
                "stop that server, or choose another folder with --data-dir"
            ) from error
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Gives the folder free. A second call does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def write_engine_config(folder: Path, limits: EngineLimits) -> Path:
    """Writes the engine's options into the folder and returns the file."""
    options: dict[str, object] = {
        "tmp_path": f"{folder.resolve() / 'data' / 'tmp'}/",
        "max_server_memory_usage": limits.memory_bytes_max,
        "mark_cache_size": limits.mark_cache_bytes,
        "index_mark_cache_size": limits.mark_cache_bytes // 2,
        "primary_index_cache_size": limits.mark_cache_bytes,
        "query_condition_cache_size": limits.mark_cache_bytes // 4,
        "uncompressed_cache_size": 0,
        "page_cache_max_size": 0,
        "background_pool_size": limits.merge_threads,
        "background_merges_mutations_concurrency_ratio": 1,
        "background_schedule_pool_size": 4,
        "background_common_pool_size": 2,
        "background_fetches_pool_size": 1,
        "background_move_pool_size": 1,
        "background_distributed_schedule_pool_size": 1,
        "background_message_broker_schedule_pool_size": 1,
        "background_buffer_flush_schedule_pool_size": 1,
    }
    lines = [f"  <{name}>{escape(str(value))}</{name}>" for name, value in options.items()]
    tables = "".join(f"<{name}>{value}</{name}>" for name, value in TABLES.items())
    lines.append(f"  <merge_tree>{tables}</merge_tree>")
    file = folder / CONFIG_NAME
    file.write_text("\n".join(["<clickhouse>", *lines, "</clickhouse>", ""]))
    return file
