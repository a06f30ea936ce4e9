"""Finds run folders beneath one root, has each uploaded, and knows when nothing is left to do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Callable

from runyard import journal_format as form
from runyard.agent.artifact_folder import ArtifactFolder
from runyard.agent.deleted import remove_data
from runyard.agent.mark import REFUSED, read_json
from runyard.agent.ports import Disk
from runyard.agent.run import WAITING, RunUpload
from runyard.agent.start import keep_days, read_start
from runyard.agent.world import Server, World

LOOK_INTERVAL_S = 0.1
"""Pause between two looks at the root."""
RELIST_INTERVAL_S = 5.0
"""The root is listed anew after this even if its time of change stayed."""
START_WAIT_S = 30.0
"""A folder without a START record counts as work for so long; later it is still looked at, now and then."""
LEFTOVER_COUNT_MAX = 8
"""Runs of dead processes that are sent at once; live ones all are."""
AGAIN_INTERVAL_S = 900.0
"""Pause after which a run whose files wait for the object store is tried again, if the agent lives on."""
UNSENT_EXIT_S = 3600.0
"""With nothing but unsent data and a server that does not answer, the agent ends after this."""

_log = logging.getLogger("runyard.agent")


class Agent:
    """Uploads what is beneath a root until it is told to stop, or nothing is left.

    `make_server` gives the server of an address; it is asked once for each address.
    """

    def __init__(
        self,
        root: str,
        *,
        base_url: str,
        world: World,
        make_server: Callable[[str], Server],
        idle_exit_s: float,
        is_root_ours: Callable[[], bool] = lambda: True,
    ) -> None:
        self._root = root
        self._is_root_ours = is_root_ours
        self._is_root_lost = False
        self._base_url = base_url
        self._world = world
        self._make_server = make_server
        self._idle_exit_s = idle_exit_s
        self._servers: dict[str, Server] = {}
        self._hearts: list[asyncio.Task[None]] = []
        self._settled: set[str] = set()
        self._waiting: dict[str, float] = {}
        self._leftovers: list[tuple[str, dict[str, Any]]] = []
        self._runs: dict[str, tuple[RunUpload, asyncio.Task[str]]] = {}
        self._again: dict[str, float] = {}
        """When to try runs again of which something waits for the object store, if this agent lives so long."""
        self._root_stamp: tuple[int, int] | None = None
        self._list_time_s = 0.0

    async def run(self) -> None:
        """Returns when nothing was left to do for a while; has_new_work() tells whether that has changed."""
        loop = asyncio.get_running_loop()
        idle_since_s = loop.time()
        while True:
            self.look()
            self._reap()
            if self._is_root_lost and not await self._keep_orphans():
                _log.warning("root_replaced %s: another agent serves what is there now", self._root)
                return
            now_s = loop.time()
            if self._runs or self._leftovers or self._is_start_awaited(now_s):
                idle_since_s = now_s
            if now_s - idle_since_s >= self._idle_exit_s:
                _log.info("agent_idle for %.0f s", self._idle_exit_s)
                return
            if self._is_hopeless():
                _log.error(
                    "agent_gives_up after %.0f s without an answer; `runyard sync %s` sends the rest",
                    UNSENT_EXIT_S,
                    self._root,
                )
                return
            await asyncio.sleep(LOOK_INTERVAL_S)

    def has_new_work(self) -> bool:
        """Looks at the root once more; returns whether a run came since run() returned."""
        self._list_time_s = 0.0
        before = set(self._runs)
        self.look()
        if self._is_root_lost:
            return False
        return bool(self._leftovers or set(self._runs) - before) or self._is_start_awaited(
            asyncio.get_running_loop().time()
        )

    async def drain(self, limit_s: float, hurried: asyncio.Event) -> None:
        """Returns when no run is left that a server could take, the time is up, or somebody is in a hurry."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + limit_s
        while loop.time() < end_s and not hurried.is_set():
            if not any(run.server.reach.is_reachable for run, _ in self._runs.values()):
                return
            try:
                await asyncio.wait_for(hurried.wait(), LOOK_INTERVAL_S)
            except asyncio.TimeoutError:
                continue

    async def stop(self) -> None:
        """Ends all uploads; their marks say how far they came."""
        tasks: list[asyncio.Task[Any]] = [task for _, task in self._runs.values()]
        tasks.extend(self._hearts)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for server in self._servers.values():
            await server.transport.close()

    def look(self) -> None:
        """Finds new run folders and starts what may start."""
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        disk = self._world.disk
        try:
            stamp = disk.stamp(self._root)
            if stamp != self._root_stamp or now_s >= self._list_time_s:
                self._root_stamp, self._list_time_s = stamp, now_s + RELIST_INTERVAL_S
                self._list(now_s)
            for name in list(self._waiting):
                self._consider(name, now_s)
        except OSError as error:
            _log.warning("root_not_readable %s: %s", self._root, error)
        running = sum(1 for run, _ in self._runs.values() if not run.is_writer_alive)
        while self._leftovers and running < LEFTOVER_COUNT_MAX:
            self._begin(*self._leftovers.pop(0), is_writer_alive=False)
            running += 1

    async def _keep_orphans(self) -> bool:
        """Lets go of what another agent may serve by now; returns whether runs are left whose folders are gone.

        Of those this agent holds the open segment and the process: nobody else could tell how they end.
        """
        self._waiting.clear()
        self._leftovers.clear()
        for name, (_, task) in list(self._runs.items()):
            if self._world.disk.stamp(f"{self._root}/{name}") is not None:
                del self._runs[name]
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        return bool(self._runs)

    def _list(self, now_s: float) -> None:
        if self._is_root_lost or not self._is_root_ours():  # its lock guards nothing any more
            self._is_root_lost = True
            return
        for name in [name for name, time_s in self._again.items() if now_s >= time_s]:
            del self._again[name]
            self._settled.discard(name)
        queued = {name for name, _ in self._leftovers}
        for name in self._world.disk.names(self._root):
            if not name.startswith("run-") or name in self._settled or name in self._waiting:
                continue
            if name not in self._runs and name not in queued:
                self._waiting[name] = now_s
        self._settled.intersection_update(self._world.disk.names(self._root))

    def _consider(self, name: str, now_s: float) -> None:
        """Decides what a folder is: done, not begun, live, or left over."""
        disk, folder = self._world.disk, f"{self._root}/{name}"
        since_s = self._waiting[name]
        is_late = now_s - since_s > START_WAIT_S
        if is_late and now_s + LOOK_INTERVAL_S < self._list_time_s:
            return  # looked at as often as the root is listed
        mark = read_json(disk, f"{folder}/mark.json") or {}
        if mark.get("is_complete"):
            _remove_leftovers(disk, folder, mark)
            self._settle(name)
            return
        if mark.get("is_dropped") and not disk.is_locked(f"{folder}/writer.lock"):
            remove_data(disk, folder)
            self._settle(name)
            return
        start = read_start(disk, f"{folder}/journal")
        if start is None:
            if disk.stamp(folder) is None:
                del self._waiting[name]
            return
        if start.get("mode") == "offline":
            self._settle(name)
            return
        is_alive = disk.is_locked(f"{folder}/writer.lock")
        if mark.get("server") == REFUSED and not is_alive:
            self._settle(name)  # `runyard sync` tries it again
        elif is_alive:
            del self._waiting[name]
            self._begin(name, start, is_writer_alive=True)
        else:
            del self._waiting[name]
            self._leftovers.append((name, start))

    def _settle(self, name: str) -> None:
        self._waiting.pop(name, None)
        self._settled.add(name)

    def _begin(self, name: str, start: dict[str, Any], *, is_writer_alive: bool) -> None:
        server = self._server(str(start.get("base_url") or self._base_url))
        run = RunUpload(f"{self._root}/{name}", start, world=self._world, server=server)
        run.is_writer_alive = is_writer_alive
        self._runs[name] = (run, asyncio.get_running_loop().create_task(run.run()))

    def _server(self, base_url: str) -> Server:
        base_url = base_url.rstrip("/")
        if base_url not in self._servers:
            server = self._servers[base_url] = self._make_server(base_url)
            task = asyncio.get_running_loop().create_task(server.heart.run())
            self._hearts.append(task)
        return self._servers[base_url]

    def _reap(self) -> None:
        for name, (_, task) in list(self._runs.items()):
            if not task.done():
                continue
            del self._runs[name]
            self._settled.add(name)
            if not task.cancelled() and not task.exception() and task.result() == WAITING:
                self._again[name] = asyncio.get_running_loop().time() + AGAIN_INTERVAL_S
            error = task.exception() if not task.cancelled() else None
            if error is not None:
                _log.error("run_upload_failed %s: a bug; its journal stays", name, exc_info=error)

    def _is_start_awaited(self, now_s: float) -> bool:
        return any(now_s - since_s <= START_WAIT_S for since_s in self._waiting.values())

    def _is_hopeless(self) -> bool:
        if not self._runs or self._waiting:
            return False
        return all(
            not run.is_writer_alive and run.server.reach.unreachable_s >= UNSENT_EXIT_S
            for run, _ in self._runs.values()
        )


def _remove_leftovers(disk: Disk, folder: str, mark: Mapping[str, Any]) -> None:
    """Removes segments of a complete run that an agent could not remove: it was killed, or the disk was full."""
    ArtifactFolder(disk, folder).clean_all()
    if mark.get("refused_ranges") or mark.get("refused_unlisted"):
        return  # what the server refused is nowhere else
    paths = [
        f"{folder}/{journal}/{name}"
        for journal in form.JOURNAL_FOLDERS
        for name in disk.names(f"{folder}/{journal}")
        if name.endswith(".seg")
    ]
    if not paths or keep_days(read_start(disk, f"{folder}/journal")) > 0:
        return
    for path in paths:
        disk.remove(path)
