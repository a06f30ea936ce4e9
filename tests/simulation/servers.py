"""The server side of the simulated world: ingest nodes over one store, metadata, and the network with its faults."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message_factory import GetMessageClass

from runyard import errors as client_errors
from runyard_protos.ingest.v1 import ingest_pb2
from runyard_protos.metadata.v1 import metadata_pb2
from runyard_protos.query.v1 import query_pb2
from runyard_server.domain import errors as domain_errors
from runyard_server.domain.points import Journal, UInt64Column
from runyard_server.domain.projects import Project
from runyard_server.domain.purges import StoreFreed, TablePurge
from runyard_server.domain.run import RunDocument, RunKey
from runyard_server.domain.tables import TableFile
from runyard_server.domain.writers import Writer
from runyard_server.ingest.handler import IngestHandler
from runyard_server.ingest.service import IngestConfig, IngestService, build_pipeline
from runyard_server.metadata.handler import MetadataHandler
from runyard_server.metadata.purger import PurgerConfig
from runyard_server.metadata.service import MetadataConfig, MetadataService
from runyard_server.query.handler import QueryHandler
from runyard_server.query.service import QueryConfig, QueryService
from runyard_server.storage.archive.layered import LayeredConsole
from runyard_server.storage.memory.points import MemoryPoints
from runyard_server.storage.memory.runs import MemoryRunIndex
from runyard_server.storage.memory.tables import MemoryTables
from runyard_server.storage.ports.points import BlockEntry
from tests.contract.archives import NoArchives
from tests.simulation.lineage import NotingRunStore
from tests.simulation.world import Chance, Node, WorldClock, check_caller

INGEST_TIMEOUT_S = 10.0
PURGE_LEASE_S = 30.0
"""How long a purge is left alone whose metadata died."""
METHODS = {
    f"/{service.full_name}/{method.name}": method
    for module in (metadata_pb2, ingest_pb2, query_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


@dataclass
class Faults:
    """How often what goes wrong; all zero once the world heals."""

    request_lost: float = 0.0
    reply_lost: float = 0.0
    sent_twice: float = 0.0
    """The second copy comes at once or much later, behind what was sent after it."""
    insert_refused: float = 0.0
    insert_hangs: float = 0.0
    insert_done_but_failed: float = 0.0
    insert_partial: float = 0.0
    delay_mean_s: float = 0.005

    @classmethod
    def draw(cls, chance: Chance) -> Faults:
        """Returns faults of every kind, each drawn on its own, so that worlds differ in character."""

        def often() -> float:
            return chance.random.choice((0.0, 0.02, 0.1, 0.3))

        return cls(
            request_lost=often(),
            reply_lost=often(),
            sent_twice=often(),
            insert_refused=often(),
            insert_hangs=often() / 3,
            insert_done_but_failed=often(),
            insert_partial=often(),
            delay_mean_s=chance.random.choice((0.001, 0.02, 0.5)),
        )

    def heal(self) -> None:
        """Takes all faults away."""
        self.__dict__.update(Faults().__dict__)


class Durable:
    """The sequences of each writer that some inserted block held, noted beside the store: what I4 is asked of."""

    def __init__(self) -> None:
        self._sequences: dict[tuple[RunKey, int, Journal], set[int]] = {}

    def note(self, entries: Sequence[BlockEntry]) -> None:
        """Takes what was inserted."""
        for entry in entries:
            batch = entry.batch
            held = self._sequences.setdefault((batch.run_key, batch.writer, batch.journal), set())
            held.update(range(batch.first_sequence, batch.last_sequence + 1))

    def of(self, run_key: RunKey, writer: int, journal: Journal = Journal.RUN) -> set[int]:
        """Returns the sequences of a writer's journal."""
        return self._sequences.get((run_key, writer, journal), set())


class FaultyPoints:
    """One node's way to the store: refuses, hangs, fails after doing, does half; see PointWriter for what it may."""

    def __init__(self, servers: Servers) -> None:
        self._store = servers.points
        self._durable = servers.durable
        self._faults = servers.faults
        self._chance = servers.chance

    async def insert_block(self, entries: Sequence[BlockEntry]) -> None:
        await self._pass(self._faults.insert_refused)
        if self._chance.hits(self._faults.insert_partial):
            # Points may be there before their receipts, and some batches before others.
            await self._insert(entries[: self._chance.between(0, len(entries))])
            raise _store_unavailable("died in the middle of the block")
        if self._chance.hits(self._faults.insert_done_but_failed):
            await self._insert(entries)
            raise _store_unavailable("the answer was lost")
        if self._chance.hits(self._faults.insert_hangs):
            is_done = self._chance.hits(0.5)
            if is_done:
                await self._insert(entries)
            await asyncio.sleep(self._chance.delay_s(60.0))
            raise _store_unavailable("hung")
        await self._insert(entries)
        # The caller may die here: stored, and nobody told.
        await asyncio.sleep(self._chance.delay_s(self._faults.delay_mean_s))
        check_caller()

    async def read_metric_ids(
        self, run_key: RunKey, *, limit: int, journal: Journal = Journal.RUN
    ) -> UInt64Column:
        await self._pass(self._faults.insert_refused)
        return await self._store.read_metric_ids(run_key, limit=limit, journal=journal)

    async def read_media_ids(self, run_key: RunKey, *, limit: int) -> UInt64Column:
        await self._pass(self._faults.insert_refused)
        return await self._store.read_media_ids(run_key, limit=limit)

    async def _insert(self, entries: Sequence[BlockEntry]) -> None:
        await self._store.insert_block(entries)
        self._durable.note(entries)

    async def _pass(self, refusal: float) -> None:
        check_caller()
        await asyncio.sleep(self._chance.delay_s(self._faults.delay_mean_s))
        check_caller()
        if self._chance.hits(refusal):
            raise _store_unavailable("refuses")


class MetadataNode(Node):
    """Metadata over a store that outlives it."""

    def __init__(self, servers: Servers) -> None:
        super().__init__("metadata")
        self.service = MetadataService(
            MetadataConfig(purger=PurgerConfig(lease_s=PURGE_LEASE_S)),
            index_purger=servers.index,
            data=servers,
            runs=servers.runs,
            index=servers.index,
            clock=servers.clock,
            steps=servers,
        )
        self.handler = MetadataHandler(self.service)

    def start(self) -> None:
        """Starts to publish documents and to purge deleted runs."""
        self.spawn(self.service.run())


class QueryNode(Node):
    """Query over the stores; it keeps nothing, and so is not killed."""

    def __init__(self, servers: Servers) -> None:
        super().__init__("query")
        self.service = QueryService(
            QueryConfig(),
            points=servers.points,
            console=LayeredConsole(servers.points.console, NoArchives()),
            system=servers.points.system,
            media=servers.points.media,
            tables=MemoryTables(),
            runs=servers.index,
            siblings=servers,
            clock=servers.clock,
        )
        self.handler = QueryHandler(self.service)


class IngestNode(Node):
    """One process of ingest: the production pipeline with limits so small that their edges are met."""

    def __init__(self, name: str, world: Servers) -> None:
        super().__init__(name)
        chance = world.chance
        self.queue_bytes_max = chance.between(1, 64) * 1024
        config = IngestConfig(
            block_rows_max=chance.between(1, 400),
            block_bytes_max=chance.between(1, 16) * 1024,
            queue_bytes_max=self.queue_bytes_max,
            inserts_max=chance.between(1, 3),
            durable_batches_max=chance.between(1, 64),
            metric_ids_max=chance.between(1, 64),
            runs_max=chance.between(1, 4),
            run_fresh_s=chance.random.choice((0.1, 30.0)),
            deadline_default_s=INGEST_TIMEOUT_S,
        )
        self.clock = WorldClock(chance)
        points = FaultyPoints(world)
        self.pipeline = build_pipeline(config, points=points, siblings=world, clock=self.clock)
        self.service = IngestService(
            self.pipeline,
            config=config,
            siblings=world,
            purger=world.points,
            dropper=world.points.console,
            clock=self.clock,
        )
        self.handler = IngestHandler(
            self.pipeline,
            self.service,
            dropper=world.points.console,
            deadline_default_s=config.deadline_default_s,
            clock=self.clock,
        )

    def start(self) -> None:
        """Starts the pipeline's background work."""
        self.spawn(self.pipeline.run())


class Servers:
    """All server nodes, and the calls to them."""

    def __init__(self, chance: Chance, *, ingest_count: int) -> None:
        self.chance = chance
        self.faults = Faults()
        self.points = MemoryPoints()
        self.durable = Durable()
        self.runs = NotingRunStore()
        self.index = MemoryRunIndex()
        self.clock = WorldClock(chance)
        self.metadata = MetadataNode(self)
        self.ingest_nodes = [IngestNode(f"ingest{n}", self) for n in range(ingest_count)]
        self.query = QueryNode(self)
        self.writers: dict[str, Writer] = {}
        """Writers that the checker has seen, by request id; purges take them from metadata."""
        self.request_bytes_max = 0
        """The largest request so far."""
        self._cut_off_until_s = 0.0
        self.trace: list[str] = []
        self.violations: list[BaseException] = []
        """What was seen not to hold while the story went on; the code under test may survive what is raised into it."""

    def start(self) -> None:
        """Starts all nodes."""
        self.metadata.start()
        for node in self.ingest_nodes:
            node.start()

    def restart_ingest(self, position: int) -> None:
        """Kills an ingest node, if it lives, and starts another in its place, with other limits."""
        self.ingest_nodes[position].kill()
        self.ingest_nodes[position] = IngestNode(self.ingest_nodes[position].name, self)
        self.ingest_nodes[position].start()

    def restart_metadata(self) -> None:
        """Kills metadata and starts another over the same store."""
        self.metadata.kill()
        self.metadata = MetadataNode(self)
        self.metadata.start()

    def cut_metadata_off(self, duration_s: float) -> None:
        """Makes metadata unreachable for ingest, while agents reach both: writers start whom ingest cannot ask about."""
        self._cut_off_until_s = asyncio.get_running_loop().time() + duration_s

    async def get_run(
        self, *, path: str | None = None, run_key: RunKey | None = None
    ) -> RunDocument:
        """Returns a run document, as ingest asks metadata for it (rpc.siblings)."""
        await asyncio.sleep(self.chance.delay_s(self.faults.delay_mean_s))
        check_caller()
        is_away = asyncio.get_running_loop().time() < self._cut_off_until_s
        if is_away or not self.metadata.is_alive or self.chance.hits(self.faults.request_lost):
            raise domain_errors.Unavailable("SERVICE_UNAVAILABLE", "metadata does not answer")
        return await self.metadata.service.get_run(path=path, run_key=run_key)

    async def get_project(self, path: str) -> Project:
        """Returns a project, as query asks metadata for it."""
        return await self.metadata.service.get_project(path)

    async def purge_points(self, run_keys: Sequence[RunKey]) -> list[TablePurge]:
        """Has any ingest node remove what runs streamed, as metadata asks for it."""
        await asyncio.sleep(self.chance.delay_s(self.faults.delay_mean_s))
        check_caller()
        node = self.chance.random.choice(self.ingest_nodes)
        if not node.is_alive or self.chance.hits(self.faults.request_lost):
            raise domain_errors.Unavailable("SERVICE_UNAVAILABLE", "ingest does not answer")
        tables = await node.service.purge_runs(run_keys)
        check_caller()
        if self.chance.hits(self.faults.reply_lost):
            raise domain_errors.Unavailable("SERVICE_UNAVAILABLE", "ingest's answer was lost")
        return tables

    async def purge_files(self, run_keys: Sequence[RunKey]) -> list[StoreFreed]:
        """Says that there are no files in this world."""
        return [StoreFreed("objects") for _ in run_keys]

    async def list_writers(self, run_key: RunKey) -> list[Writer]:
        """Returns the writers of a run, as query asks metadata for them."""
        if not self.metadata.is_alive:
            raise domain_errors.Unavailable("SERVICE_UNAVAILABLE", "metadata does not answer")
        writers, _ = await self.metadata.service.list_writers(
            path=None, run_key=run_key, page_size=10_000, page_token=""
        )
        return writers

    async def written_records(self, run_path: str) -> dict[int, int]:
        """Says that no monitor answers: it has a simulation of its own."""
        raise domain_errors.Unavailable("SERVICE_UNAVAILABLE", "monitor does not answer")

    async def get_file(self, run_path: str, name: str) -> TableFile:
        """Says that there are no files here."""
        raise domain_errors.NotFound("FILE_NOT_FOUND", f"{run_path} has no file {name}")

    async def last_step(self, path: str) -> int | None:
        """Returns how far a run has come, as metadata asks query for it (rpc.siblings)."""
        await asyncio.sleep(self.chance.delay_s(self.faults.delay_mean_s))
        check_caller()
        if self.chance.hits(self.faults.request_lost):
            raise domain_errors.Unavailable("SERVICE_UNAVAILABLE", "query does not answer")
        return (await self.query.service.read_receipt(path)).last_step

    async def call(self, method: str, request: bytes, *, timeout_s: float) -> bytes:
        """Returns the reply, through a network that loses, delays, repeats and reorders; raises client errors."""
        name = method.rsplit("/", 1)[1]
        try:
            reply = await self._call(method, request, timeout_s)
        except client_errors.Error as error:
            self.note(f"{name} {type(error).__name__} {error.message}")
            raise
        self.note(f"{name} {reply.hex()[:100]}")
        return reply

    def note(self, event: str) -> None:
        """Writes down what happened when: the trace that a seed gives."""
        self.trace.append(f"{asyncio.get_running_loop().time():.9f} {event}")

    async def _call(self, method: str, request: bytes, timeout_s: float) -> bytes:
        faults, chance = self.faults, self.chance
        await asyncio.sleep(chance.delay_s(faults.delay_mean_s))
        if chance.hits(faults.request_lost):
            await asyncio.sleep(timeout_s)
            raise client_errors.Unavailable("no answer in time", reason="TIMED_OUT")
        self.request_bytes_max = max(self.request_bytes_max, len(request))
        node = self._node_of(method)
        if not node.is_alive:
            raise client_errors.Unavailable("connection refused", reason="UNREACHABLE")
        work = node.spawn(_answer(node, method, request))
        work.add_done_callback(_retrieve)
        if chance.hits(faults.sent_twice):
            self._send_late(method, request)
        try:
            async with asyncio.timeout(timeout_s):
                reply = await asyncio.shield(work)
        except TimeoutError:
            raise client_errors.Unavailable("no answer in time", reason="TIMED_OUT") from None
        except domain_errors.DomainError as error:
            raise _client_error(error) from error
        except BaseException:
            # The node died under the call; whether the caller did, its own ports will tell.
            if node in self._living():
                raise
            check_caller()
            raise client_errors.Unavailable("connection reset", reason="UNREACHABLE") from None
        if chance.hits(faults.reply_lost):
            await asyncio.sleep(timeout_s)
            raise client_errors.Unavailable("no answer in time", reason="TIMED_OUT")
        await asyncio.sleep(chance.delay_s(faults.delay_mean_s))
        return reply

    def _send_late(self, method: str, request: bytes) -> None:
        """Delivers a further copy of a request, at once or much later, to whoever serves it then."""
        delay_s = self.chance.random.choice((0.0, self.chance.delay_s(5.0)))

        def deliver() -> None:
            node = self._node_of(method)
            if node.is_alive:
                node.spawn(_answer(node, method, request)).add_done_callback(_retrieve)

        # Of no node: the network brings it even when the sender is dead.
        asyncio.get_running_loop().call_later(delay_s, deliver, context=contextvars.Context())

    def _node_of(self, method: str) -> Node:
        if method not in METHODS:
            raise AssertionError(f"nobody serves {method} in this world")
        service = METHODS[method].containing_service.name
        if service == "IngestService":
            return self.any_ingest()
        return self.metadata if service == "MetadataService" else self.query

    def _living(self) -> list[Node]:
        return [node for node in (self.metadata, self.query, *self.ingest_nodes) if node.is_alive]

    def any_ingest(self) -> Node:
        """Returns an ingest node, as a load balancer would: any."""
        return self.chance.random.choice(self.ingest_nodes)


async def _answer(node: Any, method: str, request: bytes) -> bytes:
    """Returns a node's answer to a request; each copy is unpacked anew, as it would be."""
    described = METHODS[method]
    message = GetMessageClass(described.input_type).FromString(request)
    reply = await getattr(node.handler, described.name)(message, None)
    return bytes(reply.SerializeToString())


def _retrieve(work: asyncio.Task[Any]) -> None:
    """Looks at the outcome: a second copy of a request, or one given up, has nobody who listens."""
    if not work.cancelled():
        work.exception()


def _client_error(error: domain_errors.DomainError) -> client_errors.Error:
    """Returns what the client makes of a status; see rpc/errors.py and runyard.errors."""
    name = type(error).__name__
    kind = getattr(client_errors, "Unavailable" if name == "DeadlineExceeded" else name)
    made = kind(
        error.message,
        reason=error.reason,
        metadata=error.metadata,
        retry_delay_s=error.retry_delay_s,
    )
    assert isinstance(made, client_errors.Error)
    return made


def _store_unavailable(problem: str) -> domain_errors.Unavailable:
    return domain_errors.Unavailable(
        "STORE_UNAVAILABLE", f"the store {problem}", metadata={"store": "points"}, retry_delay_s=0.5
    )
