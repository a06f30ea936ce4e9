"""Removes samples of machines that are older than they are kept: whole months by dropping them, the rest of one once a day."""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from prometheus_client import Counter

from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import ResourceExhausted, Unavailable
from runyard_server.storage.clickhouse.engine import ClickHouse

log = logging.getLogger("runyard.clickhouse")

EVENT_SAMPLES_EXPIRED: Final = "system_samples_expired"
EVENT_RETENTION_FAILED: Final = "system_retention_failed"
SAMPLES_EXPIRED = Counter(
    "runyard_system_samples_expired_total", "Samples of machines removed because of their age."
)
ROUNDS_FAILED = Counter(
    "runyard_system_retention_failed_total", "Rounds of removal that the store could not do."
)

_KEEP_DAYS_MAX: Final = 36_500
_NS_PER_S: Final = 1_000_000_000
# The function that parts the table (0015_system_points.sql): with it the store looks at no month behind the last day kept.
_MONTH: Final = "toYYYYMM(fromUnixTimestamp64Milli(time, 'UTC'))"


@dataclass(frozen=True, slots=True)
class SystemConfig:
    """How long what machines did is kept."""

    keep_days: float = 90.0
    """Samples of system metrics that are older go, within a day; runs and their own metrics stay. 0: they are kept with their run."""
    interval_s: float = 3600.0
    """Pause between looks for what is too old."""
    statement_timeout_s: float = 600.0
    """Longest wait for one statement."""

    def __post_init__(self) -> None:
        """Refuses a number of days that is none."""
        if not (math.isfinite(self.keep_days) and 0 <= self.keep_days <= _KEEP_DAYS_MAX):
            raise ValueError(
                f"keep_days is {self.keep_days}: write 0 (for ever) to {_KEEP_DAYS_MAX}"
            )


class SystemRetention:
    """Runs where samples are written. Several at once do the same work and agree."""

    def __init__(
        self, config: SystemConfig, *, store: ClickHouse, clock: Clock, lock: asyncio.Lock
    ) -> None:
        """`lock` is that of purges, which measure by how much tables shrink."""
        self._config = config
        self._store = store
        self._clock = clock
        self._lock = lock

    async def run(self) -> None:
        """Removes until cancelled; a store that does not answer is asked again in the next round."""
        while self._config.keep_days:
            try:
                await self.run_round()
            except (Unavailable, ResourceExhausted) as error:
                ROUNDS_FAILED.inc()
                log.warning(EVENT_RETENTION_FAILED, extra={"fields": {"problem": error.message}})
            await asyncio.sleep(self._config.interval_s)

    async def run_round(self) -> int:
        """Removes what is too old by now; returns how many rows that were (repeats that were not merged yet count)."""
        first_kept = self._first_kept()
        first_ms = round(first_kept.timestamp() * 1000)
        found = await self._store.query_arrow(
            f"SELECT {_MONTH} AS month, count() AS n FROM system_points WHERE time < {first_ms}"
            " GROUP BY month ORDER BY month",
            timeout_s=self._config.statement_timeout_s,
        )
        removed = 0
        for month, count in zip(*found.to_pydict().values(), strict=True):
            async with self._lock:
                await self._remove(month, first_kept.year * 100 + first_kept.month, first_ms)
            fields = {"month": month, "samples": count, "keep_days": self._config.keep_days}
            log.info(EVENT_SAMPLES_EXPIRED, extra={"fields": fields})
            SAMPLES_EXPIRED.inc(count)
            removed += count
        return removed

    def _first_kept(self) -> datetime:
        """Returns the first day that is kept whole: a month is rewritten once a day, not in each round."""
        now = datetime.fromtimestamp(self._clock.now_unix_ns() // _NS_PER_S, UTC)
        oldest = now - timedelta(days=self._config.keep_days)
        return oldest.replace(hour=0, minute=0, second=0, microsecond=0)

    async def _remove(self, month: int, month_kept: int, first_ms: int) -> None:
        if month < month_kept:
            # Larger partitions than the server's max_partition_size_to_drop, too: nobody typed this by mistake.
            sql = f"ALTER TABLE system_points DROP PARTITION ID '{month}' SETTINGS max_partition_size_to_drop = 0"
        else:
            sql = (
                f"ALTER TABLE system_points DELETE IN PARTITION ID '{month}' WHERE time < {first_ms}"
                " SETTINGS mutations_sync = 2"
            )
        await self._store.command(sql, timeout_s=self._config.statement_timeout_s)
