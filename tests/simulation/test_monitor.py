"""Replicas of the monitor under every schedule of faults that the seeds draw: I6, for each run, and each dead run is found."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys

import pytest

from runyard_server.domain.run import RunState
from runyard_server.monitor.config import MonitorConfig
from tests.simulation import loop
from tests.simulation.monitors import (
    CALL_TIMEOUT_S,
    LATE_COPY_S,
    METADATA,
    Agent,
    Faults,
    World,
)
from tests.simulation.world import Chance, adopt_tasks

SEED = os.environ.get("RUNYARD_SIM_SEED", "")
# A seed here takes as long as two of the write path.
SEEDS = int(os.environ.get("RUNYARD_SIM_SEEDS") or 100) // 2
CHUNKS = 5
# Seeds that fail if a bug that once was is put back; see the ledger in docs/testing.md.
NAMED = {
    "a replica starts beside one that metadata's clock took off the list": 610,
    "a lone replica is cut off from metadata and another takes its runs": 23,
    "a replica is gone for long, and its absence is taken out of silence": 356,
    "a late copy flags a run as stalled after its progress was told": 378,
}
TOLD_SIMPLY = (610, 23, 356)
"""Told as they were found: each run has one writer, and goes on."""
FAULTY_S = 240.0


def play(seed: int) -> str:
    """Plays one seed and returns its trace; a failure says how to play it again."""
    try:
        return loop.run(_story(seed))
    except BaseException as error:
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, timeout=10
        ).stdout.strip()
        error.add_note(f"replay: make sim SEED={seed}   (commit {commit})")
        raise


async def _story(seed: int) -> str:
    adopt_tasks(asyncio.get_running_loop())
    chance = Chance(seed)
    world = World(chance, _config(chance), replica_count=chance.random.choice((1, 1, 2, 3, 4)))
    agents: list[Agent] = []
    try:
        await _live(world, agents)
    except BaseException as error:
        error.add_note("\n".join(world.trace[-1000:]))
        raise
    finally:
        for agent in agents:
            await agent.stop()
        for node in world.nodes:
            node.kill()
        await asyncio.sleep(1.0)
    return "\n".join(world.trace)


async def _live(world: World, agents: list[Agent]) -> None:
    chance = world.chance
    for node in world.nodes:
        node.start()
    for number in range(chance.between(2, 5)):
        own = [
            await world.start_run(timeout_s=chance.random.choice((None, None, 12.0, 300.0)))
            for _ in range(chance.between(1, 4))
        ]
        agents.append(Agent(f"agent{number}", world, own))
    if chance.seed not in TOLD_SIMPLY:
        await _share(world, agents)
    for agent in agents:
        agent.start()
    await asyncio.sleep(30.0)
    dead = await _trouble(world, agents)
    world.note("all heals")
    world.faults.heal()
    world.is_metadata_away = False
    for place, node in enumerate(world.nodes):
        if not node.is_alive:
            world.restart(place)
    await asyncio.sleep(_find_limit_s(world))
    await _check(world, agents, dead)


async def _share(world: World, agents: list[Agent]) -> None:
    """Gives some runs writers at several agents."""
    for agent in agents:
        for run_key in agent.run_keys:
            for other in agents:
                if run_key not in other.writers and world.chance.hits(0.3):
                    await other.join(run_key)


def _config(chance: Chance) -> MonitorConfig:
    return MonitorConfig(
        crash_timeout_s=chance.random.choice((20.0, 60.0)),
        beat_interval_min_s=chance.random.choice((2.0, 10.0)),
        beats_per_s=chance.random.choice((1, 300)),
        lease_s=chance.random.choice((8.0, 15.0)),
        gather_s=chance.random.choice((0.0, 0.02)),
        note_count_max=10_000,
        stall_timeout_s=600.0 if chance.seed in TOLD_SIMPLY else chance.random.choice((40.0, 90.0)),
    )


async def _trouble(world: World, agents: list[Agent]) -> list[Agent]:
    """Lets everything go wrong for a while; returns the agents that died for good."""
    chance = world.chance
    often = chance.random.choice((0.0, 0.05, 0.2))
    world.faults = Faults(
        request_lost=often,
        reply_lost=chance.random.choice((0.0, often)),
        sent_twice=chance.random.choice((0.0, 0.1)),
        delay_mean_s=chance.random.choice((0.01, 0.1, 0.5)),
    )
    dead: list[Agent] = []
    until_s = world.now_s + FAULTY_S
    while world.now_s < until_s:
        await asyncio.sleep(chance.delay_s(8.0))
        await _mishap(world, agents, dead)
    return dead


async def _mishap(world: World, agents: list[Agent], dead: list[Agent]) -> None:
    chance = world.chance
    place = chance.between(0, len(world.nodes) - 1)
    names = [METADATA, *(node.name for node in world.nodes)]
    kinds = ["kill", "restart", "revive", "cut", "heal", "away", "back", "jump", "bounce", "die"]
    if chance.seed not in TOLD_SIMPLY:
        kinds += ["stand", "stand", "stand", "go on"]
    kind = chance.random.choice(kinds)
    world.note(f"{kind} {place}")
    if kind == "kill":
        world.nodes[place].kill()
    elif kind == "restart" or (kind == "revive" and not world.nodes[place].is_alive):
        world.restart(place)
    elif kind == "cut" and len(names) > 2:
        world.faults.cuts.add(frozenset(chance.random.sample(names, 2)))
    elif kind == "heal":
        world.faults.cuts.clear()
    elif kind in ("away", "back"):
        world.is_metadata_away = kind == "away"
    elif kind == "jump":
        chance.random.choice([world.clock, *(node.clock for node in world.nodes)]).jump()
    elif kind == "bounce":
        # The agent is restarted; its runs live on.
        agent = chance.random.choice(agents)
        if agent not in dead:
            await agent.stop()
            await asyncio.sleep(chance.delay_s(1.0))
            agent.start()
    elif kind == "stand":
        # All its trainers live and wait for each other, as in a collective operation that hangs.
        run_key = chance.random.choice(chance.random.choice(agents).run_keys)
        for agent in agents:
            if run_key in agent.writers:
                agent.standing[run_key] = None
    elif kind == "go on":
        agent = chance.random.choice(agents)
        agent.standing.clear()
    elif kind == "die" and len(dead) < len(agents) - 1:
        agent = chance.random.choice([one for one in agents if one not in dead])
        await agent.stop()
        dead.append(agent)


def _find_limit_s(world: World) -> float:
    """Returns when each dead run must be found once faults end: its timeout after the last takeover, and what that takes.

    Leases end, lists are renewed, all live runs are read anew; what was held back is delivered.
    """
    config = world.config
    takeover_s = 2 * config.lease_s + 2 * config.renew_interval_s + config.refresh_interval_s
    settle_s = 1.5 * config.beat_interval_max_s
    is_stall_asked = config.stall_timeout_s < FAULTY_S
    longest_s = max(*world.timeouts_s.values(), config.stall_timeout_s if is_stall_asked else 0.0)
    return longest_s + takeover_s + settle_s + config.lease_s + 10.0


async def _check(world: World, agents: list[Agent], dead: list[Agent]) -> None:
    assert not world.problems, "; ".join(world.problems)
    for run_key in world.crashes:
        holders = [agent for agent in agents if run_key in agent.writers]
        living = [agent for agent in holders if agent not in dead]
        state = await world.state(run_key)
        # What was on its way when the last agent died may still bring a crashed run back.
        arrived_s = max(agent.last_sent_s for agent in holders) + CALL_TIMEOUT_S + LATE_COPY_S
        after = [at_s for at_s in world.crashes[run_key] if at_s > arrived_s]
        if not living:
            assert state is RunState.CRASHED, f"I6: dead run {run_key} is {state.value}"
            # None, if it had been found dead before its last beats were heard, and these came to nobody's ears who could tell.
            assert len(after) <= 1, f"I6: dead run {run_key} was found {len(after)} times"
            continue
        assert state is RunState.RUNNING, f"I6: run {run_key} beats and is {state.value}"
        is_moving = any(run_key not in agent.standing for agent in living)
        is_flagged = await world.is_stalled(run_key)
        if world.config.stall_timeout_s < FAULTY_S:
            assert is_flagged is not is_moving, (
                f"run {run_key} {'makes steps' if is_moving else 'stands still'}, and is "
                f"{'flagged as stalled' if is_flagged else 'not flagged'}: {world.stall_flags.get(run_key)}"
            )


@pytest.mark.skipif(bool(SEED), reason="one seed is replayed")
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_drawn_scenarios(chunk: int) -> None:
    """Whatever dies, lies cut off, comes late or twice: no run whose beats are answered is called crashed, each dead one is."""
    for seed in range(chunk, SEEDS, CHUNKS):
        play(seed)


@pytest.mark.skipif(bool(SEED), reason="one seed is replayed")
@pytest.mark.parametrize("name", NAMED)
def test_named_scenarios(name: str) -> None:
    """What once failed holds now."""
    play(NAMED[name])


@pytest.mark.skipif(not SEED, reason="no seed to replay: make sim SEED=N")
def test_replay() -> None:
    """One seed, as the failure said."""
    play(int(SEED))


def test_a_seed_gives_one_trace() -> None:
    """The same seed, in processes with other hash seeds, gives the same trace."""
    digests = set()
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", "tests.simulation.test_monitor", "7"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        digests.add(done.stdout)
    assert len(digests) == 1


if __name__ == "__main__":
    told = play(int(sys.argv[1]))
    print(len(told.splitlines()), hashlib.sha256(told.encode()).hexdigest())
