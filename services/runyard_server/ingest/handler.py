"""WriteBatch: message to batch and acknowledgement to message; columns stay columns."""

from __future__ import annotations

from typing import Any

import grpc.aio
import numpy as np

from runyard_protos.errors.v1 import errors_pb2
from runyard_protos.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from runyard_protos.points.v1 import points_pb2
from runyard_server.domain.clock import Clock
from runyard_server.domain.console import ConsoleBlock
from runyard_server.domain.errors import InvalidArgument
from runyard_server.domain.media import NO_HISTOGRAM, Histogram, MediaValue
from runyard_server.domain.points import Batch, Journal, PointTable, Rejection, SummaryChange
from runyard_server.domain.run import RunKey
from runyard_server.ingest.pipeline import Acknowledgement, Pipeline
from runyard_server.rpc.calls import current_call
from runyard_server.rpc.deleted_runs import check_purge_count
from runyard_server.storage.ports.console import ConsoleDropper
from runyard_server.storage.ports.points import RunPurger

_FULL_NAME = "runyard.ingest.v1.IngestService"
_REASON_PREFIX = "ERROR_REASON_"


class IngestHandler(ingest_pb2_grpc.IngestServiceServicer):
    """Answers IngestService."""

    def __init__(
        self,
        pipeline: Pipeline,
        purger: RunPurger,
        *,
        dropper: ConsoleDropper,
        deadline_default_s: float,
        clock: Clock,
    ) -> None:
        self._pipeline = pipeline
        self._purger = purger
        self._dropper = dropper
        self._deadline_default_s = deadline_default_s
        self._clock = clock

    def register(self, server: grpc.aio.Server) -> tuple[str, ...]:
        """Adds itself to the server and returns the full names it serves."""
        ingest_pb2_grpc.add_IngestServiceServicer_to_server(self, server)
        return (_FULL_NAME,)

    async def WriteBatch(
        self, request: ingest_pb2.WriteBatchRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> ingest_pb2.WriteBatchResponse:
        """Stores one batch; see ingest.v1."""
        acknowledgement = await self._pipeline.write(
            batch_from_message(request), deadline_s=self._deadline_s()
        )
        return message_from_acknowledgement(acknowledgement)

    async def PurgeRuns(
        self, request: ingest_pb2.PurgeRunsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> ingest_pb2.PurgeRunsResponse:
        """Removes what deleted runs streamed; see ingest.v1."""
        tables = await self._purger.purge_runs([RunKey(key) for key in request.run_keys])
        return ingest_pb2.PurgeRunsResponse(
            tables=[
                ingest_pb2.TablePurge(table=one.table, rows=one.rows, bytes=one.bytes)
                for one in tables
            ]
        )

    async def DropConsoleLines(
        self,
        request: ingest_pb2.DropConsoleLinesRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> ingest_pb2.DropConsoleLinesResponse:
        """Removes lines that are archived; see ingest.v1."""
        drops = [(RunKey(one.run_key), one.last_block) for one in request.drops]
        check_purge_count([run_key for run_key, _ in drops])
        await self._dropper.drop_lines(drops)
        return ingest_pb2.DropConsoleLinesResponse()

    def _deadline_s(self) -> float:
        call = current_call()
        if call is not None and call.deadline_monotonic_s is not None:
            return call.deadline_monotonic_s
        return self._clock.monotonic_s() + self._deadline_default_s


def batch_from_message(message: ingest_pb2.WriteBatchRequest) -> Batch:
    """Returns the batch that the message says, unchecked. Copies each column once."""
    return Batch(
        run_key=RunKey(message.run_key),
        writer=message.writer,
        first_sequence=message.first_sequence,
        last_sequence=message.last_sequence,
        metric_names=tuple(message.metric_names),
        tables=tuple(map(_table_from_message, message.tables)),
        summary_changes=tuple(
            SummaryChange(change.sequence, change.key, change.value_json)
            for change in message.summary_changes
        ),
        journal=_journal(message.journal),
        console_blocks=tuple(
            ConsoleBlock(
                sequence=block.sequence,
                first_line=block.first_line,
                line_count=block.line_count,
                stream=block.stream,
                time_unix_ns=block.time_unix_ns,
                text=block.text.encode(),
            )
            for block in message.console_blocks
        ),
        media_values=tuple(map(_media_from_message, message.media_values)),
    )


def message_from_acknowledgement(
    acknowledgement: Acknowledgement,
) -> ingest_pb2.WriteBatchResponse:
    """Returns the message that says it."""
    return ingest_pb2.WriteBatchResponse(
        first_sequence=acknowledgement.first_sequence,
        last_sequence=acknowledgement.last_sequence,
        rejections=map(_message_from_rejection, acknowledgement.rejections),
        is_repeat=acknowledgement.is_repeat,
    )


def _journal(number: int) -> Journal:
    try:
        return Journal(number or Journal.RUN)
    except ValueError:
        raise InvalidArgument(
            "FIELD_INVALID",
            f"journal is {number}: this server does not know it; it may be older than the client",
            metadata={"field": "journal", "value": number},
        ) from None


def _table_from_message(message: points_pb2.PointTable) -> PointTable:
    # numpy.array copies a packed column at once (the containers have __array__); iterating would make objects.
    return PointTable(
        metric_indexes=tuple(message.metric_indexes),
        steps=np.array(message.steps, np.int64),
        times_unix_ns=np.array(message.times_unix_ns, np.int64),
        sequences=np.array(message.sequences, np.uint64),
        values=np.array(message.values, np.float64),
    )


def _media_from_message(message: ingest_pb2.MediaValue) -> MediaValue:
    histogram = NO_HISTOGRAM
    if message.HasField("histogram"):
        histogram = Histogram(
            np.array(message.histogram.edges, np.float64),
            np.array(message.histogram.counts, np.float64),
            message.histogram.non_finite_count,
        )
    return MediaValue(
        sequence=message.sequence,
        name=message.name,
        step=message.step,
        time_unix_ns=message.time_unix_ns,
        kind=message.kind,
        items_json=message.items_json,
        histogram=histogram,
    )


def _message_from_rejection(rejection: Rejection) -> ingest_pb2.Rejection:
    return ingest_pb2.Rejection(
        metric=rejection.metric,
        reason=errors_pb2.ErrorReason.Value(_REASON_PREFIX + rejection.reason),
        message=rejection.message,
        points=rejection.points,
    )
