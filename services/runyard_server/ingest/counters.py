"""Counters and log events of ingest."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from runyard_server.telemetry import SECONDS_BUCKETS

EVENT_BLOCK_FAILED: Final = "block_failed"
EVENT_BLOCK_REPEATED: Final = "block_repeated"
EVENT_RUN_UNCHECKED: Final = "run_unchecked"

BATCHES = Counter(
    "runyard_ingest_batches_total",
    "Batches by outcome: durable, repeat, joined, refused, failed.",
    ("outcome",),
)
BATCHES_REFUSED = Counter(
    "runyard_ingest_batches_refused_total", "Batches refused whole, by reason.", ("reason",)
)
POINTS = Counter(
    "runyard_ingest_points_total", "Points made durable; repeats that were inserted count again."
)
POINTS_REJECTED = Counter(
    "runyard_ingest_points_rejected_total", "Points of refused series, by reason.", ("reason",)
)
CHANGES = Counter("runyard_ingest_summary_changes_total", "Summary changes made durable.")
CONSOLE_LINES = Counter("runyard_ingest_console_lines_total", "Lines of consoles made durable.")
MEDIA_VALUES = Counter("runyard_ingest_media_values_total", "Media values made durable.")
QUEUE_BYTES = Gauge("runyard_ingest_queue_bytes", "Bytes of batches waiting or being inserted.")
BLOCK_ROWS = Histogram(
    "runyard_ingest_block_rows",
    "Points, lines and media values in a block.",
    buckets=(1, 10, 100, 1_000, 10_000, 50_000, 100_000, 200_000, 400_000, 800_000),
)
BLOCK_AGE_SECONDS = Histogram(
    "runyard_ingest_block_age_seconds",
    "Time that the oldest batch of a block waited for it to close.",
    buckets=SECONDS_BUCKETS,
)
INSERT_SECONDS = Histogram(
    "runyard_ingest_insert_seconds",
    "Time until a block was durable, repeats included.",
    buckets=SECONDS_BUCKETS,
)
INSERT_REPEATS = Counter(
    "runyard_ingest_insert_repeats_total",
    "Blocks inserted again because the store was unavailable.",
)
RUN_LOOKUPS = Counter(
    "runyard_ingest_run_lookups_total",
    "Questions to metadata about a run, by outcome.",
    ("outcome",),
)
CACHE_EVICTIONS = Counter(
    "runyard_ingest_cache_evictions_total", "Entries dropped from a full cache.", ("cache",)
)
