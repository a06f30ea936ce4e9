"""Agents of the simulated world: the production agent, over the simulated disk and network."""

from __future__ import annotations

from collections.abc import Sequence

from runyard.agent.agent import Agent
from runyard.agent.budget import Budget
from runyard.agent.heartbeat import Heart
from runyard.agent.ports import Batch, Beat, BeatAnswer, FilePart, Rejection
from runyard.agent.retry import Reach, Repeater
from runyard.agent.transport import CALL_TIMEOUT_S, ServerTransport
from runyard.agent.uploader import IN_FLIGHT_COUNT_MAX
from runyard.agent.world import Server, World
from runyard.errors import Error
from tests.simulation.checker import Violation
from tests.simulation.disk import Disk
from tests.simulation.servers import Servers
from tests.simulation.world import Chance, Node, WorldClock

BASE_URL = "http://sim"


class SimulatedTransport(ServerTransport):
    """The production transport with its messages, over the simulated network in place of HTTP and gRPC."""

    def __init__(self, node: Node, servers: Servers) -> None:
        super().__init__(BASE_URL, api_key="")
        self._node = node
        self._servers = servers
        self._writes: dict[tuple[int, int, str], int] = {}

    async def write_batch(self, batch: Batch) -> Sequence[Rejection]:
        """Sends a batch, and counts those of its journal in flight (I7)."""
        writer = (batch.run_key, batch.writer, batch.journal)
        self._writes[writer] = self._writes.get(writer, 0) + 1
        if self._writes[writer] > IN_FLIGHT_COUNT_MAX:
            self._servers.violations.append(
                Violation(f"I7: {self._writes[writer]} batches of {writer} are in flight")
            )
        try:
            return await super().write_batch(batch)
        finally:
            self._writes[writer] -= 1

    async def heartbeat(self, agent_id: str, beats: Sequence[Beat]) -> BeatAnswer:
        """Is answered by nobody's monitor: it has a simulation of its own."""
        return BeatAnswer(next_beat_s=5.0, unknown_run_keys=(), stop_orders=())

    async def put_part(self, url: str, part: FilePart) -> str:
        """There are no files in this world."""
        raise AssertionError(f"no files in this world: {url} {part}")

    async def put_parts(
        self, jobs: Sequence[tuple[str, FilePart]]
    ) -> Sequence[str | Error | OSError]:
        """There are no files in this world."""
        raise AssertionError(f"no files in this world: {jobs}")

    async def _call(
        self, method: str, request: bytes, *, timeout_s: float = CALL_TIMEOUT_S
    ) -> bytes:
        self._node.check()
        reply = await self._servers.call(method, request, timeout_s=timeout_s)
        self._node.check()
        return reply


class AgentNode(Node):
    """One life of an agent; its disk and its clock are the machine's."""

    def __init__(
        self, name: str, *, root: str, disk: Disk, servers: Servers, clock: WorldClock
    ) -> None:
        super().__init__(name)
        self._root = root
        self._disk = disk
        self._servers = servers
        self._clock = clock

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
