"""Attempts at a run: its first start, and every time that it was continued."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from runyard_server.domain.run import RunState


class AttemptKind(enum.Enum):
    """Why an attempt began; see metadata.v1.AttemptKind."""

    START = "start"
    RESUME = "resume"
    REWIND = "rewind"
    FORK = "fork"


@dataclass(frozen=True, slots=True)
class RunAttempt:
    """One attempt; `state` and `end_time_unix_ns` are those of the run when the attempt was over, or as it now is."""

    attempt: int
    kind: AttemptKind
    start_time_unix_ns: int
    first_writer: int
    hostname: str = ""
    rewound_to_step: int | None = None
    state: RunState = RunState.RUNNING
    end_time_unix_ns: int | None = None
