"""One simulated story: trainers log, agents upload, servers fail; then all heals, and the checker asks.

`python -m tests.simulation.story SEED` prints a digest of the trace: the same for one seed in every process.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sys

from tests.simulation import loop
from tests.simulation.agents import AgentNode
from tests.simulation.checker import MarkWatcher, Violation, check_healed
from tests.simulation.servers import Faults, Servers
from tests.simulation.trainer import Trainer
from tests.simulation.world import Chance, Disk, WorldClock, adopt_tasks

ROOT = "/runs"
HEAL_LIMIT_S = 600.0
"""I8: everything journalled is readable this long after the last fault."""


class Story:
    """All parts of one world."""

    def __init__(self, seed: int) -> None:
        self.chance = chance = Chance(seed)
        self.servers = Servers(chance, ingest_count=chance.between(1, 2))
        self.disk = Disk(chance)
        self.trainers: list[Trainer] = []
        self.agent: AgentNode | None = None
        self.agent_lives = 0
        self.watcher = MarkWatcher(self.servers)
        self.disk.on_replace = self._watch_marks
        self.violations: list[Violation] = []

    async def tell(self) -> list[str]:
        """Returns the trace; raises Violation."""
        adopt_tasks(asyncio.get_running_loop())
        chance = self.chance
        self.servers.start()
        self.servers.faults.__dict__.update(Faults.draw(chance).__dict__)
        self.disk.full_probability = chance.random.choice((0.0, 0.0, 0.2))
        keeper = asyncio.ensure_future(self._keep_agent())
        training = [asyncio.ensure_future(self._train(n)) for n in range(chance.between(1, 4))]
        chaos = asyncio.ensure_future(self._wreak(chance.random.uniform(1.0, 60.0)))
        await asyncio.gather(*training, chaos)
        self._heal()
        try:
            async with asyncio.timeout(HEAL_LIMIT_S):
                while not self.violations and not all(
                    self._is_complete(trainer) for trainer in self.trainers
                ):
                    await asyncio.sleep(1.0)
        except TimeoutError:
            late = [t.written.run_id for t in self.trainers if not self._is_complete(t)]
            raise Violation(f"I8: {late} not complete {HEAL_LIMIT_S} s after the faults") from None
        finally:
            keeper.cancel()
        if self.violations:
            raise self.violations[0]
        for trainer in self.trainers:
            await check_healed(self.servers, trainer.written, self.disk)
        self._end()
        return self.servers.trace

    async def _train(self, number: int) -> None:
        chance = self.chance
        await asyncio.sleep(chance.delay_s(2.0))
        trainer = Trainer(f"run{number}", self.disk, chance, WorldClock(chance), root=ROOT)
        self.trainers.append(trainer)
        rows, span_s = chance.random.choice((1, 10, 100, 400)), chance.random.uniform(0.0, 60.0)
        await trainer.spawn(
            trainer.train(rows, pace_s=max(span_s / rows, 1e-4), finishes=chance.hits(0.7))
        )

    async def _keep_agent(self) -> None:
        """Starts an agent whenever none lives, as every init() and `runyard sync` would."""
        while True:
            await asyncio.sleep(self.chance.delay_s(1.0))
            self.agent_lives += 1
            self.servers.note(f"agent {self.agent_lives} starts")
            self.agent = AgentNode(
                f"agent{self.agent_lives}", root=ROOT, disk=self.disk, servers=self.servers
            )
            work = self.agent.spawn(self.agent.run())
            await asyncio.wait([work])
            if self.agent.is_alive and work.exception() is not None:
                raise AssertionError("the agent failed") from work.exception()

    async def _wreak(self, duration_s: float) -> None:
        """Kills and restarts for a while."""
        chance, servers = self.chance, self.servers
        mean_s = chance.random.choice((0.3, 3.0, 30.0))
        end_s = asyncio.get_running_loop().time() + duration_s
        while asyncio.get_running_loop().time() < end_s:
            await asyncio.sleep(chance.delay_s(mean_s))
            what = chance.random.choice(("agent", "ingest", "ingest", "metadata", "clock"))
            servers.note(f"strikes {what}")
            if what == "agent" and self.agent is not None:
                self.agent.kill()
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
                servers.clock.jump()

    def _heal(self) -> None:
        self.servers.faults.heal()
        self.disk.full_probability = 0.0
        self.servers.note("healed")

    def _end(self) -> None:
        for node in (self.agent, self.servers.metadata, *self.servers.ingest_nodes):
            if node is not None:
                node.kill()

    def _is_complete(self, trainer: Trainer) -> bool:
        content = self.disk.files.get(f"{trainer.written.folder}/mark.json", b"")
        return b'"is_complete": true' in content

    def _watch_marks(self, path: str, content: bytes) -> None:
        if path.endswith("/mark.json"):
            for trainer in self.trainers:
                if path == f"{trainer.written.folder}/mark.json":
                    try:
                        self.watcher.watch(trainer.written, content)
                    except Violation as error:
                        # Kept: the agent under test may well survive what is raised into it.
                        self.violations.append(error)
            self.servers.note(f"mark {path} {hashlib.sha256(content).hexdigest()[:16]}")


class BugLog(logging.Handler):
    """Collects what the code under test logs as its own bugs: an exception that it did not expect."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.bugs: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self.bugs.append(record.exc_info[1])


def tell(seed: int) -> list[str]:
    """Returns the trace of the story of that seed; raises what does not hold."""

    async def main() -> list[str]:
        return await Story(seed).tell()

    log = BugLog()
    loggers = [logging.getLogger(name) for name in ("runyard.agent", "runyard.ingest")]
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
