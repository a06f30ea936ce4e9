"""One machine of the simulated world: its disk, its clock, the agent on it, and the training processes."""

from __future__ import annotations

import asyncio

from runyard import journal_format as form
from runyard_server.domain.points import Journal
from tests.simulation.agents import AgentNode
from tests.simulation.checker import MarkWatcher, Violation
from tests.simulation.disk import Disk
from tests.simulation.servers import Servers
from tests.simulation.trainer import Trainer
from tests.simulation.world import WorldClock

ROOT = "/runs"


class Machine:
    """A machine; it has at most one agent at a time, and always some, sooner or later."""

    def __init__(self, name: str, servers: Servers, watcher: MarkWatcher) -> None:
        self.name = name
        self.clock = WorldClock(servers.chance)
        self.disk = Disk(servers.chance)
        self.disk.on_replace = self._watch_marks
        self.trainers: dict[str, Trainer] = {}
        """By run folder."""
        self.agent: AgentNode | None = None
        self._servers = servers
        self._watcher = watcher
        self._agent_lives = 0

    def add(self, trainer: Trainer) -> None:
        """Takes a training process that is about to start."""
        self.trainers[trainer.written.folder] = trainer

    async def keep_agent(self) -> None:
        """Starts an agent whenever none lives, as every init() and `runyard sync` would."""
        while True:
            await asyncio.sleep(self._servers.chance.delay_s(1.0))
            self._agent_lives += 1
            name = f"{self.name}-agent{self._agent_lives}"
            self._servers.note(f"{name} starts")
            self.agent = AgentNode(
                name, root=ROOT, disk=self.disk, servers=self._servers, clock=self.clock
            )
            work = self.agent.spawn(self.agent.run())
            await asyncio.wait([work])
            if self.agent.is_alive and work.exception() is not None:
                raise AssertionError("the agent failed") from work.exception()

    def kill_agent(self) -> None:
        """Kills the agent, if one lives."""
        if self.agent is not None:
            self.agent.kill()

    def kill_trainer(self) -> None:
        """Kills one training process, if any lives."""
        living = [trainer for trainer in self.trainers.values() if trainer.is_alive]
        if living:
            self._servers.chance.random.choice(living).kill()

    def cut_power(self) -> None:
        """Kills every process, and takes from the disk what was not synced."""
        self.kill_agent()
        for trainer in self.trainers.values():
            trainer.kill()
            trainer.written.is_cut = True
            self._watcher.power_was_cut(trainer.written)
        self.disk.cut_power()

    def _watch_marks(self, path: str, content: bytes) -> None:
        folder, _, name = path.rpartition("/")
        if name == "mark.json":
            is_console = folder.endswith(f"/{form.CONSOLE_JOURNAL}")
            trainer = self.trainers[folder.rpartition("/")[0] if is_console else folder]
            journal = Journal.CONSOLE if is_console else Journal.RUN
            try:
                self._watcher.watch(trainer.written, journal, content)
            except Violation as error:
                # Kept: the agent under test may well survive what is raised into it.
                self._servers.violations.append(error)
        self._servers.note(f"{self.name} writes {path} {len(content)}")
