"""Turns messages of monitor.v1 into the domain's words and back; decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc.aio

from runyard_protos.monitor.v1 import monitor_pb2 as pb
from runyard_protos.monitor.v1 import monitor_pb2_grpc as pb_grpc
from runyard_server.rpc import monitor_messages

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
        beats = monitor_messages.beats_from_request(request)
        if request.is_forwarded:
            answer = await self._service.take_passed_on(
                request.agent_id, beats, has_more=request.has_more
            )
        else:
            answer = await self._service.heartbeat(request.agent_id, beats)
        return monitor_messages.answer_to_message(answer)

    async def GetLiveness(
        self, request: pb.GetLivenessRequest, context: Any
    ) -> pb.GetLivenessResponse:
        found = await self._service.get_liveness(
            list(request.run_paths), is_forwarded=request.is_forwarded
        )
        return pb.GetLivenessResponse(
            liveness=[monitor_messages.liveness_to_message(item) for item in found]
        )

    async def ListWriterLiveness(
        self, request: pb.ListWriterLivenessRequest, context: Any
    ) -> pb.ListWriterLivenessResponse:
        writers = await self._service.list_writers(
            request.run_path, is_forwarded=request.is_forwarded
        )
        return monitor_messages.writers_to_message(writers)
