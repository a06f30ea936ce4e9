"""Calls to the other services, in the words of the domain: channels by name, deadlines, one repeat on UNAVAILABLE."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from runyard_protos.files.v1 import files_pb2 as files_pb
from runyard_protos.ingest.v1 import ingest_pb2 as ingest_pb
from runyard_protos.metadata.v1 import metadata_pb2 as pb
from runyard_protos.monitor.v1 import monitor_pb2 as monitor_pb
from runyard_protos.query.v1 import query_pb2 as query_pb
from runyard_server import telemetry
from runyard_server.domain.beats import MonitorReplica
from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import DeadlineExceeded, Internal, Unavailable
from runyard_server.domain.events import RunEventKind
from runyard_server.domain.notifications import NotificationReport, OutgoingNotice
from runyard_server.domain.projects import Project
from runyard_server.domain.purges import StoreFreed, TablePurge
from runyard_server.domain.run import (
    LiveRun,
    RunDocument,
    RunKey,
    RunState,
    StopStatus,
    TransitionCause,
)
from runyard_server.domain.tables import TableFile
from runyard_server.domain.writers import Writer
from runyard_server.rpc import (
    life_messages,
    message_values,
    monitor_messages,
    project_messages,
    run_messages,
)
from runyard_server.rpc.calls import REQUEST_ID_KEY, current_call, draw_request_id
from runyard_server.rpc.errors import from_rpc_error

METADATA: Final = "metadata"
_METADATA_SERVICE: Final = "/runyard.metadata.v1.MetadataService/"
INGEST: Final = "ingest"
_INGEST_SERVICE: Final = "/runyard.ingest.v1.IngestService/"
FILES: Final = "files"
_FILES_SERVICE: Final = "/runyard.files.v1.FilesService/"
MONITOR: Final = "monitor"
_MONITOR_SERVICE: Final = "/runyard.monitor.v1.MonitorService/"
QUERY: Final = "query"
_QUERY_SERVICE: Final = "/runyard.query.v1.QueryService/"
_PAGE_SIZE: Final = 10_000

_Reply = TypeVar("_Reply")


@dataclass(frozen=True, slots=True)
class SiblingsConfig:
    """How other services are called."""

    deadline_s: float = 10.0
    """Longest wait for an answer, the repeat included; a shorter deadline of the call being answered wins."""
    purge_deadline_s: float = 800.0
    """Longest wait for a store to remove deleted runs."""
    retry_pause_s: float = 0.1
    """Mean pause before the one repeat after UNAVAILABLE; drawn between half and one and a half of it."""
    reply_bytes_max: int = 64 * 1024 * 1024
    """Largest answer taken."""
    keepalive_interval_s: float = 30.0
    """Pings of an idle connection with a call in progress."""


class Siblings:
    """Holds one channel per address and offers typed calls; made before the addresses are known, see `connect`."""

    def __init__(self, config: SiblingsConfig, *, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._addresses: dict[str, str] = {}
        self._channels: dict[str, grpc.aio.Channel] = {}

    def connect(self, addresses: Mapping[str, str]) -> None:
        """Says where each service (ingest, query, ...) answers, as HOST:PORT. Opens nothing yet."""
        self._addresses.update(addresses)

    async def close(self) -> None:
        """Closes all channels; calls in flight fail."""
        channels, self._channels = list(self._channels.values()), {}
        for channel in channels:
            await channel.close(None)

    async def get_run(
        self, *, path: str | None = None, run_key: RunKey | None = None
    ) -> RunDocument:
        """Returns one run by path or by key.

        Raises NotFound RUN_NOT_FOUND, FailedPrecondition RUN_DELETED, Unavailable.
        """
        assert (path is None) != (run_key is None), "name the run by path or by key"
        request = pb.GetRunRequest()
        if path is not None:
            request.path = path
        if run_key is not None:
            request.run_key = run_key
        reply = await self._call("GetRun", request, pb.GetRunResponse)
        return run_messages.run_from_message(reply.run)

    async def get_project(self, path: str) -> Project:
        """Returns one project. Raises NotFound PROJECT_NOT_FOUND, Unavailable."""
        request = pb.GetProjectRequest(path=path)
        reply = await self._call("GetProject", request, pb.GetProjectResponse)
        return project_messages.project_from_message(reply.project)

    async def record_transition(
        self,
        run_key: RunKey,
        *,
        from_state: RunState,
        to_state: RunState,
        cause: TransitionCause,
        evidence: str,
        actor: str,
        attempt_count: int,
        end_time_unix_ns: int | None,
    ) -> tuple[bool, RunState]:
        """Returns whether the state changed by this call, and the state now. Safe to repeat.

        Raises FailedPrecondition TRANSITION_NOT_ALLOWED, NotFound RUN_NOT_FOUND, Unavailable.
        """
        request = pb.RecordTransitionRequest(
            run_key=run_key,
            to=message_values.state_to_number(to_state),
            cause=message_values.cause_to_number(cause),
            evidence=evidence,
            actor=actor,
            attempt_count=attempt_count,
        )
        setattr(request, "from", message_values.state_to_number(from_state))
        if end_time_unix_ns is not None:
            request.end_time.CopyFrom(message_values.timestamp_from_unix_ns(end_time_unix_ns))
        reply = await self._call("RecordTransition", request, pb.RecordTransitionResponse)
        return reply.is_applied, message_values.state_from_number(reply.state, field="state")

    async def record_heartbeats(self, heartbeats: Sequence[tuple[RunKey, int]]) -> None:
        """Tells when runs last gave a sign of life, as (run, Unix ns); at most 10,000. Safe to repeat."""
        request = pb.RecordHeartbeatsRequest(
            heartbeats=[
                pb.RunHeartbeat(
                    run_key=run_key,
                    heartbeat_time=message_values.timestamp_from_unix_ns(time_unix_ns),
                )
                for run_key, time_unix_ns in heartbeats
            ]
        )
        await self._call("RecordHeartbeats", request, pb.RecordHeartbeatsResponse)

    async def list_live_runs(self) -> list[LiveRun]:
        """Returns all live runs, by key; reads all pages."""
        pages = self._pages("ListLiveRuns", pb.ListLiveRunsRequest(), pb.ListLiveRunsResponse)
        return [
            run_messages.live_run_from_message(run) async for page in pages for run in page.runs
        ]

    async def lease_notifications(self, *, limit: int, lease_s: float) -> list[OutgoingNotice]:
        """Returns notifications that are due; nobody else gets them until the lease ends."""
        request = pb.LeaseNotificationsRequest(
            limit=limit, lease=message_values.duration_from_s(lease_s)
        )
        reply = await self._call("LeaseNotifications", request, pb.LeaseNotificationsResponse)
        return [project_messages.notice_from_message(one) for one in reply.notifications]

    async def report_notifications(self, reports: Sequence[NotificationReport]) -> None:
        """Tells what became of notifications; at most 1,000. Safe to repeat."""
        request = pb.ReportNotificationsRequest(
            reports=[project_messages.report_to_message(report) for report in reports]
        )
        await self._call("ReportNotifications", request, pb.ReportNotificationsResponse)

    async def list_writers(self, run_key: RunKey) -> list[Writer]:
        """Returns all writers of a run, by number; reads all pages. Raises NotFound, FailedPrecondition RUN_DELETED, Unavailable."""
        request = pb.ListRunWritersRequest(run_key=run_key)
        pages = self._pages("ListRunWriters", request, pb.ListRunWritersResponse)
        return [
            life_messages.writer_from_message(run_key, one)
            async for page in pages
            for one in page.writers
        ]

    async def written_records(self, run_path: str) -> dict[int, int]:
        """Returns how many records each writer of a live run has written, as its beats say. Raises Unavailable."""
        reply = await self._call(
            "ListWriterLiveness",
            monitor_pb.ListWriterLivenessRequest(run_path=run_path),
            monitor_pb.ListWriterLivenessResponse,
            service=MONITOR,
            prefix=_MONITOR_SERVICE,
        )
        return {one.writer: one.records_written for one in reply.writers}

    async def purge_points(self, run_keys: Sequence[RunKey]) -> list[TablePurge]:
        """Has ingest remove what deleted runs streamed, which may take minutes. Safe to repeat. Raises Unavailable."""
        reply = await self._call(
            "PurgeRuns",
            ingest_pb.PurgeRunsRequest(run_keys=run_keys),
            ingest_pb.PurgeRunsResponse,
            service=INGEST,
            prefix=_INGEST_SERVICE,
            deadline_s=self._config.purge_deadline_s,
        )
        return [TablePurge(one.table, tuple(one.rows), one.bytes) for one in reply.tables]

    async def purge_files(self, run_keys: Sequence[RunKey]) -> list[StoreFreed]:
        """Has files remove the files of deleted runs; one entry per run. Safe to repeat. Raises Unavailable."""
        reply = await self._call(
            "PurgeRuns",
            files_pb.PurgeRunsRequest(run_keys=run_keys),
            files_pb.PurgeRunsResponse,
            service=FILES,
            prefix=_FILES_SERVICE,
            deadline_s=self._config.purge_deadline_s,
        )
        return [
            StoreFreed("objects", rows=one.files, objects=one.objects, bytes=one.bytes)
            for one in reply.runs
        ]

    async def get_file(self, run_path: str, name: str) -> TableFile:
        """Returns a file of a run, and where its bytes are for an hour.

        Raises NotFound RUN_NOT_FOUND, FILE_NOT_FOUND, FailedPrecondition RUN_DELETED, Unavailable.
        """
        reply = await self._call(
            "GetFile",
            files_pb.GetFileRequest(run_path=run_path, name=name),
            files_pb.GetFileResponse,
            service=FILES,
            prefix=_FILES_SERVICE,
        )
        file = reply.file
        return TableFile(file.name, file.size_bytes, file.sha256.hex(), reply.download_url)

    async def last_step(self, path: str) -> int | None:
        """Returns the largest step of a run's history, as query has it; None if it has no points.

        Raises NotFound RUN_NOT_FOUND, Unavailable.
        """
        request = query_pb.GetReceiptRequest(run_path=path)
        reply = await self._call(
            "GetReceipt", request, query_pb.GetReceiptResponse, service=QUERY, prefix=_QUERY_SERVICE
        )
        return reply.last_step if reply.HasField("last_step") else None

    async def list_stop_requests(self) -> dict[RunKey, StopStatus]:
        """Returns the stops that are asked for and not done; reads all pages."""
        request = pb.ListStopRequestsRequest()
        pages = self._pages("ListStopRequests", request, pb.ListStopRequestsResponse)
        return {
            RunKey(one.run_key): life_messages.stop_from_message(one.stop)
            async for page in pages
            for one in page.stop_requests
        }

    async def list_open_writers(self, run_key: RunKey) -> set[int]:
        """Returns the writers of a run that have not ended and were not replaced by a later process; reads all pages.

        Raises NotFound RUN_NOT_FOUND, FailedPrecondition RUN_DELETED, Unavailable.
        """
        every = pb.ListRunWritersResponse()
        request = pb.ListRunWritersRequest(run_key=run_key)
        async for page in self._pages("ListRunWriters", request, pb.ListRunWritersResponse):
            every.writers.extend(page.writers)
        return monitor_messages.open_writers(every)

    async def record_run_event(
        self,
        run_key: RunKey,
        *,
        kind: RunEventKind,
        evidence: str,
        actor: str,
        attempt_count: int,
        writer: int = 0,
        since_unix_ns: int | None = None,
    ) -> bool:
        """Returns whether what was seen of a live run was news. Safe to repeat.

        Raises NotFound RUN_NOT_FOUND, FailedPrecondition RUN_DELETED, Unavailable.
        """
        request = pb.RecordRunEventRequest(
            run_key=run_key,
            kind=life_messages.kind_to_number(kind),
            evidence=evidence,
            actor=actor,
            attempt_count=attempt_count,
            writer=writer,
            since_time=message_values.optional_timestamp(since_unix_ns),
        )
        reply = await self._call("RecordRunEvent", request, pb.RecordRunEventResponse)
        return reply.is_applied

    async def renew_monitor_replica(
        self, replica_id: str, *, address: str, lease_s: float, is_leaving: bool
    ) -> tuple[MonitorReplica, ...]:
        """Returns the living replicas of the monitor, this one among them unless it leaves. Safe to repeat."""
        request = pb.RenewMonitorReplicaRequest(
            replica_id=replica_id,
            address=address,
            lease=message_values.duration_from_s(lease_s),
            is_leaving=is_leaving,
        )
        reply = await self._call("RenewMonitorReplica", request, pb.RenewMonitorReplicaResponse)
        return monitor_messages.replicas_from_message(reply)

    async def call_address(
        self,
        address: str,
        method_path: str,
        request: Message,
        reply_type: type[_Reply],
        *,
        timeout_s: float,
    ) -> _Reply:
        """Returns the answer of a process at an address that is not of the configuration; repeats nothing.

        Raises the domain error that the process answered with, Unavailable or DeadlineExceeded if none came.
        """
        invoke: Callable[..., Awaitable[_Reply]] = self._channel_to(address).unary_unary(
            method_path,
            request_serializer=_serialize,
            response_deserializer=reply_type.FromString,  # type: ignore[attr-defined]  # generated
        )
        service = method_path.strip("/").split(".", 2)[1]
        metadata = ((REQUEST_ID_KEY, draw_request_id(self._clock)),)
        try:
            reply = await invoke(request, timeout=timeout_s, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            telemetry.SIBLING_CALLS.labels(service, error.code().name).inc()
            raise from_rpc_error(error, service=service) from error
        telemetry.SIBLING_CALLS.labels(service, "OK").inc()
        return reply

    async def ask(
        self,
        service: str,
        method_path: str,
        request: Message,
        reply_type: type[_Reply],
        *,
        deadline_s: float | None = None,
    ) -> _Reply:
        """Returns a sibling's answer; repeats once on UNAVAILABLE. Raises the domain error that it answered with."""
        prefix, _, method = method_path.rpartition("/")
        return await self._call(
            method,
            request,
            reply_type,
            service=service,
            prefix=f"{prefix}/",
            deadline_s=deadline_s,
        )

    async def hang_up(self, address: str) -> None:
        """Closes the channel to an address; a later call opens a new one."""
        channel = self._channels.pop(address, None)
        if channel is not None and address not in self._addresses.values():
            await channel.close(None)

    async def forward(
        self, service: str, method_path: str, body: bytes, *, timeout_s: float, request_id: str
    ) -> bytes:
        """Returns the answer's bytes of any unary method, neither body nor answer parsed; repeats nothing.

        Raises grpc.aio.AioRpcError as it came, for the one who translates it for its own callers.
        """
        call: Callable[..., Awaitable[bytes]] = self._channel(service).unary_unary(method_path)
        try:
            reply = await call(body, timeout=timeout_s, metadata=((REQUEST_ID_KEY, request_id),))
        except grpc.aio.AioRpcError as error:
            telemetry.SIBLING_CALLS.labels(service, error.code().name).inc()
            raise
        telemetry.SIBLING_CALLS.labels(service, "OK").inc()
        return reply

    async def check_health(self, service: str, full_name: str, *, timeout_s: float) -> bool:
        """Returns whether the service says of itself that it serves; False too if it does not answer."""
        # grpc.health.v1.HealthCheckRequest{service = 1} and HealthCheckResponse{status = 1}, SERVING = 1.
        name = full_name.encode()
        assert len(name) < 128
        call: Callable[..., Awaitable[bytes]] = self._channel(service).unary_unary(
            "/grpc.health.v1.Health/Check"
        )
        try:
            reply = await call(b"\x0a" + bytes([len(name)]) + name, timeout=timeout_s)
        except grpc.aio.AioRpcError:
            return False
        return reply == b"\x08\x01"

    async def _pages(
        self, method: str, request: Any, reply_type: type[_Reply]
    ) -> AsyncIterator[_Reply]:
        """Yields all pages of a list of metadata."""
        request.page_size = _PAGE_SIZE
        while True:
            reply = await self._call(method, request, reply_type)
            yield reply
            next_token: str = reply.next_page_token  # type: ignore[attr-defined]  # generated
            if not next_token:
                return
            if next_token == request.page_token:
                raise Internal("INTERNAL", f"{METADATA} gave the same page of {method} twice")
            request.page_token = next_token

    async def _call(
        self,
        method: str,
        request: Message,
        reply_type: type[_Reply],
        *,
        service: str = METADATA,
        prefix: str = _METADATA_SERVICE,
        deadline_s: float | None = None,
    ) -> _Reply:
        invoke: Callable[..., Awaitable[_Reply]] = self._channel(service).unary_unary(
            prefix + method,
            request_serializer=_serialize,
            response_deserializer=reply_type.FromString,  # type: ignore[attr-defined]  # generated
        )
        call = current_call()
        request_id = call.request_id if call is not None else draw_request_id(self._clock)
        deadline_s = self._clock.monotonic_s() + (deadline_s or self._config.deadline_s)
        if call is not None and call.deadline_monotonic_s is not None:
            deadline_s = min(deadline_s, call.deadline_monotonic_s)
        for is_last in (False, True):
            timeout_s = deadline_s - self._clock.monotonic_s()
            if timeout_s <= 0:
                raise DeadlineExceeded(
                    "DEADLINE_EXCEEDED",
                    f"no time is left to ask {service} for {method}",
                    metadata={"service": service, "method": method},
                )
            try:
                reply = await invoke(
                    request, timeout=timeout_s, metadata=((REQUEST_ID_KEY, request_id),)
                )
            except grpc.aio.AioRpcError as error:
                telemetry.SIBLING_CALLS.labels(service, error.code().name).inc()
                if error.code() is not grpc.StatusCode.UNAVAILABLE or is_last:
                    raise from_rpc_error(error, service=service) from error
            else:
                telemetry.SIBLING_CALLS.labels(service, "OK").inc()
                return reply
            telemetry.SIBLING_RETRIES.labels(service).inc()
            await asyncio.sleep(
                self._config.retry_pause_s * (0.5 + self._clock.random_bits(10) / 1024)
            )
        raise AssertionError("unreachable: the last round returns or raises")

    def _channel(self, service: str) -> grpc.aio.Channel:
        address = self._addresses.get(service)
        if address is None:
            raise Unavailable(
                "SERVICE_UNAVAILABLE",
                f"no address is configured for service {service!r}; set addresses.{service}",
                metadata={"service": service},
            )
        return self._channel_to(address)

    def _channel_to(self, address: str) -> grpc.aio.Channel:
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = grpc.aio.insecure_channel(
                address, options=_channel_options(self._config)
            )
        return channel


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _channel_options(config: SiblingsConfig) -> list[tuple[str, Any]]:
    return [
        ("grpc.max_receive_message_length", config.reply_bytes_max),
        ("grpc.max_send_message_length", config.reply_bytes_max),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.keepalive_time_ms", round(config.keepalive_interval_s * 1000)),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.ping_timeout_ms", 10_000),
        ("grpc.http2.max_pings_without_data", 0),
    ]
