"""Asks a server to stop a run, and reads how far that has come: the calls of `runyard stop`."""

from __future__ import annotations

import dataclasses

from runyard.rpc import METADATA, Connection, name_of
from runyard_protos.metadata.v1 import metadata_pb2

LIVE_STATES = ("pending", "running", "stopping")


@dataclasses.dataclass(frozen=True)
class StopState:
    """A run's state, and the stop that was asked for in its current attempt; "" where there is none."""

    path: str
    state: str
    stage: str
    """requested, acknowledged, draining, terminated or killed."""
    exit_code: int | None

    @property
    def is_live(self) -> bool:
        """Returns whether the run goes on."""
        return self.state in LIVE_STATES


def request_stop(
    connection: Connection,
    path: str,
    *,
    grace_s: float | None,
    may_kill: bool,
    reason: str,
    requested_by: str,
) -> StopState:
    """Asks that the run stop; raises NotFound, or FailedPrecondition for a run that is not live."""
    request = metadata_pb2.RequestStopRequest(
        run_path=path, may_kill=may_kill, reason=reason, requested_by=requested_by
    )
    if grace_s is not None:
        request.grace.FromNanoseconds(int(grace_s * 1e9))
    reply = connection.call(METADATA + "RequestStop", request, metadata_pb2.RequestStopResponse)
    return _stop_state(reply.run)


def stop_state(connection: Connection, path: str) -> StopState:
    """Returns how far the run's stop has come."""
    request = metadata_pb2.GetRunRequest(path=path)
    reply = connection.call(METADATA + "GetRun", request, metadata_pb2.GetRunResponse)
    return _stop_state(reply.run)


def _stop_state(run: metadata_pb2.Run) -> StopState:
    stage = run.stop.stage if run.HasField("stop") else 0
    return StopState(
        path=run.path,
        state=name_of(run, "state", run.state),
        stage=name_of(run.stop, "stage", stage) if stage else "",
        exit_code=run.exit_code if run.HasField("exit_code") else None,
    )
