"""Reads what summaries are composed of, for one run or a page of runs at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runyard_server.domain.run import RunDocument, RunKey
from runyard_server.query.planner import (
    ALL_KEYS,
    EVERYTHING,
    SUMMARY_VALUES_PER_REPLY_MAX,
    scopes_of,
)
from runyard_server.query.summary import (
    compose_summary,
    metrics_of_key,
    needs_mean,
    object_to_json,
    read_rules,
    select_keys,
)
from runyard_server.storage.ports.points import (
    MetricStats,
    PointReader,
    Scopes,
    SeriesKey,
    SummaryEntry,
)
from runyard_server.storage.ports.runs import IndexedRun


async def read_run_summary(
    points: PointReader, document: RunDocument, *, metric_count_max: int
) -> tuple[str, int]:
    """Returns the whole summary of a run, and how many metrics were left out of it."""
    key = document.run_key
    stats, total = await points.list_metrics(
        key, name_contains="", after_name="", limit=metric_count_max, scopes=_scopes([document])
    )
    entries = (await points.read_summaries([key])).get(key, [])
    summaries = await _compose(points, [document], {key: stats}, {key: entries})
    return object_to_json(summaries[key]), total - len(stats)


async def read_summaries(
    points: PointReader, documents: Sequence[RunDocument], keys: Sequence[str]
) -> dict[RunKey, str]:
    """Returns the asked keys of the summaries of many runs; "*" asks for all, within what one reply may hold."""
    run_keys = [document.run_key for document in documents]
    if not run_keys or not keys:
        return {}
    scopes = _scopes(documents)
    if ALL_KEYS in keys:
        fair = max(1, SUMMARY_VALUES_PER_REPLY_MAX // len(run_keys))
        stats = await points.read_metric_stats(
            run_keys, metrics=None, limit_per_run=fair, scopes=scopes
        )
    else:
        metrics = list(dict.fromkeys(name for key in keys for name in metrics_of_key(key)))
        stats = await points.read_metric_stats(run_keys, metrics=metrics, scopes=scopes)
    entries = await points.read_summaries(run_keys)
    summaries = await _compose(points, documents, stats, entries)
    if ALL_KEYS not in keys:
        summaries = {run: select_keys(summary, keys) for run, summary in summaries.items()}
    return {run: object_to_json(summary) for run, summary in summaries.items()}


def _scopes(documents: Sequence[RunDocument]) -> Scopes:
    """Returns the scopes of rewound runs and forks: their metrics are summarised by what counts.

    What a script has set itself stays, whichever attempt did so, and a fork starts with none of its parent's.
    """
    return scopes_of([IndexedRun(d.run_key, d.history_parts) for d in documents], EVERYTHING)


async def _compose(
    points: PointReader,
    documents: Sequence[RunDocument],
    stats: Mapping[RunKey, Sequence[MetricStats]],
    entries: Mapping[RunKey, Sequence[SummaryEntry]],
) -> dict[RunKey, dict[str, str]]:
    rules = {d.run_key: read_rules(d.metric_definitions) for d in documents}
    averaged = [
        SeriesKey(run, one.name)
        for run, found in stats.items()
        for one in found
        if needs_mean(rules[run], one.name)
    ]
    scopes = _scopes(documents)
    means = await points.read_means(averaged, scopes=scopes) if averaged else {}
    by_run: dict[RunKey, dict[str, float]] = {}
    for series, mean in means.items():
        by_run.setdefault(series.run_key, {})[series.metric] = mean
    return {
        run: compose_summary(own, stats.get(run, ()), by_run.get(run, {}), entries.get(run, ()))
        for run, own in rules.items()
    }
