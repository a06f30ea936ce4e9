"""Turns messages of monitor.v1 into the domain's words and back; decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc.aio

from runyard_protos.monitor.v1 import monitor_pb2 as pb
from runyard_protos.monitor.v1 import monitor_pb2_grpc as pb_grpc
from runyard_server.domain.run import RunKey
from runyard_server.monitor.liveness import Beat, Liveness
from runyard_server.rpc.message_values import duration_from_s, timestamp_from_unix_ns

if TYPE_CHECKING:
    from runyard_server.monitor.service import MonitorService

_FULL_NAME = "runyard.monitor.v1.MonitorService"


class MonitorHandler(pb_grpc.MonitorServiceServicer):
    """Answers the RPCs of MonitorService; see the proto for what each promises."""

    def __init__(self, service: MonitorService) -> None:
        self._service = service

    def register(self, server: grpc.aio.Server) -> tuple[str, ...]:
        """Adds itself to the server and returns the full names it serves."""
        pb_grpc.add_MonitorServiceServicer_to_server(self, server)
        return (_FULL_NAME,)

    async def Heartbeat(self, request: pb.HeartbeatRequest, context: Any) -> pb.HeartbeatResponse:
        answer = await self._service.heartbeat(
            request.agent_id, [_beat(beat) for beat in request.beats]
        )
        return pb.HeartbeatResponse(
            next_beat=duration_from_s(answer.next_beat_s),
            unknown_run_keys=answer.unknown_run_keys,
        )

    async def GetLiveness(
        self, request: pb.GetLivenessRequest, context: Any
    ) -> pb.GetLivenessResponse:
        found = await self._service.get_liveness(list(request.run_paths))
        return pb.GetLivenessResponse(liveness=[_liveness_message(item) for item in found])


def _beat(beat: pb.Beat) -> Beat:
    return Beat(
        run_key=RunKey(beat.run_key),
        writer=beat.writer,
        is_process_alive=beat.is_process_alive,
        last_step=beat.last_step if beat.HasField("last_step") else None,
        records_written=beat.records_written,
        records_durable=beat.records_durable,
    )


def _liveness_message(item: Liveness) -> pb.Liveness:
    message = pb.Liveness(
        run_path=item.run.path,
        crash_timeout=duration_from_s(item.crash_timeout_s),
        records_written=item.records_written,
        records_durable=item.records_durable,
    )
    if item.last_beat_unix_ns is not None:
        message.last_beat_time.CopyFrom(timestamp_from_unix_ns(item.last_beat_unix_ns))
    return message
