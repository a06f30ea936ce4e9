"""Makes the parts of a process out of its configuration; the only place that knows which store keeps which promise."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from runyard_server import telemetry
from runyard_server.domain.addresses import Address, parse_address
from runyard_server.domain.clock import Clock
from runyard_server.domain.errors import DomainError, StartRefused
from runyard_server.files import service as files
from runyard_server.files.archive import Archiver, ConsoleConfig
from runyard_server.gateway import service as gateway
from runyard_server.ingest import service as ingest
from runyard_server.metadata import service as metadata
from runyard_server.monitor import service as monitor
from runyard_server.monitor.config import MonitorConfig
from runyard_server.monitor.notify import Notifier, NotifyConfig
from runyard_server.process.config import ServerConfig
from runyard_server.process.data_folder import require_room
from runyard_server.process.http_edge import HttpEdge
from runyard_server.process.lifecycle import Assembly, LifecycleConfig, Resource
from runyard_server.process.local_s3 import LocalS3, LocalS3Config
from runyard_server.process.modules import order_modules
from runyard_server.query import service as query
from runyard_server.rpc.console_siblings import ConsoleSiblings
from runyard_server.rpc.interceptors import EdgeConfig
from runyard_server.rpc.listener import Listener, ListenerConfig
from runyard_server.rpc.monitor_peers import MonitorPeers
from runyard_server.rpc.ports import describe_holder
from runyard_server.rpc.service import Service
from runyard_server.rpc.siblings import Siblings, SiblingsConfig
from runyard_server.storage.archive.format import ArchiveFile
from runyard_server.storage.archive.layered import LayeredConsole
from runyard_server.storage.clickhouse.console_hot import (
    ClickHouseConsoleDropper,
    ClickHouseHotConsole,
)
from runyard_server.storage.clickhouse.engine import ClickHouse, ClickHouseConfig
from runyard_server.storage.clickhouse.media_read import ClickHouseMediaReader
from runyard_server.storage.clickhouse.points_read import ClickHousePointReader
from runyard_server.storage.clickhouse.points_write import ClickHousePointWriter
from runyard_server.storage.clickhouse.purge import (
    INDEX_TABLES,
    STREAM_TABLES,
    ClickHousePurger,
)
from runyard_server.storage.clickhouse.rollup import RollupConfig, build_rollup
from runyard_server.storage.clickhouse.runs import ClickHouseRunIndex
from runyard_server.storage.clickhouse.system_read import ClickHouseSystemReader
from runyard_server.storage.clickhouse.system_retention import SystemConfig, SystemRetention
from runyard_server.storage.parquet.store import ParquetTables, TablesConfig
from runyard_server.storage.s3 import S3BlobStore, S3Settings
from runyard_server.storage.sql.artifacts import SqlArtifactStore
from runyard_server.storage.sql.console_logs import SqlConsoleLogs
from runyard_server.storage.sql.database import Database, SqlConfig
from runyard_server.storage.sql.files import SqlFileStore
from runyard_server.storage.sql.run_store import SqlRunStore

log = logging.getLogger("runyard.process")

_READY_POLL_S: Final = 0.02
_PROBE_LIMIT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class SqlSection(SqlConfig):
    """Which SQL database is used, and how."""

    url: str = ""
    """postgresql+psycopg://user:password@host/database or sqlite:////path. Empty: SQLite in the data folder."""


@dataclass(frozen=True, slots=True)
class S3Section(S3Settings):
    """An S3 server that is there already; without one the process runs a local one of its own."""

    endpoint: str = ""
    """HOST:PORT. Empty: a local server in the data folder."""
    access_key: str = ""
    """Name of the credentials."""
    secret_key: str = ""
    """Their secret."""
    bucket: str = "runyard"
    """The bucket that holds all objects."""


@dataclass(frozen=True, slots=True)
class ClickHouseSection(ClickHouseConfig):
    """Which ClickHouse is used, and how."""

    url: str = ""
    """http(s)://user:password@host:port/database. Empty: an embedded one in the data folder."""


SECTIONS: Final[Mapping[str, type]] = {
    "lifecycle": LifecycleConfig,
    "listener": ListenerConfig,
    "edge": EdgeConfig,
    "siblings": SiblingsConfig,
    "clickhouse": ClickHouseSection,
    "sql": SqlSection,
    "s3": S3Section,
    "local_s3": LocalS3Config,
    "ingest": ingest.IngestConfig,
    "rollup": RollupConfig,
    "system": SystemConfig,
    "query": query.QueryConfig,
    "tables": TablesConfig,
    "metadata": metadata.MetadataConfig,
    "notify": NotifyConfig,
    "monitor": MonitorConfig,
    "files": files.FilesConfig,
    "console": ConsoleConfig,
    "gateway": gateway.GatewayConfig,
}


async def assemble(
    config: ServerConfig,
    *,
    folder: Path,
    clock: Clock,
    version: str,
    environment: Mapping[str, str],
) -> Assembly:
    """Returns all parts of the process, stores open, ports taken, nothing started; raises StartRefused.

    If it raises, what it had opened is closed again.
    """
    wiring = _Wiring(config, folder, clock, version, environment)
    try:
        await wiring.make()
    except BaseException:
        await wiring.close()
        raise
    return wiring.assembly


class _Wiring:
    """The parts made so far, by name."""

    def __init__(
        self,
        config: ServerConfig,
        folder: Path,
        clock: Clock,
        version: str,
        environment: Mapping[str, str],
    ) -> None:
        self._config = config
        self._folder = folder
        self._clock = clock
        self._version = version
        self._environment = environment
        self._modules = order_modules(config.targets)
        self._siblings = Siblings(config.section("siblings", SiblingsConfig), clock=clock)
        self._listener = Listener(
            config.section("listener", ListenerConfig),
            config.section("edge", EdgeConfig),
            clock=clock,
        )
        self._http: Address | None = None
        self._grpc: Address | None = None
        self._clickhouse: ClickHouse | None = None
        self._sql: Database | None = None
        self._blobs: S3BlobStore | None = None
        self._s3: S3Settings | None = None
        self._edge: HttpEdge | None = None
        self._names: dict[str, tuple[str, ...]] = {}
        self.assembly = Assembly()

    async def make(self) -> None:
        """Makes all parts: ports first, as they fail soonest, then stores at once, then services."""
        self._grpc = self._listener.bind(
            parse_address(self._config.process.grpc), is_explicit=self._is_set("process.grpc")
        )
        self._report_replaced("grpc", self._config.process.grpc, self._grpc)
        own = dict.fromkeys(self._config.targets, str(self._grpc))
        self._siblings.connect({**self._config.addresses.known(), **own})
        self._add(Resource("siblings", self._siblings.close))
        openers = {
            "clickhouse": self._open_clickhouse,
            "sql": self._open_sql,
            "blobs": self._open_blobs,
        }
        await self._open_all([opener for name, opener in openers.items() if name in self._modules])
        builders = self._builders()
        self.assembly.services = [
            await builders[name]() for name in self._modules if name in self._config.targets
        ]
        self._make_listeners()

    async def close(self) -> None:
        """Closes what is open; used when the rest could not be made."""
        if self._edge is not None:
            self._edge.close()
        for resource in reversed(self.assembly.resources):
            try:
                async with asyncio.timeout(
                    self._config.section("lifecycle", LifecycleConfig).close_limit_s
                ):
                    await resource.close()
            except (TimeoutError, OSError, RuntimeError, DomainError):
                log.warning(
                    telemetry.EVENT_STOP_TIMED_OUT, extra={"fields": {"part": resource.name}}
                )

    async def _open_all(self, openers: list[Callable[[], Awaitable[None]]]) -> None:
        """Opens the stores at the same time; all are settled when it returns or raises the first failure."""
        results = await asyncio.gather(*(opener() for opener in openers), return_exceptions=True)
        for result in results:
            if isinstance(result, DomainError):
                raise StartRefused(result.message) from result
            if isinstance(result, BaseException):
                raise result

    async def _open_clickhouse(self) -> None:
        config = self._config.section("clickhouse", ClickHouseSection)
        if config.url:
            store = await asyncio.to_thread(ClickHouse.open_server, config.url, config)
        else:
            require_room(self._folder)
            path = self._folder / "clickhouse"
            store = await asyncio.to_thread(ClickHouse.open_embedded, path, config)
        self._add(Resource("clickhouse", store.close))
        await store.migrate()
        self._clickhouse = store

    async def _open_sql(self) -> None:
        config: SqlConfig = self._config.section("sql", SqlSection)
        if not config.url:
            require_room(self._folder)
            config = replace(config, url=f"sqlite:///{self._folder / 'runyard.sqlite'}")
        database = Database(config, clock=self._clock)
        self._add(Resource("sql", database.stop))
        await database.start()
        self._sql = database

    async def _open_blobs(self) -> None:
        settings: S3Settings = self._config.section("s3", S3Section)
        reclaim: Callable[[], Awaitable[None]] | None = None
        if not settings.endpoint:
            require_room(self._folder)
            local = LocalS3(
                self._config.section("local_s3", LocalS3Config),
                self._folder / "s3",
                clock=self._clock,
                environment=self._environment,
            )
            self._add(Resource("local_s3", local.stop, local.run))
            await local.start()
            reclaim = local.reclaim
            access = local.access
            settings = replace(
                settings,
                endpoint=access.endpoint,
                access_key=access.access_key,
                secret_key=access.secret_key,
                bucket=access.bucket,
                region=access.region,
                is_secure=False,
            )
        blobs = S3BlobStore(settings, clock=self._clock, reclaim=reclaim)
        self._add(Resource("blobs", blobs.stop))
        await blobs.start()
        self._blobs, self._s3 = blobs, settings

    def _builders(self) -> dict[str, Callable[[], Awaitable[Service]]]:
        return {
            "ingest": self._build_ingest,
            "query": self._build_query,
            "metadata": self._build_metadata,
            "monitor": self._build_monitor,
            "files": self._build_files,
            "gateway": self._build_gateway,
        }

    async def _build_ingest(self) -> Service:
        # Stored buckets follow the points, so the task runs where these are written.
        rollup = build_rollup(
            self._config.section("rollup", RollupConfig),
            store=self._made_clickhouse(),
            clock=self._clock,
        )
        self._add(Resource("rollup", _nothing, rollup.run))
        purger = ClickHousePurger(self._made_clickhouse(), tables=STREAM_TABLES, clock=self._clock)
        retention = SystemRetention(
            self._config.section("system", SystemConfig),
            store=self._made_clickhouse(),
            clock=self._clock,
            lock=purger.lock,
        )
        self._add(Resource("system_retention", _nothing, retention.run))
        return ingest.build(
            self._config.section("ingest", ingest.IngestConfig),
            points=ClickHousePointWriter(self._made_clickhouse(), clock=self._clock),
            purger=purger,
            dropper=ClickHouseConsoleDropper(self._made_clickhouse(), lock=purger.lock),
            siblings=self._siblings,
            clock=self._clock,
        )

    async def _build_query(self) -> Service:
        store = self._made_clickhouse()
        tables = ParquetTables(
            self._folder / "tables", self._config.section("tables", TablesConfig)
        )
        self._add(Resource("tables", tables.close))
        return query.build(
            self._config.section("query", query.QueryConfig),
            points=ClickHousePointReader(store),
            console=LayeredConsole(ClickHouseHotConsole(store), ConsoleSiblings(self._siblings)),
            system=ClickHouseSystemReader(store),
            system_keep_days=self._config.section("system", SystemConfig).keep_days,
            media=ClickHouseMediaReader(store),
            tables=tables,
            runs=ClickHouseRunIndex(store),
            siblings=self._siblings,
            clock=self._clock,
        )

    async def _build_metadata(self) -> Service:
        return metadata.build(
            self._config.section("metadata", metadata.MetadataConfig),
            runs=SqlRunStore(self._made_sql()),
            index=ClickHouseRunIndex(self._made_clickhouse()),
            clock=self._clock,
            steps=self._siblings,
            index_purger=ClickHousePurger(
                self._made_clickhouse(), tables=INDEX_TABLES, clock=self._clock
            ),
            data=self._siblings,
        )

    async def _build_monitor(self) -> Service:
        notifier = Notifier(
            self._config.section("notify", NotifyConfig),
            source=self._siblings,
            clock=self._clock,
            base_url=lambda: f"http://{self._http}",
            version=self._version,
        )
        self._add(Resource("notify", _nothing, notifier.run))
        return monitor.build(
            self._config.section("monitor", MonitorConfig),
            siblings=self._siblings,
            peers=MonitorPeers(self._siblings),
            clock=self._clock,
            address=str(self._grpc),
        )

    async def _build_files(self) -> Service:
        assert self._blobs is not None, "the table of modules lacks a need of blobs"
        store = SqlFileStore(self._made_sql())
        archiver = Archiver(
            self._config.section("console", ConsoleConfig),
            logs=SqlConsoleLogs(self._made_sql()),
            files=store,
            blobs=self._blobs,
            source=ConsoleSiblings(self._siblings),
            draft=ArchiveFile,
            clock=self._clock,
        )
        return files.build(
            self._config.section("files", files.FilesConfig),
            artifacts=SqlArtifactStore(self._made_sql()),
            files=store,
            blobs=self._blobs,
            siblings=self._siblings,
            clock=self._clock,
            archiver=archiver,
        )

    async def _build_gateway(self) -> Service:
        return gateway.build(
            self._config.section("gateway", gateway.GatewayConfig),
            siblings=self._siblings,
            clock=self._clock,
            version=self._version,
            grpc_address=lambda: str(self._grpc),
        )

    def _make_listeners(self) -> None:
        found = next((s for s in self.assembly.services if isinstance(s, gateway.Gateway)), None)
        edge = HttpEdge(
            clock=self._clock,
            parts=[service.name for service in self.assembly.services],
            effective_config=lambda: dict(self._config.effective),
            addresses=lambda: {"http": str(self._http), "grpc": str(self._grpc)},
            gateway=found.answer if found is not None else None,
            blob_origins=self._blob_origins(),
        )
        self._edge = edge
        self._http = edge.bind(
            parse_address(self._config.process.http), is_explicit=self._is_set("process.http")
        )
        self._report_replaced("http", self._config.process.http, self._http)
        self.assembly.listeners = [edge, self._listener]
        self.assembly.register = self._register
        self.assembly.on_ready = self._announce

    def _register(self, services: Any) -> None:
        self._names = self._listener.register(services)

    async def _announce(self) -> None:
        """Waits until each service answers over its listener, then says so on standard output, in one line."""
        assert self._edge is not None
        for service in self.assembly.services:
            for full_name in self._names[service.name]:
                await self._wait_healthy(service.name, full_name)
            self._edge.set_ready(service.name)
        print(f"ready http={self._http} grpc={self._grpc}", flush=True)
        fields = {
            "http": f"http://{self._http}",
            "grpc": str(self._grpc),
            "data_dir": str(self._folder),
        }
        log.info(telemetry.EVENT_PROCESS_READY, extra={"fields": fields})

    async def _wait_healthy(self, service: str, full_name: str) -> None:
        while True:
            if await self._siblings.check_health(service, full_name, timeout_s=_PROBE_LIMIT_S):
                return
            await asyncio.sleep(_READY_POLL_S)

    def _blob_origins(self) -> tuple[str, ...]:
        # A gateway apart opens no store, but its pages show files of the one that is named.
        settings = self._s3 or self._config.section("s3", S3Section)
        if not settings.endpoint:
            return ()
        is_secure = settings.public_is_secure
        scheme = "https" if (settings.is_secure if is_secure is None else is_secure) else "http"
        return (f"{scheme}://{settings.public_endpoint or settings.endpoint}",)

    def _report_replaced(self, kind: str, asked: str, got: Address) -> None:
        wanted = parse_address(asked)
        if wanted.port not in (0, got.port):
            fields = {
                "kind": kind,
                "asked": asked,
                "got": str(got),
                "holder": describe_holder(wanted.port),
            }
            log.warning(telemetry.EVENT_PORT_REPLACED, extra={"fields": fields})

    def _made_clickhouse(self) -> ClickHouse:
        assert self._clickhouse is not None, "the table of modules lacks a need of clickhouse"
        return self._clickhouse

    def _made_sql(self) -> Database:
        assert self._sql is not None, "the table of modules lacks a need of sql"
        return self._sql

    def _is_set(self, key: str) -> bool:
        return key in self._config.explicit_keys

    def _add(self, resource: Resource) -> None:
        self.assembly.resources.append(resource)


async def _nothing() -> None:
    """Closes nothing: the part has background work only."""
