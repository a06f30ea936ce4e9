"""Where an attempt of a run counts on: after all that was logged before it began."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from runyard.agent.ports import StartedRun

if TYPE_CHECKING:
    from runyard.agent.world import Server


async def next_step(start: Mapping[str, Any], run: StartedRun, server: Server) -> int:
    """Returns the step at which this writer's attempt continues.

    Writers of the attempt itself do not count: a rank that joins late begins where the others began.
    """
    if start.get("rewind_to_step") is not None:
        return int(start["rewind_to_step"]) + 1
    fork = start.get("fork") or {}
    if not run.is_resumed or run.attempt_first_writer == 1:
        return int(fork["step"]) + 1 if fork else 0
    writer_max = max(0, run.attempt_first_writer - 1)
    last_step = await server.repeater.call(
        lambda: server.transport.last_step(run.path, writer_max=writer_max)
    )
    return 0 if last_step is None else last_step + 1
