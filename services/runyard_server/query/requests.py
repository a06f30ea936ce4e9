"""Answers of the query service in the words of the domain."""

from __future__ import annotations

from dataclasses import dataclass

from runyard_server.domain.run import RunDocument, RunState
from runyard_server.query.receipts import WriterReceipt
from runyard_server.storage.ports.points import BucketColumns, MetricStats, SeriesPoints


@dataclass(frozen=True, slots=True)
class SeriesReply:
    """Points of the asked metrics, in the order asked, and where to continue."""

    series: tuple[tuple[str, SeriesPoints], ...]
    next_step: int | None


@dataclass(frozen=True, slots=True)
class PathBuckets:
    """One downsampled series."""

    run_path: str
    metric: str
    buckets: BucketColumns


@dataclass(frozen=True, slots=True)
class MetricsPage:
    """A page of metrics."""

    metrics: tuple[MetricStats, ...]
    next_page_token: str
    total_count: int


@dataclass(frozen=True, slots=True)
class SummaryReply:
    """A summary as extended JSON, and how many metrics a limit left out."""

    summary_json: str
    omitted_count: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What is durable of a run; `last_step` is None without points."""

    writers: tuple[WriterReceipt, ...]
    last_step: int | None


@dataclass(frozen=True, slots=True)
class RunsAsk:
    """Which runs of a project are wanted, and which keys with each."""

    project_path: str
    page_size: int = 0
    page_token: str = ""
    name_contains: str = ""
    states: tuple[RunState, ...] = ()
    config_keys: tuple[str, ...] = ()
    summary_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run with the asked keys; `document.config_json` holds the asked config keys only."""

    document: RunDocument
    summary_json: str


@dataclass(frozen=True, slots=True)
class RunsPage:
    """A page of runs, newest first."""

    runs: tuple[RunRow, ...]
    next_page_token: str
    total_count: int
