"""Two replicas of the monitor that share runs, step by step in virtual time, without chance: what each promise says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from runyard_server.domain.beats import Beat
from runyard_server.domain.errors import Unavailable
from runyard_server.domain.run import RunDocument, RunKey, RunState
from runyard_server.monitor.config import MonitorConfig
from runyard_server.monitor.liveness import WHEEL_WIDTH_S
from runyard_server.monitor.service import MonitorService
from tests.simulation import loop
from tests.simulation.monitors import METADATA, Agent, World
from tests.simulation.world import EPOCH_UNIX_NS, Chance, adopt_tasks

RUNS = 20
UNKNOWN = RunKey(7)
CALLS_S = 0.5
"""The call of the last beat, and that of the verdict."""


def play(story: Callable[[World, list[RunKey]], Awaitable[None]]) -> None:
    """Plays a story in a world of two replicas that know each other, and runs that both have heard of."""

    async def tell() -> None:
        adopt_tasks(asyncio.get_running_loop())
        world = World(Chance(1), MonitorConfig(), replica_count=2)
        for node in world.nodes:
            node.start()
        run_keys = [await world.start_run(timeout_s=None) for _ in range(RUNS)]
        await asyncio.sleep(30.0)
        try:
            await story(world, run_keys)
        finally:
            for node in world.nodes:
                node.kill()
            await asyncio.sleep(1.0)

    loop.run(tell())


def services(world: World) -> tuple[MonitorService, MonitorService]:
    one, two = (node.service for node in world.nodes)
    return one, two


def beats(run_keys: list[RunKey], step: int) -> list[Beat]:
    return [Beat(key, 1, last_step=step) for key in run_keys]


def test_each_run_has_one_owner_and_any_replica_will_do() -> None:
    """A beat at either replica reaches the run's owner, what is unknown comes back, and either answers for all runs."""

    async def story(world: World, run_keys: list[RunKey]) -> None:
        one, two = services(world)
        assert set(one.table.run_keys).isdisjoint(two.table.run_keys)
        assert {*one.table.run_keys, *two.table.run_keys} == set(run_keys)
        assert min(len(one.table), len(two.table)) > 3
        for step, service in enumerate((one, two), 1):
            answer = await service.heartbeat("agent", beats([*run_keys, UNKNOWN], step))
            assert answer.unknown_run_keys == (UNKNOWN,)
            for asked in (one, two):
                paths = [f"local/p/r{number}" for number in range(1, RUNS + 1)]
                found = await asked.get_liveness(paths)
                assert [liveness.last_step for liveness in found] == [step] * RUNS
                [writer] = (await asked.list_writers(paths[0])).writers
                assert (writer.agent_id, writer.last_step) == ("agent", step)

    play(story)


def test_a_beat_for_an_owner_that_does_not_answer_is_kept() -> None:
    """The agent is answered and asked to beat soon; when the owner is back it hears of the beat, and of when it was."""

    async def story(world: World, run_keys: list[RunKey]) -> None:
        one, two = services(world)
        theirs = sorted(two.table.run_keys)
        world.faults.cuts.add(frozenset((world.nodes[0].name, world.nodes[1].name)))
        heard_s = world.now_s
        assert (await one.heartbeat("agent", beats(theirs, 9))).next_beat_s == 2.0
        await asyncio.sleep(5.0)
        assert one.passing.note_count == len(theirs)
        world.faults.cuts.clear()
        await asyncio.sleep(5.0)
        assert one.passing.note_count == 0
        for liveness in await two.get_liveness([f"local/p/r{n}" for n in range(1, RUNS + 1)]):
            if liveness.last_beat_unix_ns is not None:
                ago_s = (liveness.last_beat_unix_ns - EPOCH_UNIX_NS) / 1e9 - heard_s
                assert (liveness.last_step, round(ago_s, 1)) == (9, 0.0)

    play(story)


def test_a_replica_that_is_cut_off_says_so() -> None:
    """Once its lease may be over it speaks for no run: the agent is told to repeat, and the others have taken the runs over."""

    async def story(world: World, run_keys: list[RunKey]) -> None:
        one, two = services(world)
        name = world.nodes[0].name
        world.faults.cuts = {frozenset((name, METADATA)), frozenset((name, world.nodes[1].name))}
        await asyncio.sleep(world.config.lease_s + 5.0)
        with pytest.raises(Unavailable):
            await one.heartbeat("agent", beats(run_keys, 1))
        passed = await one.take_passed_on("monitor-3", beats(run_keys, 1), has_more=False)
        assert set(passed.refused_run_keys) == set(run_keys)
        assert set(two.table.run_keys) == set(run_keys)
        assert (await two.heartbeat("agent", beats(run_keys, 1))).unknown_run_keys == ()

    play(story)


def test_a_run_that_moves_takes_its_last_beats_along() -> None:
    """A replica that joins is handed what was known of the runs that are its own from then on."""

    async def story(world: World, run_keys: list[RunKey]) -> None:
        world.nodes[1].kill()
        await asyncio.sleep(3 * world.config.lease_s)
        one = world.nodes[0].service
        await one.heartbeat("agent", beats(run_keys, 5))
        world.restart(1)
        await asyncio.sleep(10.0)
        two = world.nodes[1].service
        assert len(two.table) > 3
        found = await two.get_liveness([f"local/p/r{n}" for n in range(1, RUNS + 1)])
        assert [liveness.last_step for liveness in found] == [5] * RUNS

    play(story)


def test_a_run_that_moves_while_metadata_is_asked_about_it_is_the_others() -> None:
    """Its beat goes to its new owner, and the replica that asked keeps nothing: it would hear of the run no more, and call it crashed."""

    async def story(world: World, run_keys: list[RunKey]) -> None:
        world.nodes[1].kill()
        await asyncio.sleep(3 * world.config.lease_s)
        one = world.nodes[0].service
        fresh = [await world.start_run(timeout_s=None) for _ in range(RUNS)]
        get_run, joining, joined = world.metadata.get_run, asyncio.Lock(), asyncio.Event()

        async def get_late(
            *, path: str | None = None, run_key: RunKey | None = None
        ) -> RunDocument:
            document = await get_run(path=path, run_key=run_key)
            async with joining:
                if not joined.is_set():
                    world.restart(1)
                    await world.nodes[1].service.membership.renew()
                    await one.membership.renew()
                    joined.set()
            return document

        world.metadata.get_run = get_late  # type: ignore[method-assign]  # the moment matters, not the answer
        assert set(one.table.run_keys).isdisjoint(fresh)
        await one.heartbeat("agent", beats(fresh, 3))
        assert joined.is_set()
        two = world.nodes[1].service
        theirs = {key for key in fresh if two.roster.owned([key], now_s=world.now_s)[0]}
        assert 3 < len(theirs) < RUNS - 3
        assert set(one.table.run_keys).isdisjoint(theirs)
        await asyncio.sleep(10.0)
        found = await two.get_liveness([world.path_of(key) for key in sorted(theirs)])
        assert [liveness.last_step for liveness in found] == [3] * len(theirs)

    play(story)


def test_writers_that_vanish_one_by_one_end_a_run_with_the_last() -> None:
    """While one beats the run lives, and each that fell silent is told of; after the last beat the verdict takes timeout + a sweep."""

    async def story(world: World, run_keys: list[RunKey]) -> None:
        run_key = run_keys[0]
        agents = [Agent(f"agent{n}", world, [run_key] if n == 0 else []) for n in range(5)]
        for agent in agents[1:]:
            await agent.join(run_key)
        for agent in agents:
            agent.start()
        await asyncio.sleep(30.0)
        timeout_s = world.timeouts_s[run_key]
        for agent in agents[:-1]:
            await agent.stop()
        await asyncio.sleep(2 * timeout_s)
        assert await world.state(run_key) is RunState.RUNNING
        assert sorted(world.lost_writers[run_key]) == [
            agent.writers[run_key] for agent in agents[:-1]
        ]
        await agents[-1].stop()
        last_s = world.heard_s[run_key][-1]
        await asyncio.sleep(2 * timeout_s)
        assert await world.state(run_key) is RunState.CRASHED
        [verdict_s] = world.crashes[run_key]
        sweep_s = world.config.sweep_interval_s
        assert timeout_s < verdict_s - last_s < timeout_s + sweep_s + WHEEL_WIDTH_S + CALLS_S
        assert not world.problems

    play(story)
