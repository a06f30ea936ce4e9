"""Calls to one server: over HTTP until gRPC is loaded and reached, then over gRPC, and back where that fails."""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from runyard.agent import messages
from runyard.agent.artifact_transport import ArtifactTransport
from runyard.agent.http_calls import HttpCalls
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
from runyard.agent.retry import UNREACHABLE
from runyard.errors import Error, Unavailable
from runyard.version import VERSION

if TYPE_CHECKING:
    from runyard.agent.grpc_calls import GrpcCalls

CALL_TIMEOUT_S = 15.0
BATCH_TIMEOUT_S = 30.0
BEAT_TIMEOUT_S = 5.0
DISCOVERY_TIMEOUT_S = 5.0
READY_TIMEOUT_S = 5.0
UPGRADE_PAUSE_S = (0.5, 5.0, 30.0)
"""Pauses before the first, second, ... try to reach gRPC again; the last goes on."""
DISCOVERY_PATH = "/.well-known/runyard"
_ANY_HOSTS = ("", "0.0.0.0", "::", "[::]")

_log = logging.getLogger("runyard.agent")


class ServerTransport(ArtifactTransport):
    """The real server; see ports.Transport. Making it opens nothing; the first call does."""

    def __init__(self, base_url: str, *, api_key: str) -> None:
        self._base_url = base_url
        headers = {"user-agent": f"runyard-agent/{VERSION}"}
        if api_key:
            headers["authorization"] = f"Bearer {api_key}"
        self._headers = headers
        self._http = HttpCalls(base_url, headers=headers)
        self._grpc: GrpcCalls | None = None
        self._upgrade: asyncio.Task[None] | None = None
        self._is_server_back = asyncio.Event()
        self._is_closed = False
        self._retiring: set[asyncio.Task[None]] = set()

    async def start_run(self, start: Mapping[str, Any]) -> StartedRun:
        """Calls StartRun."""
        request = messages.start_run_request(start)
        return messages.started_run(await self._call(messages.METADATA + "StartRun", request))

    async def last_step(self, run_path: str, *, writer_max: int) -> int | None:
        """Calls GetReceipt."""
        request = messages.receipt_request(run_path, writer_max=writer_max)
        return messages.last_step(await self._call(messages.QUERY + "GetReceipt", request))

    async def read_summary(self, run_path: str) -> str:
        """Calls GetSummary."""
        request = messages.summary_request(run_path)
        return messages.summary(await self._call(messages.QUERY + "GetSummary", request))

    async def write_batch(self, batch: Batch) -> Sequence[Rejection]:
        """Calls WriteBatch."""
        request = messages.write_batch_request(batch)
        method = messages.INGEST + "WriteBatch"
        return messages.rejections(await self._call(method, request, timeout_s=BATCH_TIMEOUT_S))

    async def apply_changes(self, run_key: int, writer: int, changes: Sequence[Change]) -> None:
        """Calls ApplyRunChanges."""
        request = messages.apply_changes_request(run_key, writer, changes)
        await self._call(messages.METADATA + "ApplyRunChanges", request)

    async def finish_run(self, run_key: int, writer: int, ending: Ending) -> None:
        """Calls FinishRun."""
        request = messages.finish_run_request(run_key, writer, ending)
        await self._call(messages.METADATA + "FinishRun", request)

    async def record_stop_stage(self, run_key: int, writer: int, stage: str, evidence: str) -> None:
        """Calls RecordStopStage."""
        request = messages.record_stop_stage_request(run_key, writer, stage, evidence)
        await self._call(messages.METADATA + "RecordStopStage", request)

    async def heartbeat(self, agent_id: str, beats: Sequence[Beat]) -> BeatAnswer:
        """Calls Heartbeat."""
        request = messages.heartbeat_request(agent_id, beats)
        method = messages.MONITOR + "Heartbeat"
        return messages.beat_answer(await self._call(method, request, timeout_s=BEAT_TIMEOUT_S))

    async def create_uploads(
        self, run_path: str, asks: Sequence[tuple[str, FileDigest]]
    ) -> Sequence[UploadPlan | Error]:
        """Calls CreateUploads."""
        request = messages.create_uploads_request(run_path, asks)
        return messages.upload_plans(await self._call(messages.FILES + "CreateUploads", request))

    async def put_part(self, url: str, part: FilePart) -> str:
        """Sends bytes to the object store."""
        return await self._http.put_part(url, part)

    async def put_parts(
        self, jobs: Sequence[tuple[str, FilePart]]
    ) -> Sequence[str | Error | OSError]:
        """Sends small parts to the object store."""
        return await self._http.put_parts(jobs)

    async def complete_uploads(
        self, arrivals: Sequence[tuple[str, Sequence[str]]]
    ) -> Sequence[Error | None]:
        """Calls CompleteUploads."""
        request = messages.complete_uploads_request(arrivals)
        method = messages.FILES + "CompleteUploads"
        return messages.completions(await self._call(method, request, timeout_s=BATCH_TIMEOUT_S))

    async def close(self) -> None:
        """Lets go of all connections."""
        self._is_closed = True
        if self._upgrade is not None:
            self._upgrade.cancel()
            await asyncio.gather(self._upgrade, return_exceptions=True)
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        if self._grpc is not None:
            await self._grpc.close()
        self._http.close()

    async def _call(
        self, method: str, request: bytes, *, timeout_s: float = CALL_TIMEOUT_S
    ) -> bytes:
        calls = self._grpc
        if calls is None:
            reply = await self._http.call(method, request, timeout_s=timeout_s)
            self._begin_upgrade()
            return reply
        try:
            return await calls.call(method, request, timeout_s=timeout_s)
        except Unavailable as error:
            if error.reason == UNREACHABLE and self._grpc is calls:
                # The server may have come back elsewhere: HTTP, whose address is fixed, tells.
                self._grpc = None
                self._begin_upgrade()
                self._retire(calls)
            raise

    def _retire(self, calls: GrpcCalls) -> None:
        """Closes a channel when the last call in flight on it has ended, each by its own deadline."""
        task = asyncio.get_running_loop().create_task(calls.close(grace_s=2 * BATCH_TIMEOUT_S))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def _begin_upgrade(self) -> None:
        self._is_server_back.set()
        if self._is_closed or (self._upgrade is not None and not self._upgrade.done()):
            return
        self._upgrade = asyncio.get_running_loop().create_task(self._reach_grpc())

    async def _reach_grpc(self) -> None:
        """Returns when gRPC is in use."""
        count = 0
        while self._grpc is None:
            try:
                self._grpc = await self._connect()
                _log.info("grpc_reached %s", self._base_url)
            except (Error, ImportError, asyncio.TimeoutError) as error:
                pause_s = UPGRADE_PAUSE_S[min(count, len(UPGRADE_PAUSE_S) - 1)]
                count += 1
                _log.info("grpc_not_reached %s: %s", self._base_url, str(error) or "no answer")
                # While HTTP did not answer either, the next answer is the moment to try again.
                if isinstance(error, Unavailable) and error.reason == UNREACHABLE:
                    self._is_server_back.clear()
                await self._wait_for_server(pause_s)

    async def _wait_for_server(self, pause_s: float) -> None:
        if self._is_server_back.is_set():
            await asyncio.sleep(pause_s)
            return
        try:
            await asyncio.wait_for(self._is_server_back.wait(), pause_s)
        except asyncio.TimeoutError:
            return

    async def _connect(self) -> GrpcCalls:
        loop = asyncio.get_running_loop()
        # The import takes a tenth of a second: not on the loop, which has a run to start.
        module = await loop.run_in_executor(
            None, importlib.import_module, "runyard.agent.grpc_calls"
        )
        fields = await self._http.get_json(DISCOVERY_PATH, timeout_s=DISCOVERY_TIMEOUT_S)
        address = grpc_address(str(fields.get("grpc") or ""), self._base_url)
        is_tls = self._base_url.startswith("https:")
        calls: GrpcCalls = module.GrpcCalls(address, is_tls=is_tls, headers=self._headers)
        try:
            await asyncio.wait_for(calls.ready(), READY_TIMEOUT_S)
        except BaseException:
            await calls.close()
            raise
        return calls


def grpc_address(told: str, base_url: str) -> str:
    """Returns HOST:PORT of the gRPC listener; one that listens everywhere is where HTTP is. Raises Unavailable."""
    host, _, port = told.rpartition(":")
    if not port.isdecimal():
        raise Unavailable(f"{base_url}{DISCOVERY_PATH} names no gRPC address: {told!r}")
    if host in _ANY_HOSTS:
        host = urlsplit(base_url).hostname or "127.0.0.1"
        host = f"[{host}]" if ":" in host else host
    return f"{host}:{port}"
