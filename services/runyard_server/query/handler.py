"""Turns messages of query.v1 into the domain's words and back; columns stay columns, decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import grpc.aio
from numpy.typing import NDArray

from runyard_protos.query.v1 import query_pb2 as pb
from runyard_protos.query.v1 import query_pb2_grpc as pb_grpc
from runyard_server.query.console_handler import (
    check_console_archive,
    console_ask,
    console_counts,
    console_page,
    export_console_lines,
    list_printed_runs,
)
from runyard_server.query.media_handler import media_ask, media_page, media_reply
from runyard_server.query.packed import pack_columns
from runyard_server.query.planner import Selection, Steps
from runyard_server.query.receipts import WriterReceipt
from runyard_server.query.requests import PathBuckets, RunRow, RunsAsk
from runyard_server.query.system_handler import system_ask, system_series, system_stats
from runyard_server.query.table_handler import table_page, table_request
from runyard_server.rpc import message_values, run_messages
from runyard_server.storage.ports.points import MetricStats, SeriesPoints

if TYPE_CHECKING:
    from runyard_server.query.service import QueryService

_FULL_NAME = "runyard.query.v1.QueryService"
_SERIES_FIELDS: Final = pb.Series.DESCRIPTOR.fields_by_name
_BUCKET_FIELDS: Final = pb.BucketSeries.DESCRIPTOR.fields_by_name
_BUCKET_COLUMNS: Final = (
    "first_steps", "last_steps", "times_unix_ns", "lows", "highs", "means", "lasts", "counts",
)  # fmt: skip
_NON_FINITE_COLUMNS: Final = (
    "nan_counts", "positive_infinity_counts", "negative_infinity_counts",
)  # fmt: skip

_Column = NDArray[Any]


class QueryHandler(pb_grpc.QueryServiceServicer):
    """Answers the RPCs of QueryService; see the proto for what each promises."""

    def __init__(self, service: QueryService) -> None:
        self._service = service

    def register(self, server: grpc.aio.Server) -> tuple[str, ...]:
        """Adds itself to the server and returns the full names it serves."""
        pb_grpc.add_QueryServiceServicer_to_server(self, server)
        return (_FULL_NAME,)

    async def QuerySeries(
        self, request: pb.QuerySeriesRequest, context: Any
    ) -> pb.QuerySeriesResponse:
        reply = await self._service.read_series(
            request.run_path,
            request.metrics,
            _steps(request),
            limit=request.limit,
            selection=_selection(request),
        )
        return pb.QuerySeriesResponse(
            series=[_series(metric, points) for metric, points in reply.series],
            next_step=reply.next_step,
        )

    async def QueryBuckets(
        self, request: pb.QueryBucketsRequest, context: Any
    ) -> pb.QueryBucketsResponse:
        found = await self._service.read_buckets(
            request.run_paths,
            request.metrics,
            _steps(request),
            bucket_count_max=request.bucket_count_max,
            selection=_selection(request),
        )
        return pb.QueryBucketsResponse(series=[_buckets(one) for one in found])

    async def ListMetrics(
        self, request: pb.ListMetricsRequest, context: Any
    ) -> pb.ListMetricsResponse:
        page = await self._service.list_metrics(
            request.run_path,
            name_contains=request.name_contains,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return pb.ListMetricsResponse(
            metrics=[_metric(one) for one in page.metrics],
            next_page_token=page.next_page_token,
            total_count=page.total_count,
        )

    async def GetSummary(
        self, request: pb.GetSummaryRequest, context: Any
    ) -> pb.GetSummaryResponse:
        reply = await self._service.read_summary(
            request.run_path, metric_count_max=request.metric_count_max
        )
        return pb.GetSummaryResponse(
            summary_json=reply.summary_json, omitted_count=reply.omitted_count
        )

    async def GetReceipt(
        self, request: pb.GetReceiptRequest, context: Any
    ) -> pb.GetReceiptResponse:
        receipt = await self._service.read_receipt(request.run_path, writer_max=request.writer_max)
        return pb.GetReceiptResponse(
            writers=[_writer(writer) for writer in receipt.writers],
            records_durable=sum(writer.records_durable for writer in receipt.writers),
            last_step=receipt.last_step,
        )

    async def QueryRuns(self, request: pb.QueryRunsRequest, context: Any) -> pb.QueryRunsResponse:
        page = await self._service.query_runs(
            RunsAsk(
                project_path=request.project_path,
                page_size=request.page_size,
                page_token=request.page_token,
                name_contains=request.name_contains,
                states=tuple(
                    message_values.state_from_number(number, field="states")
                    for number in request.states
                ),
                config_keys=tuple(request.config_keys),
                summary_keys=tuple(request.summary_keys),
            )
        )
        return pb.QueryRunsResponse(
            runs=[_run(row) for row in page.runs],
            next_page_token=page.next_page_token,
            total_count=page.total_count,
        )

    async def ListConsoleLines(
        self, request: pb.ListConsoleLinesRequest, context: Any
    ) -> pb.ListConsoleLinesResponse:
        return console_page(await self._service.console.list_lines(console_ask(request)))

    async def ListSystemMetrics(
        self, request: pb.ListSystemMetricsRequest, context: Any
    ) -> pb.ListSystemMetricsResponse:
        system = self._service.system
        return system_stats(
            await system.list_metrics(request.run_path, is_brief=request.is_brief),
            keep_days=system.keep_days,
        )

    async def QuerySystemMetrics(
        self, request: pb.QuerySystemMetricsRequest, context: Any
    ) -> pb.QuerySystemMetricsResponse:
        return system_series(await self._service.system.read_series(system_ask(request)))

    async def GetConsole(
        self, request: pb.GetConsoleRequest, context: Any
    ) -> pb.GetConsoleResponse:
        return console_counts(await self._service.console.count_lines(request.run_path))

    async def ListMedia(self, request: pb.ListMediaRequest, context: Any) -> pb.ListMediaResponse:
        page = await self._service.media.list_media(
            request.run_path,
            name_contains=request.name_contains,
            kinds=request.kinds,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return media_page(page)

    async def QueryMedia(
        self, request: pb.QueryMediaRequest, context: Any
    ) -> pb.QueryMediaResponse:
        return media_reply(await self._service.media.read_media(media_ask(request)))

    async def ListPrintedRuns(
        self, request: pb.ListPrintedRunsRequest, context: Any
    ) -> pb.ListPrintedRunsResponse:
        return await list_printed_runs(self._service.console.exporter, request)

    async def ExportConsoleLines(
        self, request: pb.ExportConsoleLinesRequest, context: Any
    ) -> pb.ExportConsoleLinesResponse:
        return await export_console_lines(self._service.console.exporter, request)

    async def CheckConsoleArchive(
        self, request: pb.CheckConsoleArchiveRequest, context: Any
    ) -> pb.CheckConsoleArchiveResponse:
        return await check_console_archive(self._service.console.exporter, request)

    async def QueryTable(
        self, request: pb.QueryTableRequest, context: Any
    ) -> pb.QueryTableResponse:
        return table_page(await self._service.tables.read_rows(table_request(request)))


def _steps(request: pb.QuerySeriesRequest | pb.QueryBucketsRequest) -> Steps:
    wanted = request.range
    return Steps(
        first=wanted.first_step if wanted.HasField("first_step") else None,
        last=wanted.last_step if wanted.HasField("last_step") else None,
    )


def _selection(request: pb.QuerySeriesRequest | pb.QueryBucketsRequest) -> Selection:
    return Selection(
        is_all_attempts=request.attempts == pb.ATTEMPT_SELECTION_ALL,
        writers=tuple(request.writers),
    )


def _series(metric: str, points: SeriesPoints) -> pb.Series:
    message = pb.Series(metric=metric)
    columns = (
        ("steps", points.steps.astype("<i8", copy=False)),
        ("times_unix_ns", points.times_unix_ns.astype("<i8", copy=False)),
        ("values", points.values.astype("<f8", copy=False)),
        ("writers", points.writers.astype("<u4")),
    )
    pack_columns(message, [(_SERIES_FIELDS[name].number, column) for name, column in columns])
    return message


def _buckets(one: PathBuckets) -> pb.BucketSeries:
    buckets = one.buckets
    message = pb.BucketSeries(
        run_path=one.run_path,
        metric=one.metric,
        width=buckets.width,
        is_raw=buckets.is_raw,
        point_count=int(buckets.counts.sum()),
    )
    names: tuple[str, ...] = _BUCKET_COLUMNS
    if any(getattr(buckets, name).any() for name in _NON_FINITE_COLUMNS):
        names += _NON_FINITE_COLUMNS
    pack_columns(
        message,
        [(_BUCKET_FIELDS[name].number, _little_endian(getattr(buckets, name))) for name in names],
    )
    return message


def _little_endian(column: _Column) -> _Column:
    assert column.dtype.itemsize == 8, column.dtype
    return column.astype(column.dtype.newbyteorder("<"), copy=False)


def _metric(stats: MetricStats) -> pb.MetricStats:
    return pb.MetricStats(
        name=stats.name,
        first_step=stats.first_step,
        last_step=stats.last_step,
        first=stats.first,
        last=stats.last,
        low=stats.low,
        high=stats.high,
        last_time_unix_ns=max(0, stats.last_time_unix_ns),
    )


def _writer(receipt: WriterReceipt) -> pb.WriterReceipt:
    return pb.WriterReceipt(
        writer=receipt.writer,
        records_durable=receipt.records_durable,
        contiguous_sequence=receipt.contiguous_sequence,
        last_sequence=receipt.last_sequence,
        gaps=[pb.SequenceRange(first=first, last=last) for first, last in receipt.gaps],
        points_rejected=receipt.points_rejected,
        points_accepted=receipt.points_accepted,
        label=receipt.label,
        attempt=receipt.attempt,
        records_written=receipt.records_written,
        records_refused=receipt.records_refused,
        has_ended=receipt.has_ended,
    )


def _run(row: RunRow) -> pb.RunRow:
    return pb.RunRow(run=run_messages.run_to_message(row.document), summary_json=row.summary_json)
