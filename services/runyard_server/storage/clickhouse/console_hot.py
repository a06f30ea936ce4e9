"""What archives are made from and compared with in ClickHouse: whole stretches of lines, runs that printed, and the dropping of lines."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from runyard_server.domain.console import PrintedRun
from runyard_server.domain.run import RunKey
from runyard_server.storage.archive.format import LINES
from runyard_server.storage.archive.hot import EXTENT_LINES, LineExtent
from runyard_server.storage.clickhouse.console_read import ClickHouseConsoleReader
from runyard_server.storage.clickhouse.engine import ClickHouse

PAGE_LINES_MAX: Final = 65_536
DROP_TIMEOUT_S: Final = 600.0
_FINAL: Final = "SETTINGS do_not_merge_across_partitions_select_final = 1"


class ClickHouseHotConsole(ClickHouseConsoleReader):
    """The port HotConsole over ClickHouse. Holds no state."""

    async def dropped_block(self, run_key: RunKey) -> int:
        """Returns up to which block lines were dropped; see HotConsole."""
        table = await self._store.query_arrow(
            f"SELECT max(block) AS block FROM console_dropped WHERE run = {int(run_key)}"
        )
        return int(table["block"][0].as_py())

    async def read_extents(self, run_key: RunKey) -> list[LineExtent]:
        """Returns where lines lie; see HotConsole."""
        table = await self._store.query_arrow(
            f"""SELECT writer, min(line) AS first_line, max(line) AS last_line, min(time) AS low, max(time) AS high
FROM console WHERE run = {int(run_key)} GROUP BY writer, intDiv(line, {EXTENT_LINES}) ORDER BY writer, first_line"""
        )
        return [LineExtent(*row.values()) for row in table.to_pylist()]

    async def read_span(
        self, run_key: RunKey, writer: int, first_line: int, last_line: int
    ) -> pa.Table:
        """Returns lines by number; see HotConsole."""
        table = await self._store.query_arrow(
            f"""SELECT line, time, stream, text, sequence FROM console FINAL
WHERE run = {int(run_key)} AND writer = {int(writer)} AND line BETWEEN {int(first_line)} AND {int(last_line)}
ORDER BY line {_FINAL}"""
        )
        return table.cast(LINES)

    async def read_page(
        self, run_key: RunKey, writer: int, after_line: int, *, bytes_max: int
    ) -> pa.Table:
        """Returns lines by number; see HotConsole."""
        # Long lines are measured before they are read: a page of them would not fit.
        sizes = await self._store.query_arrow(
            f"""SELECT line, length(text) AS size FROM console FINAL
WHERE run = {int(run_key)} AND writer = {int(writer)} AND line > {int(after_line)} ORDER BY line LIMIT {PAGE_LINES_MAX} {_FINAL}"""
        )
        if not sizes.num_rows:
            return LINES.empty_table()
        bytes_to = np.cumsum(sizes["size"].to_numpy(), dtype=np.int64)
        last = min(int(np.searchsorted(bytes_to, bytes_max)), sizes.num_rows - 1)
        return await self.read_span(
            run_key, writer, after_line + 1, int(sizes["line"][last].as_py())
        )

    async def list_printed(self, *, since_block: int, limit: int) -> list[PrintedRun]:
        """Returns runs into which lines came; see HotConsole."""
        table = await self._store.query_arrow(
            f"""SELECT run, max(block) AS last_block FROM console_writers WHERE block > {int(since_block)}
GROUP BY run ORDER BY last_block, run LIMIT {int(limit)}"""
        )
        return [PrintedRun(RunKey(row["run"]), row["last_block"]) for row in table.to_pylist()]


class ClickHouseConsoleDropper:
    """The port ConsoleDropper over ClickHouse."""

    def __init__(self, store: ClickHouse, *, lock: asyncio.Lock | None = None) -> None:
        self._store = store
        self._lock = lock or asyncio.Lock()
        """Held while a purge measures how much smaller its tables become."""

    async def drop_lines(self, drops: Sequence[tuple[RunKey, int]]) -> None:
        """Removes lines; see the port. One rewrite of the table's parts serves all of these runs."""
        if not drops:
            return
        columns = {
            "run": np.array([run_key for run_key, _ in drops], np.uint64),
            "block": np.array([block for _, block in drops], np.uint64),
        }
        await self._store.insert_columns("console_dropped", columns)
        wanted = " OR ".join(
            f"(run = {int(run_key)} AND block <= {int(block)})" for run_key, block in drops
        )
        async with self._lock:
            await self._store.command(
                f"ALTER TABLE console DELETE WHERE {wanted} SETTINGS mutations_sync = 2",
                timeout_s=DROP_TIMEOUT_S,
            )
