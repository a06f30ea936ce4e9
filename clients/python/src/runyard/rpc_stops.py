"""Asks a server to stop a run, and reads how far that has come: the calls of `runyard stop` and `Run.stop`."""

from __future__ import annotations

import dataclasses
import time

from runyard.errors import InvalidArgument
from runyard.rpc import METADATA, Connection, name_of
from runyard_protos.metadata.v1 import metadata_pb2

GRACE_MAX_S = 86_400.0
POLL_INTERVAL_S = 0.3
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
    if grace_s is not None and not 0 <= grace_s <= GRACE_MAX_S:
        raise InvalidArgument(
            f"a grace time of {grace_s:g} s: it must lie between 0 and {GRACE_MAX_S:g} s (a day)",
            reason="FIELD_INVALID",
        )
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


def await_end(connection: Connection, path: str, *, wait_s: float) -> StopState:
    """Returns the run's state when it has ended, or after that time as it then is."""
    deadline_s = time.monotonic() + wait_s
    while True:
        state = stop_state(connection, path)
        left_s = deadline_s - time.monotonic()
        if not state.is_live or left_s <= 0:
            return state
        time.sleep(min(POLL_INTERVAL_S, left_s))


def _stop_state(run: metadata_pb2.Run) -> StopState:
    stage = run.stop.stage if run.HasField("stop") else 0
    return StopState(
        path=run.path,
        state=name_of(run, "state", run.state),
        stage=name_of(run.stop, "stage", stage) if stage else "",
        exit_code=run.exit_code if run.HasField("exit_code") else None,
    )
