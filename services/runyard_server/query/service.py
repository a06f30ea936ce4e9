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
from runyard_server.query.console import ConsoleQueries, ConsoleStore
from runyard_server.query.handler import QueryHandler
from runyard_server.query.media import MediaQueries
from runyard_server.query.planner import EVERYTHING, Selection, Steps
from runyard_server.query.receipts import add_up, with_what_writers_say
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
from runyard_server.query.runs import RunFinder, RunFinderConfig, read_document
from runyard_server.query.summaries import read_run_summary, read_summaries
from runyard_server.query.system import SystemQueries
from runyard_server.query.tables import TableQueries
from runyard_server.query.writers import QuerySiblings, WriterTellers
from runyard_server.storage.ports.media import MediaReader
from runyard_server.storage.ports.points import PointReader, Scopes, SeriesKey
from runyard_server.storage.ports.runs import RunFilter, RunIndex
from runyard_server.storage.ports.system import SystemReader
from runyard_server.storage.ports.tables import TableReader


@dataclass(frozen=True, slots=True)
class QueryConfig(RunFinderConfig):
    """How the query service finds runs; what one reply may hold is part of the contract, in query.proto."""

    writers_timeout_s: float = 2.0
    """How long a receipt waits for what metadata and the monitor know of the writers; it comes without that then."""


def build(
    config: QueryConfig,
    *,
    points: PointReader,
    console: ConsoleStore,
    system: SystemReader,
    media: MediaReader,
    tables: TableReader,
    runs: RunIndex,
    siblings: QuerySiblings,
    clock: Clock,
    system_keep_days: float = 0.0,
) -> QueryService:
    """Returns the service, not started."""
    return QueryService(
        config,
        points=points,
        console=console,
        system=system,
        media=media,
        tables=tables,
        runs=runs,
        siblings=siblings,
        clock=clock,
        system_keep_days=system_keep_days,
    )


class QueryService:
    """Answers the calls of QueryService in the words of the domain; changes nothing."""

    name = "query"

    def __init__(
        self,
        config: QueryConfig,
        *,
        points: PointReader,
        console: ConsoleStore,
        system: SystemReader,
        media: MediaReader,
        tables: TableReader,
        runs: RunIndex,
        siblings: QuerySiblings,
        clock: Clock,
        system_keep_days: float = 0.0,
    ) -> None:
        self._points = points
        self._index = runs
        self._siblings = siblings
        self._finder = RunFinder(config, index=runs, source=siblings, clock=clock)
        self.console = ConsoleQueries(console, self._finder)
        """Reads of what runs print."""
        self.system = SystemQueries(system, self._finder, keep_days=system_keep_days)
        """Reads of what machines did."""
        self._media = media
        self.media = MediaQueries(media, self._finder, index=runs)
        """Reads of what runs log besides numbers."""
        self.tables = TableQueries(tables, siblings)
        """Reads of tables among it."""
        self._tellers = WriterTellers(siblings, timeout_s=config.writers_timeout_s)

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
        self,
        run_path: str,
        metrics: Sequence[str],
        steps: Steps,
        *,
        limit: int,
        selection: Selection = EVERYTHING,
    ) -> SeriesReply:
        """Returns stored points of the metrics, in the order asked."""
        plan = planner.plan_series(metrics, steps, limit)
        selection = planner.check_selection(selection, run_count=1)
        run = await self._finder.find(run_path)
        series, next_step = await self._points.read_series(
            run.run_key,
            plan.metrics,
            first_step=plan.steps.first,
            last_step=plan.steps.last,
            limit=plan.limit,
            scopes=planner.scopes_of([run], selection),
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
        selection: Selection = EVERYTHING,
    ) -> list[PathBuckets]:
        """Returns downsampled series, by run and metric as asked; those without points are left out."""
        plan = planner.plan_buckets(run_paths, metrics, steps, bucket_count_max)
        selection = planner.check_selection(selection, run_count=len(plan.run_paths))
        runs = await self._finder.find_all(plan.run_paths)
        series = {
            SeriesKey(run.run_key, metric): (path, metric)
            for path, run in runs.items()
            for metric in plan.metrics
        }
        found = await self._points.read_buckets(
            list(series),
            first_step=plan.steps.first,
            last_step=plan.steps.last,
            bucket_count_max=plan.bucket_count_max,
            scopes=planner.scopes_of(runs.values(), selection),
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
        run = await self._finder.find(run_path)
        stats, total = await self._points.list_metrics(
            run.run_key,
            name_contains=name_contains,
            after_name=str(position[0]) if position else "",
            limit=limit + 1,
            scopes=planner.scopes_of([run], EVERYTHING),
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
        run = await self._finder.find(run_path)
        document = await read_document(self._index, self._siblings, run.run_key)
        return SummaryReply(*await read_run_summary(self._points, document, metric_count_max=limit))

    async def read_receipt(self, run_path: str, *, writer_max: int = 0) -> Receipt:
        """Returns what is durable of a run; its last step is that of the writers up to `writer_max` (0: all)."""
        if writer_max:
            # A new attempt counts on from this step: the index may not know yet what a rewind a moment ago superseded.
            run = await self._finder.find_now(run_path)
            scopes: Scopes = {run.run_key: planner.scope_before(run, writer_max)}
        else:
            run = await self._finder.find(run_path)
            scopes = planner.scopes_of([run], EVERYTHING)
        ranges, point_step, media_step, told = await asyncio.gather(
            self._points.read_receipts(run.run_key),
            self._points.read_last_step(run.run_key, scopes=scopes),
            self._media.read_last_step(run.run_key, scopes=scopes),
            self._tellers.ask(run_path, run.run_key),
        )
        steps = [step for step in (point_step, media_step) if step is not None]
        return Receipt(tuple(with_what_writers_say(add_up(ranges), told)), max(steps, default=None))

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
                dataclasses.replace(
                    d,
                    config_json=select_config(d.config_json, config_keys),
                    host=dataclasses.replace(d.host, extra_json=""),
                ),
                summaries.get(d.run_key, ""),
            )
            for d in page
        )
        token = make_page_token(query, page[-1].run_key) if len(documents) > limit else ""
        return RunsPage(rows, token, total)
