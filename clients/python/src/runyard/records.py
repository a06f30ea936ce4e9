"""What reading back returns: runs, projects, files, receipts and columns of points, as plain values."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

ROW_KEYS = ("_step", "_timestamp")
"""Keys that every row of a history has; a metric of such a name does not hide them."""


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """A run's document; times in Unix seconds, None where not set."""

    path: str
    run_key: int
    entity: str
    project: str
    run_id: str
    display_name: str
    state: str
    config_json: str
    notes: str
    tags: tuple[str, ...]
    group: str
    job_type: str
    create_time_s: float | None
    start_time_s: float | None
    end_time_s: float | None
    heartbeat_time_s: float | None
    exit_code: int | None
    host: dict[str, object]
    """Machine, program and further facts (`git`, `gpu`, `environment` …); of runs in a list without those."""
    attempt_count: int
    writer_count: int
    summary_json: str = ""
    """Of runs in a list: their summary. Empty: not asked for."""


@dataclasses.dataclass(frozen=True)
class ProjectRecord:
    """A project."""

    path: str
    entity: str
    name: str
    description: str
    create_time_s: float | None
    activity_time_s: float | None
    run_count: int
    live_run_count: int


@dataclasses.dataclass(frozen=True)
class FileRecord:
    """A file of a run."""

    name: str
    size_bytes: int
    sha256: str
    content_type: str
    update_time_s: float | None


@dataclasses.dataclass(frozen=True)
class Columns:
    """Points of one metric of one run, in step order: columns of one length."""

    metric: str
    steps: Sequence[int]
    times_unix_ns: Sequence[int]
    values: Sequence[float]
    writers: Sequence[int] = ()
    """Whose points they are, ascending within a step; of one writer there is one point at a step. Empty: not said."""
    is_raw: bool = True
    """False: each entry stands for a bucket of points; its value is the last one's."""


@dataclasses.dataclass(frozen=True)
class WriterReceipt:
    """What is durable of one writer of a run."""

    writer: int
    records_durable: int
    contiguous_sequence: int
    last_sequence: int
    gaps: tuple[tuple[int, int], ...]
    points_rejected: int
    points_accepted: int
    label: str = ""
    records_written: int | None = None
    """As its end said, else as its last beat said; None where neither is known."""
    records_refused: int = 0


@dataclasses.dataclass(frozen=True)
class Receipt:
    """What is durable of a run, as the store says."""

    records_durable: int
    last_step: int | None
    writers: tuple[WriterReceipt, ...]

    @property
    def records_missing(self) -> int:
        """Returns how many records below the highest known one are not durable."""
        return sum(writer.last_sequence - writer.records_durable for writer in self.writers)

    @property
    def is_gapless(self) -> bool:
        """Returns whether every record up to the highest known one of each writer is durable."""
        return not self.records_missing

    @property
    def points_accepted(self) -> int:
        """Returns how many points are stored, counting each once."""
        return sum(writer.points_accepted for writer in self.writers)

    @property
    def points_rejected(self) -> int:
        """Returns how many points the server refused for good."""
        return sum(writer.points_rejected for writer in self.writers)

    def __str__(self) -> str:
        total = self.records_durable + self.records_missing
        text = f"{self.records_durable:,} of {total:,} records durable"
        gaps = [f"{first}-{last}" for writer in self.writers for first, last in writer.gaps]
        return text + (f"; missing: {', '.join(gaps)}" if gaps else "")
