"""Agents of the simulated world: the production agent, over the simulated disk and network."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from runyard.agent.agent import Agent
from runyard.agent.budget import Budget
from runyard.agent.heartbeat import Heart
from runyard.agent.ports import (
    Batch,
    Beat,
    BeatAnswer,
    Change,
    Ending,
    FileDigest,
    FilePart,
    Rejection,
    StartedRun,
    UploadPlan,
)
from runyard.agent.retry import Reach, Repeater
from runyard.agent.run import Server, World
from runyard_protos.errors.v1 import errors_pb2
from runyard_protos.ingest.v1 import ingest_pb2
from runyard_protos.metadata.v1 import metadata_pb2
from tests.simulation.servers import Servers
from tests.simulation.world import Chance, Disk, Node, WorldClock

T = TypeVar("T")
BASE_URL = "http://sim"


class SimulatedTransport:
    """Calls to the simulated servers, in their messages, packed and unpacked (runyard.agent.ports.Transport)."""

    def __init__(self, node: Node, servers: Servers) -> None:
        self._node = node
        self._servers = servers

    async def start_run(self, start: Mapping[str, Any]) -> StartedRun:
        request = metadata_pb2.StartRunRequest(
            request_id=start["request_id"],
            entity=start["entity"],
            project=start["project"],
            run_id=start["run_id"],
            config_json=json.dumps(start["config"]),
        )
        reply = await self._metadata(lambda handler: handler.StartRun(request, None))
        return StartedRun(
            path=reply.run.path,
            run_key=reply.run.run_key,
            writer=reply.writer,
            attempt=reply.attempt,
            display_name=reply.run.display_name,
            is_resumed=reply.is_resumed,
        )

    async def last_step(self, run_path: str) -> int | None:
        return None

    async def read_summary(self, run_path: str) -> str:
        return "{}"

    async def write_batch(self, batch: Batch) -> Sequence[Rejection]:
        wire = encode_batch(batch).SerializeToString()

        async def write(node: Any) -> ingest_pb2.WriteBatchResponse:
            # Each copy of a request is unpacked anew, as it would be.
            request = ingest_pb2.WriteBatchRequest.FromString(wire)
            reply: ingest_pb2.WriteBatchResponse = await node.handler.WriteBatch(request, None)
            return reply

        self._node.check()
        reply = await self._servers.call(self._servers.any_ingest, write)
        self._node.check()
        return [
            Rejection(r.metric, errors_pb2.ErrorReason.Name(r.reason), r.message, r.points)
            for r in reply.rejections
        ]

    async def apply_changes(self, run_key: int, writer: int, changes: Sequence[Change]) -> None:
        request = metadata_pb2.ApplyRunChangesRequest(run_key=run_key, writer=writer)
        for change in changes:
            config = change.content.get("config_set")
            request.changes.add(
                sequence=change.sequence, config_set_json=json.dumps(config) if config else ""
            )
        await self._metadata(lambda handler: handler.ApplyRunChanges(request, None))

    async def finish_run(self, run_key: int, writer: int, ending: Ending) -> None:
        request = metadata_pb2.FinishRunRequest(
            run_key=run_key,
            writer=writer,
            last_sequence=ending.last_sequence,
            records_refused=ending.records_refused,
            exit_code=ending.exit_code,
            cause=metadata_pb2.TransitionCause.Value(f"TRANSITION_CAUSE_{ending.cause}"),
            evidence=ending.evidence,
        )
        await self._metadata(lambda handler: handler.FinishRun(request, None))

    async def record_stop_stage(self, run_key: int, writer: int, stage: str, evidence: str) -> None:
        raise AssertionError("nobody asks for a stop in this world")

    async def heartbeat(self, agent_id: str, beats: Sequence[Beat]) -> BeatAnswer:
        return BeatAnswer(next_beat_s=5.0, unknown_run_keys=(), stop_orders=())

    async def create_upload(self, run_path: str, name: str, digest: FileDigest) -> UploadPlan:
        raise AssertionError("no files in this world")

    async def put_part(self, url: str, part: FilePart) -> str:
        raise AssertionError("no files in this world")

    async def complete_upload(self, upload_id: str, part_etags: Sequence[str]) -> None:
        raise AssertionError("no files in this world")

    async def close(self) -> None:
        pass

    async def _metadata(self, ask: Callable[[Any], Awaitable[T]]) -> T:
        self._node.check()
        reply = await self._servers.call(
            lambda: self._servers.metadata, lambda node: ask(node.handler)
        )
        self._node.check()
        return reply


def encode_batch(batch: Batch) -> ingest_pb2.WriteBatchRequest:
    """Returns the message of a batch."""
    request = ingest_pb2.WriteBatchRequest(
        run_key=batch.run_key,
        writer=batch.writer,
        first_sequence=batch.first_sequence,
        last_sequence=batch.last_sequence,
    )
    positions: dict[str, int] = {}
    for table in batch.tables:
        message = request.tables.add()
        for name in table.names:
            message.metric_indexes.append(positions.setdefault(name, len(positions)))
        message.steps.extend(memoryview(table.steps_bytes()).cast("q"))
        message.times_unix_ns.extend(memoryview(table.times_bytes()).cast("q"))
        message.sequences.extend(memoryview(table.sequences_bytes()).cast("Q"))
        message.values.extend(memoryview(table.values_bytes()).cast("d"))
    request.metric_names.extend(positions)
    for change in batch.summary_changes:
        request.summary_changes.add(
            sequence=change.sequence, key=change.key, value_json=change.value_json
        )
    return request


class AgentNode(Node):
    """One life of an agent; its disk is the machine's."""

    def __init__(self, name: str, *, root: str, disk: Disk, servers: Servers) -> None:
        super().__init__(name)
        self._root = root
        self._disk = disk
        self._servers = servers
        self._clock = WorldClock(servers.chance)

    async def run(self) -> None:
        """Returns when the agent ends by itself, having nothing to do."""
        chance = self._servers.chance
        world = World(
            disk=self._disk,
            budget=Budget(chance.between(1, 64) * 1024),
            time_unix_ns=self._clock.now_unix_ns,
        )
        agent = Agent(
            self._root,
            base_url=BASE_URL,
            world=world,
            make_server=lambda base_url: self._server(base_url, chance),
            idle_exit_s=chance.between(1, 30),
        )
        try:
            await agent.run()
        finally:
            await agent.stop()

    def _server(self, base_url: str, chance: Chance) -> Server:
        transport = SimulatedTransport(self, self._servers)
        reach = Reach(self._clock.monotonic_s)
        return Server(
            base_url=base_url,
            transport=transport,
            reach=reach,
            repeater=Repeater(reach, draw=chance.random.random),
            heart=Heart(transport, reach, agent_id=self.name),
        )
