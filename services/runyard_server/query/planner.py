"""Limits: what a request may ask for, and how much of it one reply holds; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from runyard_server.domain.errors import InvalidArgument
from runyard_server.domain.points import METRIC_NAME_BYTES_MAX
from runyard_server.domain.run import HistoryPart, RunKey
from runyard_server.storage.ports.points import Scope, Scopes
from runyard_server.storage.ports.runs import IndexedRun

RUN_PATHS_MAX = 1_000
WRITERS_MAX = 1_000
METRICS_MAX = 1_000
BUCKET_SERIES_MAX = 10_000
BUCKETS_DEFAULT, BUCKETS_MAX, BUCKETS_MIN = 1_500, 10_000, 2
"""Two is the least: steps on both sides of 0 never share a bucket."""
BUCKETS_PER_REPLY_MAX = 500_000
"""At 80 to 104 bytes a bucket this stays within the 64 MiB that one reply may have."""
SERIES_POINTS_DEFAULT, SERIES_POINTS_MAX = 10_000, 200_000
SERIES_POINTS_PER_REPLY_MAX = 400_000
METRICS_PAGE_DEFAULT, METRICS_PAGE_MAX = 1_000, 10_000
SUMMARY_METRICS_DEFAULT, SUMMARY_METRICS_MAX = 10_000, 100_000
RUNS_PAGE_DEFAULT, RUNS_PAGE_MAX = 50, 1_000
KEYS_MAX = 1_000
SUMMARY_VALUES_PER_REPLY_MAX = 200_000
TEXT_LENGTH_MAX = 512
ALL_KEYS = "*"


@dataclass(frozen=True, slots=True)
class Steps:
    """A closed range of steps; None is open."""

    first: int | None = None
    last: int | None = None

    @property
    def is_empty(self) -> bool:
        """Says whether no step can be in it."""
        return self.first is not None and self.last is not None and self.first > self.last


@dataclass(frozen=True, slots=True)
class Selection:
    """Which of a run's points are read: all attempts or the current history, of all writers or some."""

    is_all_attempts: bool = False
    writers: tuple[int, ...] = ()


EVERYTHING = Selection()


@dataclass(frozen=True, slots=True)
class SeriesPlan:
    """A checked QuerySeries: `metrics` each once, `limit` points of each series at most."""

    metrics: tuple[str, ...]
    steps: Steps
    limit: int


@dataclass(frozen=True, slots=True)
class BucketsPlan:
    """A checked QueryBuckets: paths and metrics each once."""

    run_paths: tuple[str, ...]
    metrics: tuple[str, ...]
    steps: Steps
    bucket_count_max: int


def plan_series(metrics: Sequence[str], steps: Steps, limit: int) -> SeriesPlan:
    """Returns the plan, or raises InvalidArgument."""
    unique = _check_metrics(metrics)
    asked = clamp(limit, default=SERIES_POINTS_DEFAULT, most=SERIES_POINTS_MAX)
    fair = max(1, SERIES_POINTS_PER_REPLY_MAX // len(unique))
    return SeriesPlan(metrics=unique, steps=steps, limit=min(asked, fair))


def plan_buckets(
    run_paths: Sequence[str], metrics: Sequence[str], steps: Steps, bucket_count_max: int
) -> BucketsPlan:
    """Returns the plan, or raises InvalidArgument; QUERY_TOO_LARGE where one reply could not hold the answer."""
    paths = tuple(dict.fromkeys(run_paths))
    _check_count("run_paths", len(paths), RUN_PATHS_MAX)
    unique = _check_metrics(metrics)
    buckets = clamp(bucket_count_max, default=BUCKETS_DEFAULT, most=BUCKETS_MAX)
    buckets = max(buckets, BUCKETS_MIN)
    series_count = len(paths) * len(unique)
    if series_count > BUCKET_SERIES_MAX:
        raise _too_large("run_paths x metrics", series_count, BUCKET_SERIES_MAX, "ask in parts")
    if series_count * buckets > BUCKETS_PER_REPLY_MAX:
        fitting = BUCKETS_PER_REPLY_MAX // series_count
        advice = f"ask in parts, or for at most {fitting} buckets per series"
        size = series_count * buckets
        raise _too_large("series x bucket_count_max", size, BUCKETS_PER_REPLY_MAX, advice)
    return BucketsPlan(run_paths=paths, metrics=unique, steps=steps, bucket_count_max=buckets)


def check_selection(selection: Selection, *, run_count: int) -> Selection:
    """Returns the selection with each writer once; raises InvalidArgument if it cannot be."""
    writers = tuple(dict.fromkeys(selection.writers))
    if len(writers) > WRITERS_MAX:
        raise _too_large("writers", len(writers), WRITERS_MAX, "ask in parts")
    if writers and run_count > 1:
        raise InvalidArgument(
            "FIELD_INVALID",
            f"writers are numbered within one run, and the request names {run_count}; ask for one run at a time",
            metadata={"field": "writers", "value": len(writers)},
        )
    return Selection(selection.is_all_attempts, writers)


def scopes_of(runs: Iterable[IndexedRun], selection: Selection) -> Scopes:
    """Returns the scopes of those runs that are not read plainly: rewound ones, forks, and all where writers are named."""
    scopes: dict[RunKey, Scope] = {}
    for run in runs:
        parts = () if selection.is_all_attempts else run.history_parts
        if parts or selection.writers:
            scopes[run.run_key] = Scope(parts or (HistoryPart(run.run_key),), selection.writers)
    return scopes


def scope_before(run: IndexedRun, writer_max: int) -> Scope:
    """Returns the scope of a run's current history as its writers up to that number left it."""
    own, *ancestors = run.history_parts or (HistoryPart(run.run_key),)
    return Scope((replace(own, writer_max=writer_max), *ancestors))


def check_keys(field: str, keys: Sequence[str]) -> tuple[str, ...]:
    """Returns the asked keys, each once; "*" alone where it is among them. Raises InvalidArgument."""
    unique = tuple(dict.fromkeys(keys))
    if ALL_KEYS in unique:
        return (ALL_KEYS,)
    if len(unique) > KEYS_MAX:
        raise _too_large(field, len(unique), KEYS_MAX, 'ask in parts, or for "*"')
    for key in unique:
        _check_name(field, key)
    return unique


def check_text(field: str, text: str) -> str:
    """Returns the text to search for, or raises InvalidArgument if it is too long."""
    if len(text) > TEXT_LENGTH_MAX:
        raise InvalidArgument(
            "FIELD_TOO_LARGE",
            f"{field} has {len(text)} characters, at most {TEXT_LENGTH_MAX} are allowed",
            metadata={"field": field, "value": len(text), "limit": TEXT_LENGTH_MAX},
        )
    return text


def check_names(field: str, names: Sequence[str], *, most: int) -> tuple[str, ...]:
    """Returns the names, each once, or raises InvalidArgument if there are none, too many, or one that cannot be."""
    unique = tuple(dict.fromkeys(names))
    _check_count(field, len(unique), most)
    for name in unique:
        _check_name(field, name)
    return unique


def invalid(field: str, value: object, problem: str) -> InvalidArgument:
    """Returns the error for a field whose value cannot be."""
    return InvalidArgument(
        "FIELD_INVALID",
        f"{field} is {value}: {problem}",
        metadata={"field": field, "value": value},
    )


def clamp(asked: int, *, default: int, most: int) -> int:
    """Returns the default for 0, and never more than the most."""
    return min(asked or default, most)


def _check_metrics(metrics: Sequence[str]) -> tuple[str, ...]:
    return check_names("metrics", metrics, most=METRICS_MAX)


def _check_count(field: str, count: int, most: int) -> None:
    if count == 0:
        raise InvalidArgument(
            "FIELD_INVALID",
            f"{field} is empty: name 1 to {most}",
            metadata={"field": field, "value": 0, "limit": most},
        )
    if count > most:
        raise _too_large(field, count, most, "ask in parts")


def _check_name(field: str, name: str) -> None:
    size_bytes = len(name.encode("utf-8", "surrogatepass"))
    if 1 <= size_bytes <= METRIC_NAME_BYTES_MAX:
        return
    raise InvalidArgument(
        "FIELD_INVALID",
        f"{field} holds a name of {size_bytes} bytes: names have 1 to {METRIC_NAME_BYTES_MAX}",
        metadata={"field": field, "value": name[:256], "limit": METRIC_NAME_BYTES_MAX},
    )


def _too_large(field: str, value: int, limit: int, advice: str) -> InvalidArgument:
    return InvalidArgument(
        "QUERY_TOO_LARGE",
        f"{field} is {value}, one reply holds at most {limit}: {advice}",
        metadata={"field": field, "value": value, "limit": limit},
    )
