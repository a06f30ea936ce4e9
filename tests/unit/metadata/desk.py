"""A metadata service over memory, with shorthand for its calls."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

from runyard_server.domain.run import RunDocument, RunState, RunTransition, TransitionCause
from runyard_server.metadata.outbox import OutboxConfig
from runyard_server.metadata.requests import FinishRun, RecordTransition, StartRun
from runyard_server.metadata.service import MetadataConfig, MetadataService
from runyard_server.metadata.starts import StartedRun
from runyard_server.storage.memory.run_store import MemoryRunStore
from runyard_server.storage.memory.runs import MemoryRunIndex
from tests.stores import ManualClock


class SeededClock(ManualClock):
    """A clock that stands still, and chance that repeats itself from run to run."""

    def __init__(self, seed: int = 1) -> None:
        super().__init__()
        self._random = random.Random(seed)

    def random_bits(self, bits: int) -> int:
        return self._random.getrandbits(bits)


class Desk:
    """One service and its stores."""

    def __init__(self, config: MetadataConfig | None = None) -> None:
        self.clock = SeededClock()
        self.runs = MemoryRunStore()
        self.index = MemoryRunIndex()
        self.service = MetadataService(
            config or MetadataConfig(outbox=OutboxConfig(gather_s=0.0)),
            runs=self.runs,
            index=self.index,
            clock=self.clock,
        )
        self._numbers = itertools.count(1)

    def request_id(self) -> str:
        return f"{next(self._numbers):032x}"

    async def start(self, run_id: str = "", **wishes: object) -> StartedRun:
        self.clock.advance(1.0)
        ask = StartRun(request_id=self.request_id(), run_id=run_id, project="p")
        ask = replace(ask, start_time_unix_ns=self.clock.unix_ns)
        return await self.service.start_run(replace(ask, **wishes))  # type: ignore[arg-type]  # members of StartRun

    async def finish(
        self,
        started: StartedRun,
        cause: TransitionCause = TransitionCause.FINISH_CALLED,
        exit_code: int | None = None,
        **members: object,
    ) -> RunDocument:
        self.clock.advance(1.0)
        ask = FinishRun(
            run_key=started.run.run_key,
            writer=started.writer.writer,
            last_sequence=9,
            exit_code=exit_code,
            cause=cause,
            evidence="evidence",
            end_time_unix_ns=self.clock.unix_ns,
        )
        return await self.service.finish_run(replace(ask, **members))  # type: ignore[arg-type]  # members of FinishRun

    async def crash(self, document: RunDocument, *, end: int | None = None) -> bool:
        """Records the monitor's verdict; returns whether it was applied."""
        self.clock.advance(1.0)
        is_applied, _ = await self.service.record_transition(
            RecordTransition(
                run_key=document.run_key,
                from_state=RunState.RUNNING,
                to_state=RunState.CRASHED,
                cause=TransitionCause.HEARTBEAT_LOST,
                evidence="no heartbeat",
                actor="monitor",
                attempt_count=document.attempt_count,
                end_time_unix_ns=end,
            )
        )
        return is_applied

    async def revive(self, document: RunDocument) -> bool:
        """Records a late heartbeat; returns whether it was applied."""
        is_applied, _ = await self.service.record_transition(
            RecordTransition(
                run_key=document.run_key,
                from_state=RunState.CRASHED,
                to_state=RunState.RUNNING,
                cause=TransitionCause.HEARTBEAT_RETURNED,
                evidence="beat",
                actor="monitor",
                attempt_count=document.attempt_count,
            )
        )
        return is_applied

    async def read(self, started: StartedRun) -> RunDocument:
        return await self.service.get_run(path=None, run_key=started.run.run_key)

    async def history(self, started: StartedRun) -> list[RunTransition]:
        found, _ = await self.service.list_transitions(started.run.path, page_size=0, page_token="")
        return found
