"""Calls between services: one repeat on UNAVAILABLE, deadlines that are inherited, errors that stay what they were."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest

from runyard_protos.metadata.v1 import metadata_pb2 as pb
from runyard_protos.metadata.v1 import metadata_pb2_grpc
from runyard_server.domain.addresses import parse_address
from runyard_server.domain.clock import SystemClock
from runyard_server.domain.errors import DeadlineExceeded, DomainError, NotFound, Unavailable
from runyard_server.domain.projects import Project
from runyard_server.domain.run import LiveRun, RunKey, RunState, TransitionCause
from runyard_server.rpc import project_messages, run_messages
from runyard_server.rpc.calls import Call, enter_call
from runyard_server.rpc.interceptors import EdgeConfig
from runyard_server.rpc.listener import Listener, ListenerConfig
from runyard_server.rpc.siblings import Siblings, SiblingsConfig

CLOCK = SystemClock()
PROJECT = Project(
    "e", "p", "free text", 1_700_000_000_000_000_001, 3, run_count=5, live_run_count=2
)


class Metadata(metadata_pb2_grpc.MetadataServiceServicer):
    """A metadata service of three live runs that fails as often as it is told."""

    name = "metadata"

    def __init__(self) -> None:
        self.failures: list[DomainError] = []
        self.requests: list[Any] = []
        self.request_ids: list[str] = []

    def register(self, server: grpc.aio.Server) -> tuple[str, ...]:
        metadata_pb2_grpc.add_MetadataServiceServicer_to_server(self, server)
        return ("runyard.metadata.v1.MetadataService",)

    async def start(self) -> None: ...

    async def run(self) -> None: ...

    async def stop(self) -> None: ...

    async def GetRun(self, request: pb.GetRunRequest, context: Any) -> pb.GetRunResponse:  # type: ignore[override]  # async
        self._note(request, context)
        return pb.GetRunResponse(
            run=pb.Run(run_key=7, entity="e", project="p", run_id="r", state=2)
        )

    async def GetProject(  # type: ignore[override]  # async
        self, request: pb.GetProjectRequest, context: Any
    ) -> pb.GetProjectResponse:
        self._note(request, context)
        return pb.GetProjectResponse(project=project_messages.project_to_message(PROJECT))

    async def ListLiveRuns(  # type: ignore[override]  # async
        self, request: pb.ListLiveRunsRequest, context: Any
    ) -> pb.ListLiveRunsResponse:
        self._note(request, context)
        number = int(request.page_token or 0)
        run = LiveRun(RunKey(number), f"e/p/{number}", RunState.RUNNING, 1, 2.5)
        token = str(number + 1) if number < 2 else ""
        return pb.ListLiveRunsResponse(
            runs=[run_messages.live_run_to_message(run)], next_page_token=token
        )

    async def RecordTransition(  # type: ignore[override]  # async
        self, request: pb.RecordTransitionRequest, context: Any
    ) -> pb.RecordTransitionResponse:
        self._note(request, context)
        return pb.RecordTransitionResponse(is_applied=True, state=request.to)

    def _note(self, request: Any, context: Any) -> None:
        self.requests.append(request)
        self.request_ids.append(dict(context.invocation_metadata())["x-request-id"])
        if self.failures:
            raise self.failures.pop(0)


class Pair:
    """A metadata service and what calls it."""

    def __init__(self, metadata: Metadata, siblings: Siblings) -> None:
        self.metadata = metadata
        self.siblings = siblings


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    metadata = Metadata()
    listener = Listener(ListenerConfig(), EdgeConfig(), clock=CLOCK)
    address = listener.bind(parse_address("127.0.0.1:0"), is_explicit=True)
    listener.register([metadata])
    await listener.start()
    siblings = Siblings(SiblingsConfig(retry_pause_s=0.01), clock=CLOCK)
    siblings.connect({"metadata": str(address)})
    yield Pair(metadata, siblings)
    await siblings.close()
    await listener.stop(0)


async def test_unavailable_is_asked_once_more(pair: Pair) -> None:
    """One UNAVAILABLE is not seen by the caller; two are."""
    pair.metadata.failures = [Unavailable("STOPPING", "stopping")]
    assert (await pair.siblings.get_run(path="e/p/r")).run_key == 7
    assert len(pair.metadata.requests) == 2
    pair.metadata.failures = [Unavailable("STOPPING", "stopping")] * 2
    with pytest.raises(Unavailable, match="stopping"):
        await pair.siblings.get_run(path="e/p/r")


async def test_other_errors_are_not_repeated(pair: Pair) -> None:
    """A refusal comes back at once, as what it was."""
    pair.metadata.failures = [NotFound("RUN_NOT_FOUND", "no run", metadata={"run": "e/p/r"})]
    with pytest.raises(NotFound) as caught:
        await pair.siblings.get_run(run_key=RunKey(1))
    assert (caught.value.reason, caught.value.metadata) == ("RUN_NOT_FOUND", {"run": "e/p/r"})
    assert len(pair.metadata.requests) == 1


async def test_a_project_comes_whole_after_one_repeat(pair: Pair) -> None:
    """All that metadata knows of a project arrives, one UNAVAILABLE unseen; none is NotFound."""
    pair.metadata.failures = [Unavailable("STOPPING", "stopping")]
    assert await pair.siblings.get_project("e/p") == PROJECT
    assert [request.path for request in pair.metadata.requests] == ["e/p", "e/p"]
    pair.metadata.failures = [NotFound("PROJECT_NOT_FOUND", "no project")]
    with pytest.raises(NotFound, match="no project"):
        await pair.siblings.get_project("e/none")


async def test_all_pages_are_read(pair: Pair) -> None:
    """Live runs of all pages come back in order."""
    runs = await pair.siblings.list_live_runs()
    assert [run.run_key for run in runs] == [0, 1, 2]
    assert runs[0].crash_timeout_s == 2.5


async def test_transition_carries_everything(pair: Pair) -> None:
    """What the monitor says reaches metadata field by field."""
    answer = await pair.siblings.record_transition(
        RunKey(5),
        from_state=RunState.RUNNING,
        to_state=RunState.CRASHED,
        cause=TransitionCause.HEARTBEAT_LOST,
        evidence="silent for 60 s",
        actor="monitor",
        attempt_count=3,
        end_time_unix_ns=1_700_000_000_000_000_001,
    )
    assert answer == (True, RunState.CRASHED)
    (request,) = pair.metadata.requests
    assert (request.run_key, request.attempt_count, request.actor) == (5, 3, "monitor")
    assert getattr(request, "from") == pb.RUN_STATE_RUNNING
    assert request.end_time.nanos == 1


async def test_request_id_and_deadline_of_the_caller_are_inherited(pair: Pair) -> None:
    """A call made while answering another one carries its id and ends with it."""
    enter_call(Call("outer-id", "/x/Y", CLOCK.monotonic_s() + 5))
    await pair.siblings.get_run(path="e/p/r")
    assert pair.metadata.request_ids == ["outer-id"]
    enter_call(Call("outer-id", "/x/Y", CLOCK.monotonic_s() - 1))
    with pytest.raises(DeadlineExceeded):
        await pair.siblings.get_run(path="e/p/r")
    assert len(pair.metadata.requests) == 1


async def test_service_without_an_address_is_named() -> None:
    """A missing address is an Unavailable that names the key to set."""
    siblings = Siblings(SiblingsConfig(), clock=CLOCK)
    with pytest.raises(Unavailable, match=r"set addresses\.metadata"):
        await siblings.get_run(path="e/p/r")


async def test_health_of_a_sibling(pair: Pair) -> None:
    """Health is what the service says; one that is not there is not healthy."""
    name = "runyard.metadata.v1.MetadataService"
    assert await pair.siblings.check_health("metadata", name, timeout_s=5)
    assert not await pair.siblings.check_health("metadata", "runyard.none.v1.None", timeout_s=5)
    pair.siblings.connect({"files": "127.0.0.1:1"})
    assert not await pair.siblings.check_health("files", name, timeout_s=5)
