"""Calls from one replica of the monitor to another, at the address that metadata's list of replicas names."""

from __future__ import annotations

from collections.abc import Sequence

from runyard_protos.monitor.v1 import monitor_pb2 as pb
from runyard_server.domain.beats import Beat, HeartbeatAnswer, Liveness, MonitorReplica, RunWriters
from runyard_server.rpc import monitor_messages
from runyard_server.rpc.siblings import Siblings

_SERVICE = "/runyard.monitor.v1.MonitorService/"


class MonitorPeers:
    """Typed calls; each raises a DomainError if the replica refuses or does not answer, and repeats nothing."""

    def __init__(self, siblings: Siblings) -> None:
        self._siblings = siblings

    async def pass_on(
        self,
        peer: MonitorReplica,
        *,
        replica_id: str,
        beats: Sequence[Beat],
        has_more: bool,
        timeout_s: float,
    ) -> HeartbeatAnswer:
        """Passes beats on, at most 10,000; `replica_id` is the sender's. Safe to repeat."""
        request = monitor_messages.request_to_pass_on(replica_id, beats, has_more=has_more)
        reply = await self._siblings.call_address(
            peer.address, _SERVICE + "Heartbeat", request, pb.HeartbeatResponse, timeout_s=timeout_s
        )
        return monitor_messages.answer_from_message(reply)

    async def get_liveness(
        self, peer: MonitorReplica, paths: Sequence[str], *, timeout_s: float
    ) -> list[Liveness]:
        """Returns what the replica itself knows of the runs."""
        request = pb.GetLivenessRequest(run_paths=paths, is_forwarded=True)
        reply = await self._siblings.call_address(
            peer.address,
            _SERVICE + "GetLiveness",
            request,
            pb.GetLivenessResponse,
            timeout_s=timeout_s,
        )
        return [monitor_messages.liveness_from_message(item) for item in reply.liveness]

    async def list_writers(
        self, peer: MonitorReplica, path: str, *, timeout_s: float
    ) -> RunWriters:
        """Returns what the replica itself knows of the writers of a run."""
        request = pb.ListWriterLivenessRequest(run_path=path, is_forwarded=True)
        reply = await self._siblings.call_address(
            peer.address,
            _SERVICE + "ListWriterLiveness",
            request,
            pb.ListWriterLivenessResponse,
            timeout_s=timeout_s,
        )
        return monitor_messages.writers_from_message(reply)

    async def hang_up(self, peer: MonitorReplica) -> None:
        """Closes the connection to a replica that is gone."""
        await self._siblings.hang_up(peer.address)
