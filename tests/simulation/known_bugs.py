"""Puts known bugs back, one at a time, and counts the seeds that it takes to find each.

    python -m tests.simulation.known_bugs [SEEDS]        all of them; fails if one is not found
    python -m tests.simulation.known_bugs SEEDS NAME     one

A bug is a change of the source of one module, made in memory before it is imported.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SEEDS_DEFAULT = 500


@dataclass(frozen=True)
class Bug:
    """A bug: in `module`, `right` is replaced by `wrong`."""

    module: str
    right: str
    wrong: str


INGEST, AGENT = "runyard_server.ingest.", "runyard.agent."
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
        "runyard_server.metadata.starts", "    if known is not None:\n", "    if False:\n"
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
    "segments of a complete run are left behind": Bug(
        AGENT + "agent", "            _remove_leftovers(disk, folder, mark)\n", ""
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


def hunt(seeds: int) -> tuple[int, str] | None:
    """Returns the first seed that fails, and with what; None if none does."""
    from tests.simulation.story import tell

    for seed in range(seeds):
        try:
            tell(seed)
        except BaseException as error:
            return seed, f"{type(error).__name__}: {str(error)[:100]}"
    return None


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else SEEDS_DEFAULT
    if len(sys.argv) > 2:
        name = sys.argv[2]
        put_back(BUGS[name])
        found = hunt(seeds)
        print(f"{name}: {f'seed {found[0]}, {found[1]}' if found else 'NOT FOUND'}", flush=True)
        sys.exit(found is None)
    command = [sys.executable, "-m", "tests.simulation.known_bugs", str(seeds)]
    codes = [subprocess.run([*command, name], timeout=seeds * 10).returncode for name in BUGS]
    sys.exit(any(codes))


if __name__ == "__main__":
    main()
