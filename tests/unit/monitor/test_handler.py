"""MonitorService over real gRPC, with metadata as its sibling."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from runyard_protos.metadata.v1 import metadata_pb2
from runyard_protos.metadata.v1.metadata_pb2_grpc import MetadataServiceStub
from runyard_protos.monitor.v1 import monitor_pb2 as pb
from runyard_protos.monitor.v1 import monitor_pb2_grpc as pb_grpc
from runyard_server.domain.clock import SystemClock
from runyard_server.domain.errors import InvalidArgument, NotFound
from runyard_server.domain.events import RunEventKind
from runyard_server.monitor import service as monitor
from runyard_server.monitor.config import MonitorConfig
from runyard_server.monitor.service import MonitorService
from runyard_server.rpc.monitor_peers import MonitorPeers
from runyard_server.rpc.service import Service
from runyard_server.rpc.siblings import Siblings
from tests.unit.metadata.desk import Desk
from tests.unit.metadata.edge import refusal, serve


def watch(desk: Desk, watching: list[MonitorService]) -> Callable[[Siblings], Sequence[Service]]:
    """Returns what makes metadata and a monitor that asks it; the monitor is put into `watching`."""

    def make(siblings: Siblings) -> Sequence[Service]:
        made = monitor.build(
            MonitorConfig(),
            siblings=siblings,
            peers=MonitorPeers(siblings),
            clock=SystemClock(),
            address="127.0.0.1:1",
        )
        watching.append(made)
        return [desk.service, made]

    return make


async def test_a_stop_reaches_the_agent() -> None:
    """What RequestStop said is in the answer to the next beat of the run, whole, until the run has ended."""
    desk, watching = Desk(), list[MonitorService]()
    async with serve(watch(desk, watching)) as edge:
        stub = pb_grpc.MonitorServiceStub(edge.channel)
        started = await desk.start("x")
        beats = [pb.Beat(run_key=started.run.run_key, writer=1, is_process_alive=True)]
        request = pb.HeartbeatRequest(agent_id="a", beats=beats)
        assert not (await stub.Heartbeat(request)).stop_orders
        wish = metadata_pb2.RequestStopRequest(
            run_path="local/p/x", may_kill=True, reason="too slow", requested_by="ann"
        )
        wish.grace.FromSeconds(30)
        await MetadataServiceStub(edge.channel).RequestStop(wish)
        await watching[0].stops.poll()
        [order] = (await stub.Heartbeat(request)).stop_orders
        assert (order.run_key, order.requested_by, order.grace.seconds, order.may_kill) == (
            started.run.run_key, "ann", 30, True,
        )  # fmt: skip
        assert (order.reason, order.request_time.seconds) == (
            "too slow",
            desk.clock.unix_ns // 10**9,
        )
        await desk.finish(started, exit_code=0)
        await watching[0].stops.poll()
        assert not (await stub.Heartbeat(request)).stop_orders


async def test_metadata_takes_what_the_monitor_sees() -> None:
    """Events and the question for open writers, over real gRPC: a stall is flagged once, an ended writer is not open."""
    desk = Desk()
    async with serve(watch(desk, [])) as edge:
        first = await desk.start("x", writer_label="rank0")
        second = await desk.start("x", writer_label="rank1")
        key = first.run.run_key
        for is_news in (True, False):
            assert is_news == await edge.siblings.record_run_event(
                key,
                kind=RunEventKind.STALLED,
                evidence="no new step",
                actor="monitor",
                attempt_count=2,
                since_unix_ns=desk.clock.unix_ns,
            )
        assert (await desk.read(first)).stalled_since_unix_ns == desk.clock.unix_ns
        [live] = await edge.siblings.list_live_runs()
        assert live.stalled_since_unix_ns == desk.clock.unix_ns
        assert await edge.siblings.list_open_writers(key) == {1, 2}
        await desk.finish(second, exit_code=0)
        assert await edge.siblings.list_open_writers(key) == {1}


async def test_a_beat_is_answered() -> None:
    """The answer says when to beat next and which runs are unknown; the liveness has what the beat told."""
    desk = Desk()
    async with serve(watch(desk, [])) as edge:
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
