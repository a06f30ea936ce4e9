"""One simulated story: trainers log, agents upload, servers fail; then all heals, and the checker asks.

`python -m tests.simulation.story SEED` prints a digest of the trace: the same for one seed in every process.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sys
from collections.abc import Callable
from typing import NamedTuple

from runyard_server.domain.errors import DomainError
from runyard_server.domain.purges import Purge
from tests.simulation import loop
from tests.simulation.checker import (
    MarkWatcher,
    Violation,
    check_deleted,
    check_healed,
    is_complete,
    is_refused,
)
from tests.simulation.disk import Disk
from tests.simulation.lineage import Lineage
from tests.simulation.machine import ROOT, Machine
from tests.simulation.servers import Faults, Servers
from tests.simulation.trainer import Lesson, Trainer
from tests.simulation.world import Chance, adopt_tasks
from tests.simulation.written import Written

HEAL_LIMIT_S = 600.0
"""I8: everything journalled is readable this long after the last fault."""
DELETED_SHARE, FORK_SHARE, REWIND_SHARE = 0.1, 0.5, 0.5
SWEEP_S = 200.0
"""After this what came late for a deleted run is gone, too."""
AIM_S, AIM_INTERVAL_S = 5.0, 0.05
"""For how long a power cut waits for its moment, and how often it looks."""
LOOK_INTERVAL_S = 0.5
"""Pause between two looks at what must stay bounded."""
OPEN_FILES_MAX = 4
"""Files that an agent may hold open per run folder: of each of its two journals the segment, and one it looks into."""


class Back(NamedTuple):
    """Where the writers of an attempt go back to: a step of the run itself, or of another (path, step)."""

    rewind_to_step: int | None
    fork: tuple[str, int] | None


class Story:
    """All parts of one world."""

    def __init__(self, seed: int) -> None:
        self.chance = chance = Chance(seed)
        self.servers = Servers(chance, ingest_count=chance.between(1, 3))
        watcher = MarkWatcher(self.servers)
        self.machines = [
            Machine(f"machine{n}", self.servers, watcher) for n in range(chance.between(1, 2))
        ]
        self.runs: dict[str, list[Written]] = {}
        self.doomed: dict[str, asyncio.Task[None]] = {}
        """Runs that are deleted as soon as they have ended, while data of theirs may still be on its way."""

    async def tell(self) -> list[str]:
        """Returns the trace; raises Violation."""
        adopt_tasks(asyncio.get_running_loop())
        chance = self.chance
        self.servers.start()
        self.servers.faults.__dict__.update(Faults.draw(chance).__dict__)
        for machine in self.machines:
            machine.disk.full_probability = chance.random.choice((0.0, 0.0, 0.05, 0.2))
        keepers = [asyncio.ensure_future(machine.keep_agent()) for machine in self.machines]
        looking = asyncio.ensure_future(self._look())
        training = [asyncio.ensure_future(self._run(n)) for n in range(chance.between(1, 3))]
        chaos = asyncio.ensure_future(self._wreak(chance.random.uniform(1.0, 60.0)))
        await asyncio.gather(*training, chaos)
        self._heal()
        try:
            await self._wait_until_complete()
            if any(task.done() for task in self.doomed.values()):
                await asyncio.sleep(SWEEP_S)
        finally:
            for task in (*keepers, looking, *self.doomed.values()):
                task.cancel()
        if self.servers.violations:
            raise self.servers.violations[0]
        disks = {folder: m.disk for m in self.machines for folder in m.trainers}
        lineage = Lineage(self.servers, [one for run in self.runs.values() for one in run])
        for run_id, written in self.runs.items():
            if run_id in self.doomed and self.doomed[run_id].done():
                await check_deleted(self.servers, written)
            else:
                await check_healed(self.servers, written, disks, lineage)
        self._end()
        return self.servers.trace

    async def _run(self, number: int) -> None:
        """One run: attempts one after the other, each of one or more writers at once."""
        chance = self.chance
        await asyncio.sleep(chance.delay_s(2.0))
        run_id = f"run{number}"
        self.runs[run_id] = []
        if chance.hits(DELETED_SHARE):
            self.doomed[run_id] = asyncio.ensure_future(self._delete(run_id))
        fork = await self._draw_fork(run_id) if number else None
        for attempt in range(chance.random.choice((1, 1, 1, 2, 3))):
            count, rows = self._draw_crew()
            rewind = await self._draw_rewind(run_id) if attempt else None
            back = Back(rewind, fork if not attempt else None)
            await asyncio.gather(*(self._write(run_id, n, count, rows, back) for n in range(count)))
            await asyncio.sleep(chance.delay_s(1.0))

    def _draw_crew(self) -> tuple[int, int]:
        """Returns how many writers an attempt has, and how many rows each logs."""
        count = self.chance.random.choice((1, 1, 1, 2, 8))
        return count, self.chance.random.choice((1, 10, 100, 300)) // count + 1

    async def _draw_fork(self, run_id: str) -> tuple[str, int] | None:
        """Returns where the run forks from, if it does: a step of a run that is not to be deleted, mostly once it is there."""
        chance = self.chance
        parents = [one for one in self.runs if one != run_id and one not in self.doomed]
        if run_id in self.doomed or not parents or not chance.hits(FORK_SHARE):
            return None
        parent = chance.random.choice(parents)
        step = await self._draw_step(parent)
        return None if step is None else (f"sim/world/{parent}", step)

    async def _draw_rewind(self, run_id: str) -> int | None:
        return await self._draw_step(run_id) if self.chance.hits(REWIND_SHARE) else None

    async def _draw_step(self, run_id: str) -> int | None:
        """Returns a step that the run has logged, after waiting for a while until the server has one as high."""
        chance = self.chance
        deadline_s = asyncio.get_running_loop().time() + chance.random.choice((0.0, 30.0, 30.0))
        path = f"sim/world/{run_id}"
        while True:
            last = max((one.last_step or 0 for one in self.runs[run_id]), default=0)
            known = await self._known_step(path)
            if known:
                return chance.between(0, known)
            if asyncio.get_running_loop().time() >= deadline_s:
                return chance.between(0, last) if last else None
            await asyncio.sleep(1.0)

    async def _known_step(self, path: str) -> int | None:
        try:
            return (await self.servers.query.service.read_receipt(path)).last_step
        except DomainError:
            return None

    async def _write(self, run_id: str, rank: int, count: int, rows: int, back: Back) -> None:
        chance = self.chance
        machine = chance.random.choice(self.machines)
        number = len(self.runs[run_id])
        folder = f"{ROOT}/run-20260101_000000-{run_id}-{number}"
        written = Written(run_id, folder, f"{chance.random.getrandbits(128):032x}", *back)
        self.runs[run_id].append(written)
        label = f"rank{rank}" if count > 1 else ""
        trainer = Trainer(written, machine.disk, chance, machine.clock, label=label)
        machine.add(trainer)
        span_s = chance.random.uniform(0.0, 60.0)
        often = chance.random.choice((0.5, 0.5, 0.02))
        pace_s = max(span_s / rows * 0.5 / often, 1e-4)
        lesson = Lesson(rows, pace_s, finishes=chance.hits(0.7), pause_probability=often)
        await asyncio.wait([trainer.spawn(trainer.train(lesson))])

    async def _delete(self, run_id: str) -> None:
        """Deletes the run once it has ended, without an undo window."""
        path = f"sim/world/{run_id}"
        while True:
            await asyncio.sleep(self.chance.delay_s(1.0))
            if not self.servers.metadata.is_alive:
                continue
            trash = self.servers.metadata.service.trash
            (result,) = await trash.delete_runs([path], is_now=True, requested_by="sim")
            if isinstance(result, Purge):
                self.servers.note(f"deleted {path}")
                return

    async def _wreak(self, duration_s: float) -> None:
        """Kills and restarts for a while."""
        chance, servers = self.chance, self.servers
        mean_s = chance.random.choice((0.3, 3.0, 30.0))
        end_s = asyncio.get_running_loop().time() + duration_s
        is_power_lost = chance.hits(0.4)
        while asyncio.get_running_loop().time() < end_s:
            await asyncio.sleep(chance.delay_s(mean_s))
            machine = chance.random.choice(self.machines)
            what = chance.random.choice(
                (
                    "agent",
                    "ingest",
                    "ingest",
                    "metadata",
                    "cut",
                    "clock",
                    "trainer",
                    "power",
                    "power",
                )
            )
            servers.note(f"strikes {what}")
            if what == "agent":
                machine.kill_agent()
            elif what == "trainer":
                machine.kill_trainer()
            elif what == "power" and is_power_lost:
                await self._await_unsynced(machine)
                machine.cut_power()
            elif what == "cut":
                servers.cut_metadata_off(chance.delay_s(10.0))
            elif what == "ingest":
                position = chance.between(0, len(servers.ingest_nodes) - 1)
                servers.ingest_nodes[position].kill()
                await asyncio.sleep(chance.delay_s(1.0))
                servers.restart_ingest(position)
            elif what == "metadata":
                servers.metadata.kill()
                await asyncio.sleep(chance.delay_s(1.0))
                servers.restart_metadata()
            else:
                clocks = [machine.clock, *(node.clock for node in servers.ingest_nodes)]
                # Purges are due by metadata's wall clock: one that is hours behind does them hours later.
                clocks += [] if self.doomed else [servers.clock]
                chance.random.choice(clocks).jump()

    async def _await_unsynced(self, machine: Machine) -> None:
        """Aims a power cut, half of the time: waits for a moment at which several segments are not synced yet."""
        if self.chance.hits(0.5):
            return
        for _ in range(round(AIM_S / AIM_INTERVAL_S)):
            if any(
                t.is_alive and t.journal.unsynced_segments > 1 for t in machine.trainers.values()
            ):
                return
            await asyncio.sleep(AIM_INTERVAL_S)

    async def _look(self) -> None:
        """I7: queues and open files stay under their limits, whatever is away."""
        while True:
            await asyncio.sleep(LOOK_INTERVAL_S)
            for node in self.servers.ingest_nodes:
                # A single batch is taken beyond the limit of a queue that is empty.
                limit = max(node.queue_bytes_max, 2 * self.servers.request_bytes_max)
                held = node.pipeline.held_bytes
                if held > limit:
                    self._violate(f"I7: {node.name} holds {held} bytes, at most {limit} may wait")
            for machine in self.machines:
                limit = OPEN_FILES_MAX * (len(machine.trainers) + 1)
                if machine.disk.open_count > limit:
                    self._violate(f"I7: {machine.disk.open_count} files are open, {limit} may be")

    def _violate(self, message: str) -> None:
        self.servers.violations.append(Violation(message))

    async def _wait_until_complete(self) -> None:
        late: list[str] = []
        try:
            async with asyncio.timeout(HEAL_LIMIT_S):
                while not self.servers.violations:
                    late = [
                        trainer.name
                        for machine in self.machines
                        for trainer in machine.trainers.values()
                        if not is_complete(trainer.written, machine.disk)
                        and not self._is_dropped(trainer.written, machine.disk)
                        and not is_refused(trainer.written, machine.disk)
                    ]
                    if not late:
                        return
                    await asyncio.sleep(1.0)
        except TimeoutError:
            raise Violation(f"I8: {late} not complete {HEAL_LIMIT_S} s after the faults") from None

    def _is_dropped(self, written: Written, disk: Disk) -> bool:
        """Returns whether the run was deleted, and the agent knows it."""
        if written.run_id not in self.doomed or not self.doomed[written.run_id].done():
            return False
        return b'"refused"' in disk.peek(f"{written.folder}/mark.json")

    def _heal(self) -> None:
        self.servers.faults.heal()
        for machine in self.machines:
            machine.disk.full_probability = 0.0
        self.servers.note("healed")

    def _end(self) -> None:
        for machine in self.machines:
            machine.kill_agent()
        for node in (self.servers.metadata, self.servers.query, *self.servers.ingest_nodes):
            node.kill()


class BugLog(logging.Handler):
    """Collects what the code under test logs as its own bugs: an exception that it did not expect."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.bugs: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self.bugs.append(record.exc_info[1])


def tell(seed: int, make: Callable[[int], Story] = Story) -> list[str]:
    """Returns the trace of the story of that seed; raises what does not hold."""

    async def main() -> list[str]:
        return await make(seed).tell()

    log = BugLog()
    loggers = [
        logging.getLogger(name) for name in ("runyard.agent", "runyard.ingest", "runyard.metadata")
    ]
    for logger in loggers:
        logger.addHandler(log)
    try:
        trace = loop.run(main())
    finally:
        for logger in loggers:
            logger.removeHandler(log)
    if log.bugs:
        raise AssertionError(f"logged as a bug: {log.bugs[0]!r}") from log.bugs[0]
    return trace


if __name__ == "__main__":
    trace = tell(int(sys.argv[1]))
    print(len(trace), hashlib.sha256("\n".join(trace).encode()).hexdigest())
