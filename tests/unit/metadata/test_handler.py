"""MetadataService over real gRPC: messages in and out, errors with their reasons."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from runyard_protos.metadata.v1 import metadata_pb2 as pb
from runyard_protos.metadata.v1 import metadata_pb2_grpc as pb_grpc
from runyard_server.domain.errors import FailedPrecondition, InvalidArgument, NotFound
from runyard_server.domain.run import RunKey, RunState, TransitionCause
from tests.unit.metadata.desk import Desk
from tests.unit.metadata.edge import Edge, refusal, serve


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    async with serve(lambda siblings: [Desk().service]) as made:
        yield made


def start_request(**members: object) -> pb.StartRunRequest:
    request = pb.StartRunRequest(
        request_id="0" * 32, project="p", run_id="x", config_json='{"a":1}'
    )
    request.start_time.FromNanoseconds(1_700_000_000_123_456_789)
    request.MergeFrom(pb.StartRunRequest(**members))  # type: ignore[arg-type]  # fields of the message
    return request


async def test_a_run_from_start_to_end(edge: Edge) -> None:
    """A start, changes, an edit, the end, history and project go as the contract says."""
    stub = pb_grpc.MetadataServiceStub(edge.channel)
    request = start_request(host=pb.Host(hostname="h", pid=7), writer_label="rank0")
    started = await stub.StartRun(request)
    run = started.run
    assert (
        run.path,
        started.writer,
        started.attempt,
        started.is_resumed,
    ) == ("local/p/x", 1, 1, False)
    assert (run.state, run.host.hostname, run.host.pid) == (pb.RUN_STATE_RUNNING, "h", 7)
    assert run.start_time.ToNanoseconds() == 1_700_000_000_123_456_789
    assert started == await stub.StartRun(request)

    change = pb.RunChange(sequence=4, config_set_json='{"b":2}', tags=pb.TagList(tags=["t"]))
    change.metric_definition.name = "loss"
    applied = await stub.ApplyRunChanges(
        pb.ApplyRunChangesRequest(run_key=run.run_key, writer=1, changes=[change])
    )
    assert applied.applied_sequence == 4

    edit = pb.UpdateRunRequest(run=pb.Run(path=run.path, notes="n"))
    edit.update_mask.paths.append("notes")
    assert (await stub.UpdateRun(edit)).run.notes == "n"

    finish = pb.FinishRunRequest(
        run_key=run.run_key,
        writer=1,
        last_sequence=9,
        exit_code=0,
        cause=pb.TRANSITION_CAUSE_PROCESS_EXITED,
    )
    finish.end_time.FromNanoseconds(1_700_000_060_000_000_001)
    ended = (await stub.FinishRun(finish)).run
    assert (ended.state, ended.exit_code) == (pb.RUN_STATE_FINISHED, 0)
    assert ended.end_time.ToNanoseconds() == 1_700_000_060_000_000_001

    found = (await stub.GetRun(pb.GetRunRequest(path=run.path))).run
    assert found == (await stub.GetRun(pb.GetRunRequest(run_key=run.run_key))).run
    assert (
        found.config_json,
        list(found.tags),
        found.metric_definitions[0].name,
    ) == ('{"a":1,"b":2}', ["t"], "loss")
    history = await stub.ListRunTransitions(pb.ListRunTransitionsRequest(run_path=run.path))
    states = [(getattr(step, "from"), step.to) for step in history.transitions]
    assert states == [(0, pb.RUN_STATE_RUNNING), (pb.RUN_STATE_RUNNING, pb.RUN_STATE_FINISHED)]
    projects = await stub.ListProjects(pb.ListProjectsRequest())
    assert [(p.path, p.run_count, p.live_run_count) for p in projects.projects] == [
        ("local/p", 1, 0)
    ]


async def test_projects_can_be_made(edge: Edge) -> None:
    """CreateProject is safe to repeat; GetProject finds it."""
    stub = pb_grpc.MetadataServiceStub(edge.channel)
    request = pb.CreateProjectRequest(entity="e", name="n", description="d")
    made = await stub.CreateProject(request)
    assert made == await stub.CreateProject(request)
    assert made.project == (await stub.GetProject(pb.GetProjectRequest(path="e/n"))).project
    error = await refusal(stub.GetProject(pb.GetProjectRequest(path="e/none")))
    assert (NotFound, "PROJECT_NOT_FOUND") == (type(error), error.reason)


async def test_refusals_carry_their_reason(edge: Edge) -> None:
    """Each error has its class, reason and metadata on the wire."""
    stub = pb_grpc.MetadataServiceStub(edge.channel)
    error = await refusal(stub.GetRun(pb.GetRunRequest(path="local/p/none")))
    assert (NotFound, "RUN_NOT_FOUND", "local/p/none") == (
        type(error),
        error.reason,
        error.metadata["run"],
    )
    for request in (pb.GetRunRequest(), pb.GetRunRequest(path="no path")):
        assert InvalidArgument is type(await refusal(stub.GetRun(request)))
    bad = start_request(config_json="{")
    error = await refusal(stub.StartRun(bad))
    assert (InvalidArgument, "config_json") == (type(error), error.metadata["field"])
    bad = start_request()
    bad.resume = 99  # type: ignore[assignment]  # no value of the enum
    assert (await refusal(stub.StartRun(bad))).metadata["field"] == "resume"
    mask = pb.UpdateRunRequest(run=pb.Run(path="local/p/x"))
    assert (await refusal(stub.UpdateRun(mask))).metadata["field"] == "update_mask"
    mask.update_mask.paths.append("state")
    assert (await refusal(stub.UpdateRun(mask))).metadata["field"] == "update_mask"
    finish = pb.FinishRunRequest(run_key=1, writer=1)
    assert (await refusal(stub.FinishRun(finish))).metadata["field"] == "cause"


async def test_siblings_see_runs_in_the_domains_words(edge: Edge) -> None:
    """What monitor and files rely on: lookups, live runs, verdicts."""
    stub = pb_grpc.MetadataServiceStub(edge.channel)
    started = await stub.StartRun(start_request())
    run_key = RunKey(started.run.run_key)
    document = await edge.siblings.get_run(path="local/p/x")
    assert (run_key, RunState.RUNNING) == (document.run_key, document.state)
    [live] = await edge.siblings.list_live_runs()
    assert (live.path, live.attempt_count) == ("local/p/x", 1)
    await edge.siblings.record_heartbeats([(run_key, 2**62)])
    assert (await edge.siblings.get_run(run_key=run_key)).heartbeat_time_unix_ns == 2**62
    is_applied, state = await edge.siblings.record_transition(
        run_key,
        from_state=RunState.RUNNING,
        to_state=RunState.CRASHED,
        cause=TransitionCause.HEARTBEAT_LOST,
        evidence="e",
        actor="monitor",
        attempt_count=1,
        end_time_unix_ns=1_700_000_000_000_000_000,
    )
    assert (is_applied, state) == (True, RunState.CRASHED)
    assert await edge.siblings.list_live_runs() == []
    with pytest.raises(FailedPrecondition) as caught:
        await edge.siblings.record_transition(
            run_key,
            from_state=RunState.CRASHED,
            to_state=RunState.STOPPING,
            cause=TransitionCause.USER_REQUEST,
            evidence="",
            actor="u",
            attempt_count=1,
            end_time_unix_ns=None,
        )
    assert caught.value.reason == "TRANSITION_NOT_ALLOWED"
