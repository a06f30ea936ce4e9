"""The query service: all reads that are analytical, over ClickHouse."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import grpc.aio

from runyard_server.domain.clock import Clock
from runyard_server.domain.page_tokens import make_page_token, read_page_token
from runyard_server.domain.run import (
    RunKey,
    check_entity_name,
    check_project_name,
    split_project_path,
)
from runyard_server.query import planner
from runyard_server.query.config_keys import select_config
from runyard_server.query.handler import QueryHandler
from runyard_server.query.planner import Steps
from runyard_server.query.receipts import add_up
from runyard_server.query.requests import (
    MetricsPage,
    PathBuckets,
    Receipt,
    RunRow,
    RunsAsk,
    RunsPage,
    SeriesReply,
    SummaryReply,
)
from runyard_server.query.runs import RunFinder, RunFinderConfig, RunSource, read_document
from runyard_server.query.summaries import read_run_summary, read_summaries
from runyard_server.storage.ports.points import PointReader, SeriesKey
from runyard_server.storage.ports.runs import RunFilter, RunIndex


@dataclass(frozen=True, slots=True)
class QueryConfig(RunFinderConfig):
    """How the query service finds runs; what one reply may hold is part of the contract, in query.proto."""


def build(
    config: QueryConfig,
    *,
    points: PointReader,
    runs: RunIndex,
    siblings: RunSource,
    clock: Clock,
) -> QueryService:
    """Returns the service, not started."""
    return QueryService(config, points=points, runs=runs, siblings=siblings, clock=clock)


class QueryService:
    """Answers the calls of QueryService in the words of the domain; changes nothing."""

    name = "query"

    def __init__(
        self,
        config: QueryConfig,
        *,
        points: PointReader,
        runs: RunIndex,
        siblings: RunSource,
        clock: Clock,
    ) -> None:
        self._points = points
        self._index = runs
        self._siblings = siblings
        self._finder = RunFinder(config, index=runs, source=siblings, clock=clock)

    def register(self, server: grpc.aio.Server) -> tuple[str, ...]:
        """Adds the servicer to the server."""
        return QueryHandler(self).register(server)

    async def start(self) -> None:
        """Does nothing: the store is started by the process."""

    async def run(self) -> None:
        """Waits to be cancelled: there is no work in the background."""
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Does nothing: reads hold nothing."""

    async def read_series(
        self, run_path: str, metrics: Sequence[str], steps: Steps, *, limit: int
    ) -> SeriesReply:
        """Returns stored points of the metrics, in the order asked."""
        plan = planner.plan_series(metrics, steps, limit)
        key = await self._finder.find(run_path)
        series, next_step = await self._points.read_series(
            key,
            plan.metrics,
            first_step=plan.steps.first,
            last_step=plan.steps.last,
            limit=plan.limit,
        )
        found = dict(zip(plan.metrics, series, strict=True))
        return SeriesReply(tuple((metric, found[metric]) for metric in metrics), next_step)

    async def read_buckets(
        self,
        run_paths: Sequence[str],
        metrics: Sequence[str],
        steps: Steps,
        *,
        bucket_count_max: int,
    ) -> list[PathBuckets]:
        """Returns downsampled series, by run and metric as asked; those without points are left out."""
        plan = planner.plan_buckets(run_paths, metrics, steps, bucket_count_max)
        keys = await self._finder.find_all(plan.run_paths)
        series = {
            SeriesKey(key, metric): (path, metric)
            for path, key in keys.items()
            for metric in plan.metrics
        }
        found = await self._points.read_buckets(
            list(series),
            first_step=plan.steps.first,
            last_step=plan.steps.last,
            bucket_count_max=plan.bucket_count_max,
        )
        return [PathBuckets(*names, found[one]) for one, names in series.items() if one in found]

    async def list_metrics(
        self, run_path: str, *, name_contains: str, page_size: int, page_token: str
    ) -> MetricsPage:
        """Returns a page of a run's metrics, by name."""
        planner.check_text("name_contains", name_contains)
        query = f"metrics {run_path} {name_contains}"
        position = read_page_token(query, page_token, str)
        limit = planner.clamp(
            page_size, default=planner.METRICS_PAGE_DEFAULT, most=planner.METRICS_PAGE_MAX
        )
        key = await self._finder.find(run_path)
        stats, total = await self._points.list_metrics(
            key,
            name_contains=name_contains,
            after_name=str(position[0]) if position else "",
            limit=limit + 1,
        )
        page = stats[:limit]
        token = make_page_token(query, page[-1].name) if len(stats) > limit else ""
        return MetricsPage(tuple(page), token, total)

    async def read_summary(self, run_path: str, *, metric_count_max: int) -> SummaryReply:
        """Returns a run's summary."""
        limit = planner.clamp(
            metric_count_max,
            default=planner.SUMMARY_METRICS_DEFAULT,
            most=planner.SUMMARY_METRICS_MAX,
        )
        key = await self._finder.find(run_path)
        document = await read_document(self._index, self._siblings, key)
        return SummaryReply(*await read_run_summary(self._points, document, metric_count_max=limit))

    async def read_receipt(self, run_path: str) -> Receipt:
        """Returns what is durable of a run."""
        key = await self._finder.find(run_path)
        ranges, last_step = await asyncio.gather(
            self._points.read_receipts(key), self._points.read_last_step(key)
        )
        return Receipt(tuple(add_up(ranges)), last_step)

    async def query_runs(self, ask: RunsAsk) -> RunsPage:
        """Returns a page of a project's runs, newest first.

        Raises NotFound PROJECT_NOT_FOUND if there is no such project, which is asked only where an unfiltered first
        page is empty: the index knows runs, and metadata the projects.
        """
        entity, project = split_project_path(ask.project_path)
        where = RunFilter(
            entity=check_entity_name(entity),
            project=check_project_name(project),
            name_contains=planner.check_text("name_contains", ask.name_contains),
            states=ask.states,
        )
        config_keys = planner.check_keys("config_keys", ask.config_keys)
        summary_keys = planner.check_keys("summary_keys", ask.summary_keys)
        states = ",".join(sorted({state.value for state in ask.states}))
        query = f"runs {ask.project_path} {states} {ask.name_contains}"
        position = read_page_token(query, ask.page_token, int)
        limit = planner.clamp(
            ask.page_size, default=planner.RUNS_PAGE_DEFAULT, most=planner.RUNS_PAGE_MAX
        )
        documents, total = await self._index.query_runs(
            where, before_key=RunKey(int(position[0])) if position else None, limit=limit + 1
        )
        if not (documents or total or position or ask.states or ask.name_contains):
            await self._siblings.get_project(ask.project_path)
        page = documents[:limit]
        summaries = await read_summaries(self._points, page, summary_keys)
        rows = tuple(
            RunRow(
                dataclasses.replace(d, config_json=select_config(d.config_json, config_keys)),
                summaries.get(d.run_key, ""),
            )
            for d in page
        )
        token = make_page_token(query, page[-1].run_key) if len(documents) > limit else ""
        return RunsPage(rows, token, total)
