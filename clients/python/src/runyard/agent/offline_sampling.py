"""Samples the machine for offline runs, which have no agent, and sees how their processes end: one process per journal root, no network."""

# Paths are texts here: see ports.Disk.
# ruff: noqa: PTH100, PTH108

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Callable

from runyard import process_identity
from runyard.agent.disk import LocalDisk
from runyard.agent.lifeline import Lifeline
from runyard.agent.mark import read_json
from runyard.agent.process_setup import is_named, set_up_log, take_lock
from runyard.agent.process_watch import LocalProcesses
from runyard.agent.start import read_start
from runyard.agent.system.amd import AmdSampler
from runyard.agent.system.nvidia import NvidiaSampler
from runyard.agent.system_watch import SystemWatch

LOOK_INTERVAL_S = 1.0
IDLE_EXIT_S = 3.0
"""How long it stays when no run is left, for one that the same script begins next."""
LOCK_WAIT_S = 5.0
"""How long another process of this root may take to see a new run, or to be gone."""
START_WAIT_S = 10.0
"""How long a run folder may take to have its lock and its first record."""
END_WAIT_S = 5.0
"""How long a process that has told of its end is watched for ending otherwise: it may as well go on without the run."""
WATCH_S = 3600.0
"""Longest sleep of the watch of a process, which wakes by itself when that ends."""
STOPPED_S = 20.0
"""How long it goes on after SIGTERM, which a batch system sends to all processes of a job at once."""

_log = logging.getLogger("runyard.agent")


def main(arguments: Sequence[str] | None = None) -> int:
    """Samples until no offline run of the root is left; 0 also if another process does it."""
    parser = argparse.ArgumentParser(prog="python -m runyard.agent.offline_sampling")
    parser.add_argument("--root", required=True, help="folder that holds run folders")
    root = os.path.abspath(parser.parse_args(arguments).root)
    set_up_log(f"{root}/sampling.log")
    name = lock_name()
    lock = _await_lock(root, name)
    if lock is None:
        return 0
    try:
        asyncio.run(_sample(root))
        return 0
    except Exception:
        _log.exception("sampling_failed: a bug; training goes on without system metrics")
        return 1
    finally:
        if is_named(f"{root}/{name}", os.fstat(lock)):  # each container would leave one of its own
            os.unlink(f"{root}/{name}")


def lock_name() -> str:
    """Returns the name of the lock for what can be watched from here: nodes and containers may share a root."""
    around = json.dumps(process_identity.surroundings(), sort_keys=True)
    return f"sampling-{hashlib.blake2b(around.encode(), digest_size=4).hexdigest()}.lock"


def _await_lock(root: str, name: str) -> int | None:
    """Returns the lock's descriptor; None if another process keeps it: that one sees every run begun meanwhile."""
    deadline_s = time.monotonic() + LOCK_WAIT_S
    while True:
        lock = take_lock(root, name)
        if lock is not None and is_named(f"{root}/{name}", os.fstat(lock)):
            return lock
        if lock is not None:  # of the file that the last one removed when it ended
            os.close(lock)
        elif time.monotonic() >= deadline_s:
            return None
        time.sleep(LOCK_WAIT_S / 20)


async def _sample(root: str) -> None:
    loop = asyncio.get_running_loop()
    stops: list[float] = []
    loop.add_signal_handler(signal.SIGTERM, lambda: stops.append(loop.time()))
    for number in (signal.SIGINT, signal.SIGHUP):  # it ends with the runs
        loop.add_signal_handler(number, lambda: None)
    watch = SystemWatch(gpus=(NvidiaSampler(), AmdSampler()), time_unix_ns=time.time_ns)
    runs = OfflineRuns(root, watch)
    idle_since_s = loop.time()
    try:
        while not stops or loop.time() - stops[0] < STOPPED_S:
            if _looked(runs):
                idle_since_s = loop.time()
            elif not runs.is_end_awaited and (stops or loop.time() - idle_since_s >= IDLE_EXIT_S):
                return
            await asyncio.sleep(LOOK_INTERVAL_S)
    finally:
        runs.close()
        await watch.close()


def _looked(runs: OfflineRuns) -> bool:
    """Returns whether there is or may soon be a run to sample for."""
    try:
        return runs.look() > 0 or runs.is_start_awaited
    except OSError as error:  # the root is away for now
        _log.warning("root_not_readable %s", error)
        return False


class OfflineRuns:
    """The offline runs of a root that live."""

    def __init__(self, root: str, watch: SystemWatch) -> None:
        self._root = root
        self._watch = watch
        self._disk = LocalDisk()
        self._stamp: tuple[int, int] | None = None
        self._settled: set[str] = set()
        self._waiting: set[str] = set()
        self._live: dict[str, Callable[[], None]] = {}
        self._ends = Ends()

    @property
    def is_start_awaited(self) -> bool:
        """Returns whether a new folder may yet become a run."""
        return bool(self._waiting)

    @property
    def is_end_awaited(self) -> bool:
        """Returns whether a process that has told of its end may yet end otherwise."""
        return self._ends.is_expected

    def look(self) -> int:
        """Begins to sample for new runs, and ends it for those that ended; returns how many live."""
        stamp = self._disk.stamp(self._root)
        if stamp != self._stamp:
            self._stamp = stamp
            names = {name for name in self._disk.names(self._root) if name.startswith("run-")}
            self._settled &= names
            self._waiting = names - self._settled - set(self._live)
        for name in list(self._waiting):
            self._consider(name)
        for name, end in list(self._live.items()):
            if not self._is_alive(f"{self._root}/{name}"):
                end()
                del self._live[name]
                self._settled.add(name)
                self._ends.expect(f"{self._root}/{name}")
        self._ends.look()
        return len(self._live)

    def close(self) -> None:
        """Watches no longer."""
        self._ends.close()

    def _consider(self, name: str) -> None:
        folder = f"{self._root}/{name}"
        if self._is_alive(folder):
            start = read_start(self._disk, f"{folder}/journal")
            if start is not None:
                self._waiting.discard(name)
                if start.get("mode") == "offline":
                    path = "/".join(str(start.get(key)) for key in ("entity", "project", "run_id"))
                    self._live[name] = self._watch.add(folder, path, start)
                    self._ends.watch(folder)
                else:
                    self._settled.add(name)
                return
        stamp = self._disk.stamp(folder)
        if stamp is None or time.time() - stamp[1] / 1e9 > START_WAIT_S:
            self._waiting.discard(name)
            self._settled.add(name)

    def _is_alive(self, folder: str) -> bool:
        """Returns whether the run goes on in the process that began it; a child that it forked holds its lock, too."""
        if not self._disk.is_locked(f"{folder}/writer.lock"):
            return False
        fields = read_json(self._disk, f"{folder}/writer.lock") or {}
        ticks = fields.get("start_ticks")
        return ticks is None or process_identity.start_ticks_of(int(fields["pid"])) == ticks


class Ends:
    """Writes down how processes of offline runs end, into process.json: `runyard sync` comes when nobody can ask the system any more."""

    def __init__(self) -> None:
        self._disk = LocalDisk()
        self._processes = LocalProcesses()
        self._lives: dict[str, tuple[Lifeline, asyncio.Task[None]]] = {}
        self._expected: dict[str, float] = {}
        """Until when each process is watched that has let go of its run."""

    @property
    def is_expected(self) -> bool:
        """Returns whether a process has let go of its run, and has not ended yet."""
        return bool(self._expected)

    def watch(self, folder: str) -> None:
        """Watches the process of a run folder, where the system offers that."""
        life = Lifeline(self._disk, folder, self._processes)
        if life.watch is not None:
            task = asyncio.get_running_loop().create_task(_keep_end(life))
            self._lives[folder] = (life, task)

    def expect(self, folder: str) -> None:
        """Takes note that the process has let go of its run: it is about to end, or goes on without it."""
        if folder in self._lives:
            self._expected[folder] = asyncio.get_running_loop().time() + END_WAIT_S

    def look(self) -> None:
        """Reads what only living processes show, and lets go of those that have ended, or go on for long."""
        now_s = asyncio.get_running_loop().time()
        for folder, (life, task) in list(self._lives.items()):
            if life.watch is not None:
                life.watch.look()
            if folder in self._expected and (task.done() or now_s > self._expected[folder]):
                self._let_go(folder)

    def close(self) -> None:
        """Lets go of all."""
        for folder in list(self._lives):
            self._let_go(folder)

    def _let_go(self, folder: str) -> None:
        life, task = self._lives.pop(folder)
        self._expected.pop(folder, None)
        task.cancel()
        life.close()


async def _keep_end(life: Lifeline) -> None:
    while not life.is_cut:
        await life.pause(WATCH_S)
    life.keep()


if __name__ == "__main__":
    sys.exit(main())
