"""MonitorService over real gRPC, with metadata as its sibling."""

from __future__ import annotations

from collections.abc import Sequence

from runyard_protos.monitor.v1 import monitor_pb2 as pb
from runyard_protos.monitor.v1 import monitor_pb2_grpc as pb_grpc
from runyard_server.domain.clock import SystemClock
from runyard_server.domain.errors import InvalidArgument, NotFound
from runyard_server.monitor import service as monitor
from runyard_server.monitor.config import MonitorConfig
from runyard_server.rpc.monitor_peers import MonitorPeers
from runyard_server.rpc.service import Service
from runyard_server.rpc.siblings import Siblings
from tests.unit.metadata.desk import Desk
from tests.unit.metadata.edge import refusal, serve


async def test_a_beat_is_answered() -> None:
    """The answer says when to beat next and which runs are unknown; the liveness has what the beat told."""
    desk = Desk()

    def make(siblings: Siblings) -> Sequence[Service]:
        watching = monitor.build(
            MonitorConfig(),
            siblings=siblings,
            peers=MonitorPeers(siblings),
            clock=SystemClock(),
            address="127.0.0.1:1",
        )
        return [desk.service, watching]

    async with serve(make) as edge:
        stub = pb_grpc.MonitorServiceStub(edge.channel)
        started = await desk.start("x")
        beat = pb.Beat(
            run_key=started.run.run_key,
            writer=1,
            is_process_alive=True,
            last_step=3,
            records_written=9,
            records_durable=4,
        )
        answer = await stub.Heartbeat(
            pb.HeartbeatRequest(agent_id="a", beats=[beat, pb.Beat(run_key=77, writer=1)])
        )
        assert (list(answer.unknown_run_keys), answer.next_beat.seconds) == ([77], 2)
        paths = ["local/p/x", "local/p/none"]
        found = await stub.GetLiveness(pb.GetLivenessRequest(run_paths=paths))
        [liveness] = found.liveness
        assert (
            liveness.run_path,
            liveness.records_written,
            liveness.records_durable,
            liveness.crash_timeout.seconds,
        ) == ("local/p/x", 9, 4, 60)
        assert liveness.last_beat_time.seconds > 0
        assert (liveness.last_step, liveness.writers_beating) == (3, 1)
        writers = await stub.ListWriterLiveness(pb.ListWriterLivenessRequest(run_path="local/p/x"))
        [writer] = writers.writers
        assert (writer.writer, writer.last_step, writer.agent_id) == (1, 3, "a")
        assert (writers.median_step, writers.straggler_steps) == (3, 100)
        error = await refusal(
            stub.ListWriterLiveness(pb.ListWriterLivenessRequest(run_path="local/p/none"))
        )
        assert (NotFound, "RUN_NOT_FOUND") == (type(error), error.reason)
        error = await refusal(stub.Heartbeat(pb.HeartbeatRequest()))
        assert (InvalidArgument, "agent_id") == (type(error), error.metadata["field"])
