"""Drawn faults against real processes and simulated worlds, for as long as asked; a summary at the end.

    python -m tests.robustness.soak --minutes 60 [--seed N]

Each round a load of training processes meets faults drawn from the seed: links that break, kill -9 of trainer, agent and
server, processes that stand still. Then all heals, and every run is asked I1, I2, I3,
I5 and I8. Beside it one process plays simulated worlds, seeds that nobody played before.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.readback import readback
from tests.robustness.far import FAULTS, FarYard, far_yard
from tests.robustness.load import Load
from tests.robustness.traffic import kill_agent
from tests.simulation.story import tell

ROUND_S = 45.0
SIMULATED_AT_ONCE = 20


@dataclass
class Tally:
    """What was done and found."""

    faults: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    runs: int = 0
    rows: int = 0
    seeds: int = 0

    def told(self) -> str:
        """Returns it in words."""
        kills = sum(count for name, count in self.faults.items() if name.startswith("kill"))
        listed = ", ".join(f"{name} {count}" for name, count in sorted(self.faults.items()))
        return (
            f"{self.rounds} rounds, {self.runs} runs, {self.rows} rows, {kills} kills, "
            f"{sum(self.faults.values())} faults ({listed}); {self.seeds} simulated seeds"
        )


class Round:
    """One round of faults against one load."""

    def __init__(self, chance: random.Random, far: FarYard, load: Load, tally: Tally) -> None:
        self._chance = chance
        self._far = far
        self._load = load
        self._tally = tally
        self._faults: dict[str, Callable[[], None]] = {
            "kill trainer": lambda: load.kill_one(chance),
            "kill agent": self._kill_agent,
            "kill trainer and agent": self._kill_both,
            "kill server": self._kill_server,
            "pause trainer": lambda: load.pause(chance, "trainer", chance.uniform(0.1, 2.0)),
            "pause agent": lambda: load.pause(chance, "agent", chance.uniform(0.1, 2.0)),
            **{f"network {name}": self._breaker(name) for name in FAULTS},
        }

    def play(self, duration_s: float) -> None:
        """Strikes for a while, heals, and asks what must hold."""
        end_s = time.monotonic() + duration_s
        self._load.fill()
        while time.monotonic() < end_s:
            time.sleep(self._chance.uniform(0.05, 1.0))
            name = self._chance.choice(list(self._faults))
            self._tally.faults[name] += 1
            self._faults[name]()
            self._load.fill()
        self._far.heal()
        self._load.end(self._chance)
        with readback(self._far.yard.grpc) as reader:
            runs, rows = self._load.check(reader)
        self._tally.rounds += 1
        self._tally.runs += runs
        self._tally.rows += rows

    def _kill_agent(self) -> None:
        kill_agent(self._load.root)

    def _kill_both(self) -> None:
        self._load.kill_one(self._chance)
        kill_agent(self._load.root)

    def _kill_server(self) -> None:
        self._far.yard.kill()
        time.sleep(self._chance.uniform(0.0, 0.5))
        self._far.yard.start()

    def _breaker(self, name: str) -> Callable[[], None]:
        def strike() -> None:
            self._far.strike(name)
            time.sleep(self._chance.uniform(0.1, 3.0))
            self._far.heal()

        return strike


class Simulations:
    """Plays simulated worlds in a process beside, a few at a time."""

    def __init__(self, pool: ProcessPoolExecutor, first_seed: int, tally: Tally) -> None:
        self._pool = pool
        self._next = first_seed
        self._tally = tally
        self._playing: Future[str] | None = None

    def go_on(self, *, is_last: bool = False) -> None:
        """Starts further ones when those before are done; raises what did not hold."""
        if self._playing is not None and (is_last or self._playing.done()):
            failure = self._playing.result()
            assert not failure, failure
            self._tally.seeds += SIMULATED_AT_ONCE
            self._playing = None
        if self._playing is None and not is_last:
            self._playing = self._pool.submit(simulate, self._next, SIMULATED_AT_ONCE)
            self._next += SIMULATED_AT_ONCE


def simulate(first: int, count: int) -> str:
    """Returns what did not hold in one of the worlds, and how to play it again; empty if all did."""
    for seed in range(first, first + count):
        try:
            tell(seed)
        except BaseException as error:
            return f"make sim SEED={seed}: {type(error).__name__}: {error}"
    return ""


@contextmanager
def simulations(seed: int, tally: Tally) -> Iterator[Simulations]:
    """Gives them, in a process of their own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        # Beyond the seeds that CI plays.
        yield Simulations(pool, 1_000_000 + seed % 1_000_000_000, tally)


def soak(minutes: float, seed: int, folder: Path) -> Tally:
    """Plays rounds until the time is over; at least one. Raises what does not hold."""
    tally = Tally()
    chance = random.Random(seed)
    with far_yard(folder / "yard") as far, simulations(seed, tally) as simulated:
        end_s = time.monotonic() + minutes * 60.0
        while not tally.rounds or time.monotonic() < end_s:
            load = Load(
                folder / f"round{tally.rounds}",
                far.environment(folder / f"round{tally.rounds}" / "runyard"),
                count=chance.randint(1, 3),
                prefix=f"r{tally.rounds}-",
            )
            simulated.go_on()
            try:
                left_s = max(end_s - time.monotonic(), 1.0)
                Round(chance, far, load, tally).play(min(ROUND_S, left_s))
            finally:
                far.heal()
                load.stop()
            print(f"soak: {tally.told()}", flush=True)
        simulated.go_on(is_last=True)
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    seed = random.SystemRandom().getrandbits(32) if arguments.seed is None else arguments.seed
    folder = Path(tempfile.mkdtemp(prefix="runyard-soak-"))
    print(f"soak: seed {seed}, {arguments.minutes:g} minutes, in {folder}", flush=True)
    try:
        tally = soak(arguments.minutes, seed, folder)
    except BaseException:
        print(f"soak: FAILED with seed {seed}; everything lies in {folder}", flush=True)
        raise
    print(f"soak: ok, seed {seed}: {tally.told()}", flush=True)


if __name__ == "__main__":
    main()
