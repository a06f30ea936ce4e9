"""Puts known bugs back, one at a time, and counts the seeds that it takes to find each.

    python -m tests.simulation.known_bugs [SEEDS]        all of them; fails if one is not found
    python -m tests.simulation.known_bugs SEEDS NAME...  some

A bug is a change of the source of one module, made in memory before it is imported. The seed that finds it is played
without it as well, and must hold: else something else was found.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

SEEDS_DEFAULT = 500
WRITE_PATH, MONITOR = "write path", "monitor"


@dataclass(frozen=True)
class Bug:
    """A bug: in `module`, `right` is replaced by `wrong`."""

    module: str
    right: str
    wrong: str
    world: str = WRITE_PATH
    """Which simulation is to find it."""


INGEST, METADATA, AGENT = "runyard_server.ingest.", "runyard_server.metadata.", "runyard.agent."
LIVENESS = "runyard_server.monitor.liveness"
BUGS = {
    "acknowledged before the insert": Bug(
        INGEST + "pipeline", "await asyncio.shield(known.outcome)", "pass"
    ),
    "acknowledged after a failed insert": Bug(
        INGEST + "pipeline", "            if error is None:\n", "            if True:\n"
    ),
    "a failed insert is remembered as durable": Bug(
        INGEST + "pipeline",
        "self._dedupe.fail(waiting.key)",
        "self._dedupe.succeed(waiting.key, Durable(waiting.rejections))",
    ),
    "an outage of the store is swallowed": Bug(
        INGEST + "writer", "            return error\n", "            return None\n"
    ),
    "the queue has no bound": Bug(
        INGEST + "batcher", "if self._held_bytes and self._held_bytes +", "if False and"
    ),
    "bytes of a block are never released": Bug(
        INGEST + "batcher", "self._held_bytes -= block.size_bytes", "pass"
    ),
    "a writer that joined is refused by an older answer": Bug(
        INGEST + "runs",
        "            is_old = answer.question <= asked_before\n",
        "            is_old = asked_before == self._question\n            asked_before = -1\n",
    ),
    "a writer that joined is refused while metadata is away": Bug(
        INGEST + "runs",
        "            if answer.question <= asked_before:\n",
        "            if False:\n",
    ),
    "a purge removes no points": Bug(
        INGEST + "service", "return await self._purger.purge_runs(run_keys)", "return []"
    ),
    "the first arrival of a point wins": Bug(
        "runyard_server.storage.memory.points",
        "if known is None or known.sequence <= point.sequence:",
        "if known is None:",
    ),
    "the last arrival of a point wins": Bug(
        "runyard_server.storage.memory.points",
        "if known is None or known.sequence <= point.sequence:",
        "if True:",
    ),
    "a repeated StartRun makes another writer": Bug(
        METADATA + "starts", "    if known is not None:\n", "    if False:\n"
    ),
    "a rewind takes nothing away": Bug(
        METADATA + "history",
        "cuts=(*kept, Cut(document.writer_count, to_step))",
        "cuts=tuple(kept)",
    ),
    "a rewind of a fork leaves what it inherited": Bug(
        METADATA + "history",
        "(own, *(_up_to(part, to_step) for part in ancestors))",
        "(own, *ancestors)",
    ),
    "a fork sees what its parent's later writers log": Bug(
        METADATA + "history", "replace(own, writer_max=parent.writer_count)", "own"
    ),
    "a fork goes on beyond its step": Bug(
        METADATA + "history",
        "(_up_to(part, step) for part in (frozen, *ancestors))",
        "(frozen, *ancestors)",
    ),
    "all attempts are read as the current one": Bug(
        "runyard_server.query.planner",
        "parts = () if selection.is_all_attempts else run.history_parts",
        "parts = run.history_parts",
    ),
    "the mark jumps over a gap": Bug(
        AGENT + "uploader",
        "        while self.durable_sequence + 1 in self._last_by_first:\n"
        "            self.durable_sequence = self._last_by_first.pop(self.durable_sequence + 1)\n",
        "        self.durable_sequence = max(last, self.durable_sequence)\n",
    ),
    "changes of config go out of order": Bug(
        AGENT + "uploader", "        if before is not None:\n", "        if False:\n"
    ),
    "more batches are in flight than may be": Bug(
        AGENT + "uploader", "asyncio.Semaphore(IN_FLIGHT_COUNT_MAX)", "asyncio.Semaphore(999)"
    ),
    "the budget of bytes in flight leaks": Bug(
        AGENT + "uploader",
        "            self._budget.give(piece.size_bytes)\n",
        "            pass\n",
    ),
    "a restart skips a record": Bug(
        AGENT + "reader",
        "self._skip_to = durable_sequence + 1",
        "self._skip_to = durable_sequence + 1 + (durable_sequence > 0)",
    ),
    "nobody is told of records that the disk lost": Bug(
        AGENT + "reader", '"" if is_removed else message', '""'
    ),
    "segments are removed before they are durable": Bug(
        AGENT + "reader", "behind - 1 > durable_sequence", "behind - 1 > durable_sequence + 40"
    ),
    "FinishRun is called before all is durable": Bug(
        AGENT + "run", "            await uploader.drain()\n", ""
    ),
    "the end of a run does not wait for what was printed": Bug(
        AGENT + "run",
        "                await sides.finish(is_live=self._is_current)\n",
        "                pass\n",
    ),
    "an older telling of a line wins": Bug(
        "runyard_server.storage.memory.console",
        "if known is None or known.sequence <= block.sequence:",
        "if known is None:",
    ),
    "an answer that finds no room on the disk ends the upload": Bug(
        AGENT + "mark",
        "    except OSError as error:  # the upload needs no file: only the SDK's links do\n",
        "    except ZeroDivisionError as error:\n",
    ),
    "segments of a complete run are left behind": Bug(
        AGENT + "agent", "            _remove_leftovers(disk, folder, mark)\n", ""
    ),
    "progress leaves a run flagged as stalled": Bug(
        LIVENESS,
        "        if watched.stalled_since_unix_ns is not None:\n            watched.stalled_since_unix_ns = None\n",
        "        if False:\n            watched.stalled_since_unix_ns = None\n",
        MONITOR,
    ),
    "a run that stands still is flagged only without a beat": Bug(
        LIVENESS,
        "and watched.alive_s > self._since_s(watched.progress_s) + watched.stall_timeout_s",
        "and watched.alive_s < self._since_s(watched.progress_s)",
        MONITOR,
    ),
    "progress of a run with many writers is not seen": Bug(
        LIVENESS,
        "        watched.progress_s = max(watched.progress_s, heard_s)\n",
        "        if len(watched.writers) == 1:\n            watched.progress_s = heard_s\n",
        MONITOR,
    ),
    "one silent writer makes the run crashed": Bug(
        LIVENESS,
        "return self._since_s(watched.alive_s) + watched.timeout_s",
        "return self._since_s(min((w.heard_s for w in watched.writers.values()), default=watched.alive_s)) "
        "+ watched.timeout_s",
        MONITOR,
    ),
}


def put_back(bug: Bug) -> None:
    """Makes this process have the bug; the module MUST not have been imported yet."""
    assert bug.module not in sys.modules, f"{bug.module} is imported already"
    spec = importlib.util.find_spec(bug.module)
    assert spec is not None and spec.origin is not None, bug.module
    source = Path(spec.origin).read_text(encoding="utf-8")
    assert source.count(bug.right) == 1, f"{bug.module} has not one {bug.right!r}"
    module = importlib.util.module_from_spec(spec)
    sys.modules[bug.module] = module
    exec(compile(source.replace(bug.right, bug.wrong), spec.origin, "exec"), module.__dict__)
    parent, _, name = bug.module.rpartition(".")
    setattr(sys.modules[parent], name, module)


def hunt(seeds: int, tell: Callable[[int], object]) -> tuple[int, str] | None:
    """Returns the first seed that fails, and with what; None if none does."""
    for seed in range(seeds):
        try:
            tell(seed)
        except BaseException as error:
            return seed, f"{type(error).__name__}: {str(error)[:100]}"
    return None


def teller(world: str) -> Callable[[int], object]:
    """Returns what plays one seed of a world; imported as late as this, so that a bug can be put back first."""
    from tests.simulation import story, test_monitor

    return story.tell if world == WRITE_PATH else test_monitor.play


def put_back_and_hunt(name: str, seeds: int) -> int | None:
    """Has a process of its own hunt for the bug; returns the seed that found it."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation.known_bugs", str(seeds), name, "--hunt"],
        stdout=subprocess.PIPE,
        text=True,
        timeout=60 + seeds * 10,
    )
    print(done.stdout, end="", flush=True)
    return int(done.stdout.split(": seed ")[1].split(",")[0]) if done.returncode == 0 else None


def is_due_to_the_bug(name: str, seed: int) -> bool:
    """Plays the seed without the bug: what found it MUST NOT fail then."""
    try:
        teller(BUGS[name].world)(seed)
    except BaseException as error:
        print(f"{name}: seed {seed} fails without the bug, too: {error}", flush=True)
        return False
    return True


def find(name: str, seeds: int) -> bool:
    """Returns whether the bug is found, and what found it is due to it."""
    seed = put_back_and_hunt(name, seeds)
    return seed is not None and is_due_to_the_bug(name, seed)


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else SEEDS_DEFAULT
    if "--hunt" in sys.argv:
        name = sys.argv[2]
        put_back(BUGS[name])
        found = hunt(seeds, teller(BUGS[name].world))
        print(f"{name}: {f'seed {found[0]}, {found[1]}' if found else 'NOT FOUND'}", flush=True)
        sys.exit(found is None)
    names = sys.argv[2:] or list(BUGS)
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        found_all = list(pool.map(find, names, [seeds] * len(names)))
    print(f"{sum(found_all)} of {len(names)} bugs are found", flush=True)
    sys.exit(not all(found_all))


if __name__ == "__main__":
    main()
